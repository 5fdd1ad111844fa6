"""Events as a bar on the terminal, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from jacgram.core.sizes import format_bytes
from jacgram.execute.events import Event, RunFinished, RunStarted, TileFailed, TileFinished, TileRetried
from jacgram.execute.select import rich_progress

if TYPE_CHECKING:
    from rich.progress import Progress


@final
class ProgressBar:
    """A listener that draws a bar with rate and time left; what ``progress=True`` stands for.

    Needs rich, which ``pip install 'jacgram[cli]'`` brings.

    Args:
        progress: a `rich.progress.Progress` to draw on; None for one of its own, on standard error.

    Example:
        >>> import jacgram
        >>> bar = jacgram.ProgressBar()
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress or rich_progress()
        self._task: Any = None
        self._bytes = 0

    def __call__(self, event: Event) -> None:
        """Draw what happened."""
        match event:
            case RunStarted(where, total, done):
                self._progress.start()
                self._task = self._progress.add_task(f"Writing {where}", total=total, completed=done, rate="")
                if done:
                    self._progress.console.print(f"resumed: {done} of {total} tiles are done")
            case TileFinished(n_bytes=n_bytes):
                self._bytes += n_bytes
                self._progress.update(self._task, advance=1, rate=self._rate())
            case TileRetried(tile, attempt, cause):
                self._progress.console.print(f"tile {tile} failed (attempt {attempt}) and is tried again: {cause}")
            case TileFailed(tile, cause):
                self._progress.console.print(f"tile {tile} failed for good: {cause}")
            case RunFinished():
                self._progress.stop()

    def _rate(self) -> str:
        [task] = [task for task in self._progress.tasks if task.id == self._task]
        elapsed = task.elapsed or 0.0
        return f"{format_bytes(int(self._bytes / elapsed))}/s" if elapsed > 0 else ""
