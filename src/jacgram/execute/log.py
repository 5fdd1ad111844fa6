"""Events as lines of JSON, for machines."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import final

from jacgram.execute.events import Event


@final
class JsonLog:
    """A listener that appends each event to a file, as one line of JSON with the time and the event's name.

    Args:
        path: the file; it is appended to, so that a resumed run goes on in the same log.

    Example:
        >>> import jacgram, jax.numpy as jnp, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> log = jacgram.JsonLog(f"{folder}/run.jsonl")
        >>> x, w = jnp.ones((4, 3)), jnp.ones((3, 2))
        >>> _ = jacgram.write_ntk(f"{folder}/kernel.zarr", lambda w, x: x @ w, x, params=w, progress=log)
        >>> [line.split('"')[3] for line in log.path.read_text().splitlines()]
        ['RunStarted', 'TileFinished', 'RunFinished']
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __call__(self, event: Event) -> None:
        """Append one line."""
        line = json.dumps({"event": type(event).__name__, "time": time.time()} | asdict(event))
        with self.path.open("a") as file:
            file.write(line + "\n")
