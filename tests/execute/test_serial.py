"""Tiles in this process: in order, tried again, reported, and ended where nothing can be written."""

import pytest

from jacgram.errors import StoreError
from jacgram.execute import Serial
from jacgram.execute.events import TileFailed, TileFinished, TileRetried
from jacgram.execute.work import describe


class Planned:
    """Work that raises what it is told to: per tile, one item per attempt."""

    is_shared = True

    def __init__(self, troubles):
        self.troubles = {tile: list(errors) for tile, errors in troubles.items()}
        self.ran = []

    def open(self):
        return self

    def run(self, tile):
        self.ran.append(tile)
        if self.troubles.get(tile):
            raise self.troubles[tile].pop(0)

    def close(self):
        self.closed = True

    def outcome(self, tile):
        return TileFinished(tile, 1.0, 0.1, 8, 1, "here")


TILES = [(0, 0), (0, 1), (1, 1)]


def test_in_order():
    work, events = Planned({}), []
    assert Serial().run(work, TILES, events.append) == []
    assert work.ran == TILES and [event.tile for event in events] == TILES and work.closed


def test_tried_again():
    work, events = Planned({(0, 1): [ValueError("once\nand more")]}), []
    assert Serial().run(work, TILES, events.append) == []
    assert work.ran == [(0, 0), (0, 1), (0, 1), (1, 1)]
    assert events[1] == TileRetried((0, 1), 1, "ValueError: once")


def test_reported_while_the_others_go_on():
    work, events = Planned({(0, 1): [ValueError("a"), ValueError("b")]}), []
    [failure] = Serial().run(work, TILES, events.append)
    assert failure.tile == (0, 1) and str(failure.cause) == "b"
    assert events[2] == TileFailed((0, 1), "ValueError: b")
    assert work.ran[-1] == (1, 1)


def test_no_retries():
    work, events = Planned({(0, 1): [ValueError()]}), []
    assert len(Serial(retries=0).run(work, TILES, events.append)) == 1
    assert events[1] == TileFailed((0, 1), "ValueError")


@pytest.mark.parametrize("error", [StoreError("full"), KeyboardInterrupt()], ids=repr)
def test_what_ends_the_run(error):
    work = Planned({(0, 1): [error]})
    with pytest.raises(type(error)):
        Serial().run(work, TILES, lambda _: None)
    assert work.ran == [(0, 0), (0, 1)]


def test_errors_in_one_line():
    assert describe(ValueError(" a \n b")) == "ValueError: a"
