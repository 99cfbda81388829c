"""Folders that fill: which of their pictures are whole, by looking at them again and again.

Events of a file system (inotify and the like) stay away on network disks, so it is looks alone.
Dates are compared with each other and not with this machine's clock, which may go otherwise.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dptcli.inputs.find import ImageSource

# A copy over a network may stand still for a while: an image that cannot be read, and came to be
# no longer ago than this, is tried once more when it has not changed for so long.
PATIENCE_S = 20.0
# So long ago that no writer is at work on it, whichever of the two clocks is wrong.
_OLD_S = 3600.0

State = tuple[int, int]  # bytes, date of change in ns


@dataclass
class _Doubt:
    state: State
    until_s: float


class Growing:
    """Gives each image once it is whole, and again when it has changed.

    find: returns the images that are there now. patience_s: as PATIENCE_S.
    """

    def __init__(
        self, find: Callable[[], Sequence[ImageSource]], *, patience_s: float = PATIENCE_S
    ) -> None:
        self._find = find
        self._patience_s = patience_s
        self._seen: dict[Path, State] = {}  # at the last look
        self._given: dict[Path, State] = {}
        self._doubts: dict[Path, _Doubt] = {}

    def look(self) -> list[ImageSource]:
        """The images that are as they were at the last look, hold something, and were not given.

        Raises UsageError where a folder cannot be listed; what was seen stays known.
        """
        now: dict[Path, State] = {}
        whole = []
        for source in self._find():
            path = source.path
            if path is None:
                continue
            try:
                status = path.stat()
            except OSError:  # gone again
                continue
            state = now[path] = (status.st_size, status.st_mtime_ns)
            is_still = status.st_size > 0 and self._seen.get(path) == state
            if is_still and self._given.get(path) != state and not self._is_doubted(path, state):
                self._given[path] = state
                whole.append(source)
        self._seen = now
        for known in (self._given, self._doubts):
            for path in known.keys() - now.keys():
                known.pop(path)
        return whole

    @property
    def num_waiting(self) -> int:
        """Images that were there at the last look and are not whole yet."""
        return sum(self._given.get(path) != state for path, state in self._seen.items())

    def doubt(self, source: ImageSource) -> bool:
        """Whether an image that could not be read may still be under way: it is given once more."""
        path = source.path
        if path is None or (state := self._given.get(path)) is None:
            return False
        known = self._doubts.get(path)
        is_old = abs(time.time() - state[1] / 1e9) > _OLD_S
        if is_old or (known is not None and known.state == state):
            return False
        self._doubts[path] = _Doubt(state, time.monotonic() + self._patience_s)
        del self._given[path]
        return True

    def _is_doubted(self, path: Path, state: State) -> bool:
        known = self._doubts.get(path)
        return known is not None and known.state == state and time.monotonic() < known.until_s
