"""One file that joins what a folder's runs wrote of each image, kept up by every run's end."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dptcli.errors import UsageError
from dptcli.remote.places import RemotePath

if TYPE_CHECKING:
    from dptcli.results.plan import Existing, Plan

logger = logging.getLogger(__name__)

_PATIENCE_S = 60.0


class Joined:
    """OUT/coco.json, of all OUT/…/NAME.coco.json.

    What earlier runs and runs on other machines made of other images counts too, as the folder's
    record has it; in a store, which has no record, the images of this run alone.
    Raises UsageError where a file of that name is not ours.
    """

    def __init__(self, plan: "Plan", suffix: str, *, existing: "Existing") -> None:
        if plan.folder is None:
            raise UsageError("--dataset is of a folder of results; name one, e.g. -o masks/")
        self._folder = plan.folder
        self._suffix = suffix
        self._own = [
            path
            for job in (*plan.jobs, *plan.skipped)
            for path in job.results
            if path.name.endswith(suffix)
        ]
        self._path = plan.folder / suffix.removeprefix(".")
        if existing != "overwrite" and self._path.exists() and not self._is_ours():
            raise UsageError(
                f"{str(self._path)!r} is not as dpt wrote it; move it away, or replace it with "
                "--overwrite"
            )

    def write(self) -> None:
        """Write it whole. Raises ImageError where the disk does not let it."""
        if isinstance(self._folder, RemotePath):
            self._write(self._own, lambda _path, _whole: None)
        elif self._own or self._path.exists():
            with _alone(self._folder):
                self._keep_up(self._folder)

    def _keep_up(self, folder: Path) -> None:
        from dptcli.records.ledger import Ledger

        ledger = Ledger(folder, task="segment", work="")
        ledger.open()
        try:
            # Where a disk has no locks, another run may have joined its own since we looked.
            written = None
            for _ in range(5):
                if (found := self._found(folder)) == written:
                    break
                self._write([path for path, _ in found], ledger.add_joined)
                written = found
        finally:
            ledger.close()

    def _found(self, folder: Path) -> list[tuple[Path, int]]:
        """Return what is there to join and its dates: this run's, else by the folder's record."""
        from dptcli.records.ledger import read_records

        recorded = (folder / name for name in read_records(folder))
        paths = {path for path in recorded if path.name.endswith(self._suffix)}
        found = []
        for path in sorted(paths.union(self._own)):
            with contextlib.suppress(OSError):  # failed, or removed since
                found.append((path, path.stat().st_mtime_ns))
        return found

    def _write(self, files: Sequence[Path], note: Callable[[Path, Path], None]) -> None:
        from dptcli.results.files import watching
        from dptcli.results.writers import write_whole
        from dptcli.segments.dataset import write_dataset

        num_left_out = 0

        def write(stream: BinaryIO) -> None:
            nonlocal num_left_out
            num_left_out = write_dataset(stream, files)

        with watching(note):
            write_whole(self._path, write)
        if num_left_out:
            logger.warning(
                "%s leaves out %d files: gone, with other classes, or a photograph's second",
                self._path,
                num_left_out,
            )

    def _is_ours(self) -> bool:
        from dptcli.records.ledger import known_results
        from dptcli.segments.dataset import is_ours

        if isinstance(self._folder, RemotePath):
            return is_ours(self._path)
        return known_results(self._folder)(self._path)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one run at a time do this, where the disk has locks and no run stands still in it."""
    from dptcli.records.ledger import FOLDER_NAME

    with contextlib.suppress(OSError):
        (folder / FOLDER_NAME).mkdir(parents=True, exist_ok=True)
    try:
        file = os.open(folder / FOLDER_NAME / "joining", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:  # said with the record, which cannot be kept either
        yield
        return
    try:
        _lock(file)
        yield
    finally:
        os.close(file)


def _lock(file: int) -> None:
    """Wait for a lock, not for ever; what has none is not waited for."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:
            return
        else:
            return
