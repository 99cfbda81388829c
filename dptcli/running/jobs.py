"""Jobs in threads: some ahead of the one that is needed, and a failure that sinks no other."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePath
from typing import TypeVar

from dptcli.errors import DptError, ImageError, TooLargeError
from dptcli.inputs.decode import printable
from dptcli.records.report import Outcome
from dptcli.results.plan import Job

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


def ahead(
    pool: ThreadPoolExecutor,
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    limit: Callable[[], int],
) -> Iterator[Result]:
    """Map a function over jobs in order, in the pool's threads, at most `limit()` ahead."""
    waiting: deque[Future[Result]] = deque()
    for job in jobs:
        waiting.append(pool.submit(function, job))
        while len(waiting) >= limit():
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _names(reason: str, job: Job) -> bool:
    """Whether a reason names the image, or a file of its own."""
    own = [PurePath(str(path)).name for path in (job.source.name, *job.results)]
    return any(name in reason or printable(name) in reason for name in own if name)


def failure(job: Job, error: Exception, started: float) -> Outcome:
    """Say in one line why an image failed; the traceback of what we did not foresee is logged."""
    reason = str(error)
    if isinstance(error, MemoryError):
        logger.debug("%s failed", job.source.name, exc_info=error)
        reason = "memory ended; take a smaller --size or --target-size"
    elif not isinstance(error, DptError):
        logger.debug("%s failed", job.source.name, exc_info=error)
        reason = f"{type(error).__name__}: {(reason.splitlines() or [''])[0]}"
    names_image = isinstance(error, ImageError) and not isinstance(error, TooLargeError)
    # An ImageError of what goes with an image (its camera, its prompt) knows no name.
    if not (names_image and _names(reason, job)):
        reason = f"{job.source.name}: {reason}"
    return Outcome(job, reason, elapsed_s=time.perf_counter() - started)
