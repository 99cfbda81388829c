"""What was made of what: the record beside a folder's results, by which a later run goes on.

OUT/.dpt holds a file of JSON lines for each run. A run appends to its own alone, one write a line,
so that several runs, on several machines over a network disk too, share a folder without locks. A
line goes out when a result is whole and before it takes its place:

    {"file": "sub/d.png", "size": …, "mtime_ns": …, "hash": …, "task": "depth", "work": …,
     "source": "/photos/sub/d.jpg", "input": [size, mtime_ns, ctime_ns, hash]}
    {"file": "sub/e.png", "failed": "reason", "input": "sub/e.jpg", "source": …, "time_ns": …}

An image that the plan gave no file, because another's has that name, stands under "/" and its own.

A file is ours when any line describes it, by size and date or else by content; the order of lines
does not matter, and a line that a kill or a full disk tore is passed over.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dptcli.inputs.content import InputFacts, content_hash
from dptcli.inputs.decode import printable
from dptcli.inputs.find import ImageSource
from dptcli.records.report import Outcome
from dptcli.results.claims import judged_by
from dptcli.results.files import RUN_TOKEN, watching
from dptcli.results.plan import Job

logger = logging.getLogger(__name__)

FOLDER_NAME = ".dpt"

# A file that changed this shortly before it was read may change again within one tick of its
# date: such a date proves nothing.
_SETTLED_NS = 3_000_000_000

Prediction = TypeVar("Prediction")

Beside = Callable[[ImageSource], str]
"""Hashes what goes with an image and decides its result too."""


@dataclass(frozen=True, slots=True)
class Record:
    """One result as it was written, and what it was made of; source_facts: size, dates, hash."""

    size: int
    mtime_ns: int
    digest: str
    task: str
    work: str
    source: str
    source_facts: tuple[int, int, int, str]


class Ledger:
    """This run's part of a folder's record; every method may be called from any thread.

    task, work: what is done, and a hash of all that decides its result but the image. beside: gives
    a hash of what goes with an image and decides its result too, "" for nothing.
    """

    def __init__(self, folder: Path, *, task: str, work: str, beside: Beside | None = None) -> None:
        self.folder = folder
        self._task, self._work, self._beside = task, work, beside
        self._inputs: dict[ImageSource, InputFacts] = {}
        self._lock = threading.Lock()
        self._file: int | None = None
        self._torn = False
        self._path = folder / FOLDER_NAME / f"{host()}-{RUN_TOKEN}.jsonl"

    def __getstate__(self) -> tuple[Path, str, str, Beside | None]:
        return self.folder, self._task, self._work, self._beside

    def __setstate__(self, state: tuple[Path, str, str, Beside | None]) -> None:
        Ledger.__init__(self, state[0], task=state[1], work=state[2], beside=state[3])
        self.open()  # another process keeps a file of its own

    def open(self) -> bool:
        """Begin this run's file; False, with a warning, where that is not possible."""
        try:
            self._file = self._open()
        except OSError as error:
            logger.warning(
                "cannot keep a record of what is done in %s: %s; to go on after an interruption, "
                "--skip-existing will be needed",
                printable(self.folder),
                error.strerror,
            )
            return False
        return True

    def note_input(self, source: ImageSource, facts: InputFacts) -> None:
        """Take the state of an image that is being read."""
        self._inputs[source] = facts

    def recorded(
        self, save: Callable[[Job, Prediction], Mapping[str, object]]
    ) -> Callable[[Job, Prediction], Mapping[str, object]]:
        """Return `save` so that the files it writes are recorded."""

        def recording(job: Job, prediction: Prediction) -> Mapping[str, object]:
            facts = self._inputs.pop(job.source, None)
            if facts is None:
                return save(job, prediction)
            with (
                watching(lambda path, temporary: self._add(job, facts, path, temporary)),
                judged_by(lambda path: self._is_of(job.source, path)),
            ):
                return save(job, prediction)

        return recording

    def _is_of(self, source: ImageSource, path: Path) -> bool:
        """Whether a file is what some run made of this image."""
        try:
            records = read_records(self.folder).get(_key(path, self.folder), [])
            return any(
                same_source(record, source) or is_made_of(record, source)
                for record in describing(path, records)
            )
        except OSError:
            return False

    def done(self, outcome: Outcome) -> None:
        """Take note of a failure."""
        self._inputs.pop(outcome.job.source, None)
        if outcome.error is None:
            return
        source, path = outcome.job.source, outcome.job.path
        line = {
            "file": _refused(source) if path is None else _key(path, self.folder),
            "failed": outcome.error,
            "input": source.name,
            "source": _where(source),
            "time_ns": time.time_ns(),
        }
        with contextlib.suppress(OSError):  # the run's own report names it all the same
            self._append(line)

    def close(self) -> None:
        """Let go of the file; its lines stay."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _add(self, job: Job, facts: InputFacts, path: Path, temporary: Path) -> None:
        if path not in job.results:
            return
        with temporary.open("rb") as stream:
            digest = content_hash(stream)
            status = os.fstat(stream.fileno())
        settled = time.time_ns() - facts.mtime_ns > _SETTLED_NS
        source_facts = (facts.size, facts.mtime_ns if settled else 0, facts.ctime_ns, facts.digest)
        self._append(
            {
                "file": _key(path, self.folder),
                "size": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "hash": digest,
                "task": self._task,
                "work": work_of(job.source, self._work, self._beside),
                "source": _where(job.source),
                "input": source_facts,
            }
        )

    def add_joined(self, path: Path, temporary: Path) -> None:
        """Record a file that is made of results, so that a later run knows it for ours."""
        with temporary.open("rb") as stream:
            digest = content_hash(stream)
            status = os.fstat(stream.fileno())
        facts = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "hash": digest}
        about = {"task": self._task, "work": self._work, "source": "", "input": (0, 0, 0, "")}
        self._append({"file": _key(path, self.folder), **facts, **about})

    def _append(self, line: Mapping[str, Any]) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._file is None:
                return
            if self._is_lost():
                os.close(self._file)
                self._file = None
                self._file = self._open()
            if self._torn:
                data = b"\n" + data
            written = os.write(self._file, data)
            self._torn = written < len(data)
            if self._torn:  # what a full disk does first; the next write says so
                written += os.write(self._file, data[written:])
                self._torn = written < len(data)

    def _is_lost(self) -> bool:
        """Whether the folder was removed or moved under the run: results go to a new one then."""
        assert self._file is not None
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return True

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        file = os.open(self._path, flags, 0o644)
        try_lock(file)
        return file


# --- what earlier runs left ----------------------------------------------------------------------


def read_records(folder: Path) -> dict[str, list[Record]]:
    """Return {file below the folder: its records} of all runs."""
    records: dict[str, list[Record]] = {}
    for line in _lines(folder):
        try:
            size, mtime_ns, ctime_ns, digest = line["input"]
            record = Record(
                line["size"],
                line["mtime_ns"],
                line["hash"],
                line["task"],
                line["work"],
                line["source"],
                (size, mtime_ns, ctime_ns, digest),
            )
        except (KeyError, TypeError, ValueError):  # a failure
            continue
        records.setdefault(line["file"], []).append(record)
    return records


def work_of(source: ImageSource, work: str, beside: Beside | None) -> str:
    """The hash of all that decides an image's result but the image itself."""
    return " ".join(filter(None, (work, "" if beside is None else beside(source))))


