"""Signals that ask the program to end unwind it, so that files stay whole, and none is lost."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

SIGHUP = getattr(signal, "SIGHUP", signal.SIGTERM)

_AGAIN_S = 0.05


class Stopped(BaseException):
    """A signal asked the process to end; like KeyboardInterrupt, no `except Exception` holds it."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise Stopped in the main thread, as Ctrl-C raises KeyboardInterrupt.

    Python drops what is raised while an object is being removed (`__del__`, callbacks of weak
    references), which libraries do at every step; there the signal comes once more.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(number)

    def dropped(exception: "sys.UnraisableHookArgs") -> None:
        if isinstance(exception.exc_value, KeyboardInterrupt):
            _send_again(signal.SIGINT)
        elif isinstance(exception.exc_value, Stopped):
            _send_again(exception.exc_value.signal_number)
        else:
            on_dropped(exception)

    # One that the caller ignores (nohup) stays ignored.
    wanted = [s for s in {signal.SIGTERM, SIGHUP} if signal.getsignal(s) is signal.SIG_DFL]
    for number in wanted:
        signal.signal(number, stop)
    on_dropped, sys.unraisablehook = sys.unraisablehook, dropped
    try:
        yield
    finally:
        sys.unraisablehook = on_dropped
        for number in wanted:
            signal.signal(number, signal.SIG_DFL)


def _send_again(number: int) -> None:
    """From another thread, so that it comes when the main one is elsewhere."""
    main = threading.main_thread().ident
    assert main is not None
    if hasattr(signal, "pthread_kill"):
        timer = threading.Timer(_AGAIN_S, signal.pthread_kill, (main, number))
    else:  # Windows
        timer = threading.Timer(_AGAIN_S, signal.raise_signal, (number,))
    timer.daemon = True
    timer.start()
