"""Standard streams that are closed or full, and a current folder that is gone."""

import contextlib
import errno
import os
import sys

from dptcli.errors import UsageError


def open_missing() -> None:
    """Give each closed standard stream (`2>&-`) a place, before a result gets its number.

    What is said on a closed standard error is lost, as asked; reading and writing the other two
    fails by name where a run needs them.
    """
    # By number: the lowest free one is the one that was closed.
    for number, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            stream = os.fdopen(number, mode, encoding="utf-8", errors="replace", closefd=False)
            setattr(sys, name, stream)


def refuse_lost_folder() -> None:
    """Raise UsageError where the current folder was deleted: libraries end the process there."""
    try:
        os.getcwd()  # noqa: PTH109 (pathlib costs 10 ms of every start)
    except OSError as error:
        raise UsageError(
            f"the current folder cannot be read ({error.strerror}); it may have been deleted: "
            "change into one that exists"
        ) from None


def failed_output() -> OSError | None:
    """Return why what was written to standard output did not arrive; it is closed for good then."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # else the end of the process says it again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.stdout.flush()
        return error
    except ValueError:  # closed by whoever called
        return None
    return None


def is_of_stream(error: OSError) -> bool:
    """Whether a write to an open stream failed: what fails at a path names it.

    A result's own failure never comes here, it is its image's.
    """
    reasons = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.EBADF}
    return error.filename is None and error.errno in reasons


def is_reader_gone(error: OSError) -> bool:
    """Whether a pipe's other end has ended, as `head` does."""
    return error.errno == errno.EPIPE