def known_results(folder: Path) -> Callable[[Path], bool]:
    """Return what tells whether a file is a result of some run into the folder, as it was left."""
    records = read_records(folder)
    root = folder.resolve()

    def is_result(path: Path) -> bool:
        path = path.parent.resolve() / path.name
        if not path.is_relative_to(root):
            return False
        found = records.get(path.relative_to(root).as_posix())
        try:
            return found is not None and bool(describing(path, found))
        except OSError:
            return False

    return is_result


def describing(path: Path, records: Sequence[Record]) -> list[Record]:
    """Return the records that a file matches: by size and date, else by its content."""
    status = path.stat()
    fitting = [record for record in records if record.size == status.st_size]
    dated = [record for record in fitting if record.mtime_ns == status.st_mtime_ns]
    if dated or not fitting:
        return dated
    with path.open("rb") as stream:
        digest = content_hash(stream)
    return [record for record in fitting if record.digest == digest]


def is_made_of(record: Record, source: ImageSource) -> bool:
    """Whether a result's image is this one, as it is now: by size and dates, else by content.

    What lies at an address is taken to stay the same.
    """
    if source.path is None:
        return same_source(record, source)
    status = source.path.stat()
    size, mtime_ns, ctime_ns, digest = record.source_facts
    if status.st_size != size:
        return False
    dates = (status.st_mtime_ns, status.st_ctime_ns)
    if dates == (mtime_ns, ctime_ns) and record.source == _where(source):
        return True
    with source.path.open("rb") as stream:
        return content_hash(stream) == digest


