"""An interrupt that is lost comes again at the next event."""

import signal
from contextlib import suppress

import pytest

from jacgram.cli.interrupts import Interrupts
from jacgram.execute.events import RunFinished, RunStarted

STARTED, FINISHED = RunStarted("k.zarr", 3, 0, "serially"), RunFinished(3, 1, 0, 0.1)


def test_an_interrupt_is_raised_at_once():
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_lost_interrupt_is_raised_at_the_next_event():
    with Interrupts() as interrupts:
        interrupts(STARTED)
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        interrupts(FINISHED)  # it ends already
        with pytest.raises(KeyboardInterrupt):
            interrupts(STARTED)


def test_what_listened_before_does_so_again():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
