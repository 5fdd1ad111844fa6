"""A run in one table."""

from jacgram.execute.events import RunFinished, RunStarted, TileFailed, TileFinished, TileRetried
from jacgram.report.summary import Summary


def test_nothing_yet():
    assert str(Summary()) == "run                 not started"


def test_a_run_that_had_nothing_to_do():
    summary = Summary()
    summary(RunStarted("k.zarr", 3, 3, "Serial"))
    summary(RunFinished(3, 3, 0, 0.1))
    assert str(summary) == "k.zarr              3 of 3 tiles, 3 before this run, 0 in it"


def test_what_failed_is_named():
    summary = Summary()
    summary(RunStarted("k.zarr", 3, 1, "Dask"))
    summary(TileFinished((0, 1), 2.0, 0.5, 4 << 20, 3 << 30, "a:1"))
    summary(TileRetried((1, 1), 1, "ValueError: x"))
    summary(TileFailed((1, 1), "ValueError: y"))
    summary(RunFinished(3, 2, 1, 4.0))
    assert str(summary).splitlines() == [
        "k.zarr              2 of 3 tiles, 1 before this run, 1 in it",
        "time                4 s with Dask; per tile 2 s, of which 0.5 s writing",
        "written             4 MiB, 1 MiB/s",
        "workers             1, peak 3 GiB",
        "tried again         1 times, last ValueError: x",
        "failed (1, 1)       ValueError: y",
    ]
