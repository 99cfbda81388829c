"""A file that joins what a folder's runs wrote of each image, kept up by every run's end."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dptcli.errors import UsageError
from dptcli.remote.places import RemotePath

if TYPE_CHECKING:
    from dptcli.cli.predicting.outputs import Joint
    from dptcli.results.plan import Existing, Plan

_PATIENCE_S = 60.0


class Joined:
    """Such as OUT/coco.json, of all OUT/…/NAME.coco.json.

    What earlier runs and runs on other machines made of other images counts too, as the folder's
    record has it; in a store, which has no record, the images of this run alone.
    Raises UsageError where a file of that name is not ours, or cannot be written.
    """

    def __init__(self, plan: "Plan", joint: "Joint", *, existing: "Existing") -> None:
        if plan.folder is None:
            raise UsageError(f"{joint.option} is of a folder of results; name one, e.g. -o out/")
        self._folder = plan.folder
        self._joint = joint
        self._own = [
            path
            for job in (*plan.jobs, *plan.skipped)
            for path in job.results
            if path.name.endswith(joint.suffix)
        ]
        self._path = joint.path(plan.folder)
        from dptcli.results.disk import refuse_unwritable

        if joint.is_elsewhere:
            refuse_unwritable(self._path.parent)
        if existing != "overwrite" and self._path.exists() and not self._is_ours():
            raise UsageError(
                f"{str(self._path)!r} is not as dpt wrote it; move it away, or replace it with "
                "--overwrite"
            )

    def write(self) -> None:
        """Write it whole. Raises ImageError where the disk does not let it."""
        if isinstance(self._folder, RemotePath):
            self._write(self._own, _unnoted)
        elif self._own or self._path.exists():
            with _alone(self._folder):
                self._keep_up(self._folder)

    def _keep_up(self, folder: Path) -> None:
        from dptcli.records.ledger import Ledger

        ledger = Ledger(folder, task="segment", work="")
        ledger.open()
        note = _unnoted if self._joint.is_elsewhere else ledger.add_joined
        try:
            # Where a disk has no locks, another run may have joined its own since we looked.
            written = None
            for _ in range(5):
                if (found := self._found(folder)) == written:
                    break
                self._write([path for path, _ in found], note)
                written = found
        finally:
            ledger.close()

    def _found(self, folder: Path) -> list[tuple[Path, int]]:
        """Return what is there to join and its dates: this run's, else by the folder's record."""
        from dptcli.records.ledger import read_records

        recorded = (folder / name for name in read_records(folder))
        paths = {path for path in recorded if path.name.endswith(self._joint.suffix)}
        found = []
        for path in sorted(paths.union(self._own)):
            with contextlib.suppress(OSError):  # failed, or removed since
                found.append((path, path.stat().st_mtime_ns))
        return found

    def _write(self, files: Sequence[Path], note: Callable[[Path, Path], None]) -> None:
        from dptcli.results.files import watching
        from dptcli.results.writers import write_whole

        with watching(note):
            write_whole(self._path, lambda stream: self._joint.write(stream, files, self._folder))

    def _is_ours(self) -> bool:
        from dptcli.records.ledger import known_results

        if self._joint.is_elsewhere or isinstance(self._folder, RemotePath):
            return self._joint.is_ours(self._path)
        return known_results(self._folder)(self._path)


def _unnoted(_path: Path, _whole: Path) -> None:
    """Record nothing: a store has no record, and a folder's knows no file elsewhere."""


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