def same_source(record: Record, source: ImageSource) -> bool:
    """Whether a result's image lay where this one lies."""
    return record.source == _where(source)


def failures(
    folder: Path, *, settled: Collection[Job] = (), since_ns: int = 0
) -> dict[str, tuple[str, str]]:
    """Return {file: (image, reason)} of what has failed last, in all runs.

    settled: what this run knows to have results. Images that failed before since_ns (time.time_ns)
    and are gone are left out.
    """
    last: dict[str, tuple[int, dict[str, Any]]] = {}
    made: dict[str, int] = {}  # what an image that was refused may have come to since
    for line in _lines(folder):
        at = line.get("time_ns", line.get("mtime_ns"))
        key = line.get("file")
        if isinstance(at, int) and isinstance(key, str):
            if at >= last.get(key, (0,))[0]:
                last[key] = (at, line if "failed" in line else {})
            if "failed" not in line:
                source = f"/{line.get('source')}"
                made[source] = max(at, made.get(source, 0))
    for job in settled:
        last.pop(_refused(job.source), None)
        if job.path is not None:
            last.pop(_key(job.path, folder), None)
    return {
        key: (line["input"], line["failed"])
        for key, (at, line) in last.items()
        if line
        and (at >= since_ns or _is_there(line.get("source") or ""))
        and at >= made.get(key, 0)
    }


def _is_there(source: str) -> bool:
    return "://" in source or os.path.lexists(source)


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of all runs that are whole."""
    seen: set[Path] = set()
    # Another run may merge what is still to be read into a file that was not there before.
    while paths := set((folder / FOLDER_NAME).glob("*.jsonl")) - seen:
        for path in sorted(paths):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
                yield from parsed(stream)
        seen |= paths


def parsed(stream: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the lines of one run that are whole."""
    for data in stream:
        try:
            line = json.loads(data)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line


def try_lock(file: int) -> bool:
    """Lock an open file for as long as this process keeps it open; False where another has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a disk without locks: then no run is ever taken to be over
        return False
    return True


def host() -> str:
    """Return this machine's name as a part of a file's."""
    return re.sub(r"[^\w.]+", "_", socket.gethostname()) or "host"


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _refused(source: ImageSource) -> str:
    """The key of an image without a file of its own; those of files never begin with a slash."""
    return f"/{_where(source)}"


def _where(source: ImageSource) -> str | None:
    if source.url is not None:  # what follows the ? may be a secret: it counts, but is not kept
        name = hashlib.blake2b(source.url.encode(errors="surrogateescape"), digest_size=8)
        return f"{source.name} {name.hexdigest()}"
    return None if source.path is None else os.path.abspath(source.path)  # noqa: PTH100
