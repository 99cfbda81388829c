"""Where the library's log goes: standard error, under the program's name."""

import logging
import os

from dptcli.cli.terminal.console import say


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever sys.stderr is at the time: a progress bar puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def set_up_logging(*, verbose: bool, quiet: bool) -> None:
    """Let the library's log through: warnings, errors alone where quiet, every step if verbose."""
    if quiet:  # the hub's client reads this once, when it is imported
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    package = logging.getLogger("dptcli")
    package.setLevel(logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING)
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("dpt: %(message)s"))
    package.handlers = [handler]
    package.propagate = False
