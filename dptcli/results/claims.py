"""A result never takes the place of another image's, whatever other processes do meanwhile.

The plan looks once, before the work; runs side by side into one folder (`xargs -P`, arrays of jobs)
all see it empty. So a name that was free is taken in one step, when the result is put there.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

from dptcli.errors import ImageError
from dptcli.remote.places import RemotePath
from dptcli.results.files import place_new, place_over, placing
from dptcli.results.plan import Job

_same_image: ContextVar[Callable[[Path], bool] | None] = ContextVar("same_image", default=None)


@contextlib.contextmanager
def judged_by(is_of_same_image: Callable[[Path], bool]) -> Iterator[None]:
    """Let this say of a file that came meanwhile whether it is the same image's result.

    Then it is replaced: two runs may share a list of images.
    """
    before = _same_image.set(is_of_same_image)
    try:
        yield
    finally:
        _same_image.reset(before)


@contextlib.contextmanager
def claiming(job: Job) -> Iterator[None]:
    """In the block, put this job's results only where the plan found room or may replace.

    Raises ImageError, in place of writing, for a name that another run has taken since.
    """
    replaces = job.replaces
    if replaces is None:
        yield
        return
    claimed = frozenset(job.results) - replaces

    def place(temporary: Path, path: Path) -> None:
        if path not in claimed:
            place_over(temporary, path)
            return
        try:
            place_new(temporary, path)
        except FileExistsError:
            if isinstance(path, RemotePath):
                # No record says whose it is. An answer that was lost makes us meet our own.
                if path.read_bytes() == temporary.read_bytes():
                    return
                judge = None
            else:
                judge = _same_image.get()
            if judge is None or not judge(path):
                raise ImageError(
                    f"{str(path)!r} was written by another run meanwhile, for another image; give "
                    "runs side by side folders of their own, or --root DIR to tell their images "
                    "apart"
                ) from None
            place_over(temporary, path)

    with placing(place):
        yield
