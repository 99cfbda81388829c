"""A signal ends the program wherever it comes, also where Python drops what is raised."""

import signal
import time

import pytest

from dptcli.cli.terminal.signals import Stopped, signals_raise


class Resource:
    """Its removal takes a while, and a signal comes in the middle."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


def remove_and_wait(resource):
    with signals_raise():
        del resource
        time.sleep(20)


@pytest.mark.parametrize(
    ("number", "raised"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, Stopped),
        (signal.SIGHUP, Stopped),
    ],
)
def test_a_signal_that_comes_while_an_object_is_removed_is_not_lost(number, raised):
    before = signal.signal(number, signal.default_int_handler)
    try:
        if raised is Stopped:
            signal.signal(number, signal.SIG_DFL)
        started = time.monotonic()
        with pytest.raises(raised) as caught:
            remove_and_wait(Resource(number))
        assert time.monotonic() - started < 10
        assert getattr(caught.value, "signal_number", number) == number
    finally:
        signal.signal(number, before)


def test_other_exceptions_that_python_drops_are_shown_as_before(monkeypatch):
    seen = []
    monkeypatch.setattr("sys.unraisablehook", lambda dropped: seen.append(dropped.exc_type))

    class Broken:
        def __del__(self):
            raise ValueError

    with signals_raise():
        broken = Broken()
        del broken
    assert seen == [ValueError]
