"""Events, and those who listen."""

import io
import json

import pytest

from jacgram.errors import ArgumentError
from jacgram.execute import JsonLog, ProgressBar
from jacgram.execute.events import (
    RunFinished,
    RunStarted,
    TileFailed,
    TileFinished,
    TileRetried,
    broadcast,
    listeners_of,
)

RUN = [
    RunStarted("kernel.zarr", 3, 1, "Serial"),
    TileFinished((0, 1), 0.5, 0.1, 1 << 20, 1 << 30, "here:1"),
    TileRetried((1, 1), 1, "ValueError: x"),
    TileFailed((1, 1), "ValueError: x"),
    RunFinished(3, 2, 1, 2.0),
]


def test_everyone_is_told():
    first, second = [], []
    tell = broadcast([first.append, second.append])
    for event in RUN:
        tell(event)
    assert first == second == RUN


def test_what_progress_stands_for():
    listener = [].append
    assert listeners_of(None, lambda: listener) == listeners_of(False, lambda: listener) == []
    assert listeners_of(True, lambda: listener) == listeners_of(listener, None) == [listener]
    assert listeners_of((listener, print), None) == [listener, print]


@pytest.mark.parametrize("wrong", [3, "yes", [None], JsonLog], ids=repr)
def test_what_is_no_listener(wrong):
    with pytest.raises(ArgumentError, match="progress must be None, True, or listeners"):
        listeners_of(wrong, None)


def test_a_log_goes_on_where_it_was(tmp_path):
    for _ in range(2):
        log = JsonLog(tmp_path / "run.jsonl")
        for event in RUN:
            log(event)
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [line["event"] for line in lines] == [type(event).__name__ for event in RUN] * 2
    assert lines[1]["tile"] == [0, 1] and lines[1]["n_bytes"] == 1 << 20 and lines[1]["time"] > 1e9


def test_a_bar_shows_what_is_done_and_what_failed():
    pytest.importorskip("rich")
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    shown = io.StringIO()
    console = Console(file=shown, width=100)
    bar = ProgressBar(Progress(BarColumn(), MofNCompleteColumn(), console=console))
    for event in RUN:
        bar(event)
    text = shown.getvalue()
    assert "resumed: 1 of 3 tiles are done" in text and "2/3" in text
    assert "tile (1, 1) failed (attempt 1) and is tried again: ValueError: x" in text
    assert "tile (1, 1) failed for good: ValueError: x" in text


def test_the_default_bar(capsys):
    pytest.importorskip("rich")
    bar = ProgressBar()
    for event in RUN:
        bar(event)
    assert capsys.readouterr().out == "", "results go to standard output, progress does not"
