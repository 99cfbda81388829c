"""What is said on the terminal: lines in one piece, bars, a line of what is under way."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def say(line: str, *, file: TextIO | None = None) -> None:
    """Write a line, to standard error by default, in one piece.

    print() writes the end of the line by itself, and a signal may come between.
    """
    if file is not None:
        file.write(f"{line}\n")
        file.flush()
        return
    with contextlib.suppress(OSError):  # a full disk under a log costs no result
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def stderr_console() -> "Console":
    """Return rich's view of standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@contextmanager
def progress_line(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A line on a terminal that says what is under way; the block gets its setter."""
    console = stderr_console()
    if quiet or not console.is_terminal:
        yield lambda _text: None
        return
    with console.status("starting") as status:
        yield status.update


def progress_bar(*, unit: str = "images") -> "Progress":
    """Return a bar on stderr with the count, the rate and the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.2f} {unit}/s" if speed else "")

    return Progress(
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=stderr_console(),
        expand=True,
    )
