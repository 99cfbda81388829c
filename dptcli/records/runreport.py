"""A run as a JSON file: options, versions, machine, every image's outcome and the totals.

    {"schema": "dpt-report/1", "status": "done" | "some failed" | "interrupted" | "error",
     "started": …, "finished": …, "elapsed_s": …, "stage_s": {…},
     "totals": {"images", "done", "skipped", "failed", "not_reached", "left_out"},
     "runs": [{"command", "options", "shard", "model", "versions", "machine", … as above}],
     "images": [{"input", "output", "status", "at", "elapsed_s", …}]}

A report of one run and one merged of many have the same form; `runs` has an entry for each run.
"""

import contextlib
import datetime
import importlib.metadata
import io
import json
import math
import os
import platform
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from dptcli import __version__
from dptcli.errors import ImageError, ModelError, UsageError
from dptcli.inputs.search import LeftOut
from dptcli.records.report import Clock, Outcome
from dptcli.remote import is_address, shown
from dptcli.remote.places import RemotePath
from dptcli.results.disk import refuse_unwritable
from dptcli.results.files import atomic_path
from dptcli.results.plan import Job, Plan
from dptcli.running.machine import processor_name, usable_cores

SCHEMA = "dpt-report/1"

# What an image's status may be, the one that counts last where runs differ.
STATUSES = ("left_out", "not_reached", "skipped", "failed", "done")


class RunReport:
    """Gathers a run's account and writes it when the `with` block ends, however it ends.

    Images wait in a temporary file, so that memory does not grow with their number. Nothing is
    written where the run never began (a UsageError).
    """

    def __init__(self, path: Path, *, command: str, options: Mapping[str, Any], shard: str | None):
        self.path = path
        self.clock: Clock | None = None
        self._about: dict[str, Any] = {
            "command": command,
            "options": {key: _masked(value) for key, value in options.items() if value is not None},
            "shard": shard,
            "model": None,
        }
        self._counts = dict.fromkeys(STATUSES, 0)
        self._jobs: Sequence[Job] = ()
        self._started = _now()
        self._trouble: OSError | None = None
        self._lock = threading.Lock()
        refuse_unwritable(path.parent)
        refuse_foreign(path, option="--report")

    def __enter__(self) -> "RunReport":
        try:
            self._images: IO[bytes] = tempfile.TemporaryFile()
        except OSError as error:
            raise UsageError(
                f"--report has no place for its notes: {error.strerror or error}; set TMPDIR"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.closing(self):
            if isinstance(error, UsageError) or (
                isinstance(error, ModelError) and self.clock is None
            ):
                return
            status = "some failed" if self._counts["failed"] else "done"
            if isinstance(error, Exception):
                self._about["error"] = f"{type(error).__name__}: {error}"
                status = "error"
            elif error is not None:
                status = "interrupted"
            try:
                if self._trouble is not None:
                    raise self._trouble
                self._write(status)
            except OSError as trouble:
                if error is None:
                    raise ImageError(
                        f"cannot write the report {str(self.path)!r}: {trouble.strerror}; the "
                        "results are written"
                    ) from trouble

    def close(self) -> None:
        """Let go of the notes; closing writes what waits, which a full disk refuses."""
        with contextlib.suppress(OSError):
            self._images.close()

    def planned(self, plan: Plan) -> None:
        """Take the number of images, and those whose results are there already."""
        for job in (*plan.jobs, *plan.skipped):
            if any(_same_file(path, self.path) for path in job.results):
                raise UsageError(
                    f"--report {str(self.path)!r} is a result of {job.source.name!r}; "
                    "name another file"
                )
        self._jobs = plan.jobs
        for job in plan.skipped:
            self._add(job, "skipped", {})

    def left_out(self, left_out: LeftOut) -> None:
        """Take the pictures that are not worked on, and the folders that could not be listed."""
        for path, reason in left_out.pictures:
            self._note(path, None, "left_out", {"reason": reason})
        for path, reason in left_out.folders:
            self._note(path, None, "failed", {"error": reason})

    def loaded(self, model: Mapping[str, Any], clock: Clock) -> None:
        """Take which model does the work, and where; and the clock of its stages."""
        self._about["model"] = dict(model)
        self.clock = clock

    def done(self, outcome: Outcome) -> None:
        """Take one image's outcome."""
        facts: dict[str, Any] = {"elapsed_s": round(outcome.elapsed_s, 4)}
        if outcome.error is not None:
            facts["error"] = outcome.error
        for name in ("notes", "colmap"):
            if outcome.facts.get(name):
                facts[name] = outcome.facts[name]
        if outcome.output_hw is not None:
            facts["height"], facts["width"] = outcome.output_hw
        self._add(outcome.job, "done" if outcome.error is None else "failed", facts)

    def _add(self, job: Job, status: str, facts: Mapping[str, Any]) -> None:
        self._note(job.source.given, _output(job), status, facts)

    def _note(self, given: str, output: str | None, status: str, facts: Mapping[str, Any]) -> None:
        line = {
            "input": given,
            "output": output,
            "status": status,
            "at": _now().isoformat(timespec="milliseconds"),
            **facts,
        }
        with self._lock:
            self._counts[status] += 1
            try:
                self._images.write(_json(line).encode() + b"\n")
            except OSError as error:  # said at the end: the images matter more
                self._trouble = error

    def _add_unreached(self) -> None:
        """Name the images that an interrupted run did not come to.

        The notes alone say which those are: a signal may come between a note and its count.
        """
        self._images.seek(0)
        self._counts = dict.fromkeys(STATUSES, 0)
        reached = set()
        for line in map(json.loads, self._images):
            reached.add((line["input"], line["output"]))
            self._counts[line["status"]] += 1
        for job in self._jobs:
            if (job.source.given, _output(job)) not in reached:
                self._add(job, "not_reached", {})

    def _write(self, status: str) -> None:
        finished = _now()
        if status not in ("done", "some failed"):
            self._add_unreached()
        account = {
            "status": status,
            "started": self._started.isoformat(timespec="milliseconds"),
            "finished": finished.isoformat(timespec="milliseconds"),
            "elapsed_s": round((finished - self._started).total_seconds(), 3),
            "totals": _totals(self._counts),
            "stage_s": _rounded(self.clock.seconds if self.clock is not None else {}),
        }
        run = {**self._about, "versions": versions(), "machine": machine(), **account}
        self._images.seek(0)
        write_report(self.path, {"schema": SCHEMA, **account, "runs": [run]}, self._images)


def write_report(path: Path, head: Mapping[str, Any], images: IO[bytes]) -> None:
    """Write a report whose images come as JSON lines; whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(json.dumps(head, indent=1, default=str).encode().removesuffix(b"\n}"))
        stream.write(b',\n "images": [')
        first = images.readline().rstrip(b"\n")
        stream.write(b"\n  " + first if first else b"")
        for line in images:
            stream.write(b",\n  " + line.rstrip(b"\n"))
        stream.write(b"\n ]\n}\n")


def read_report(path: Path) -> dict[str, Any]:
    """Read a report. Raises UsageError where it is none."""
    try:
        report = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(
            f"{str(path)!r} is not JSON ({error}); name reports of --report"
        ) from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise UsageError(f"{str(path)!r} is no report of this version of dpt, {SCHEMA}")
    return report


def merge(paths: Sequence[Path], *, keep_latest: bool = False) -> dict[str, Any]:
    """Join reports of parts of a job to one of the same form, each image once.

    An image that one run did and others skipped or failed at counts as done: merging the reports of
    an interrupted run and of the one that went on gives the whole. Raises UsageError for
    one that two runs did, which is work done twice, unless keep_latest takes the later.
    """
    images: dict[tuple[str, str | None], tuple[Path, dict[str, Any]]] = {}
    reports = [read_report(path) for path in paths]
    for path, report in zip(paths, reports, strict=True):
        for image in report["images"]:
            key = (image["input"], image["output"])
            if key not in images:
                images[key] = (path, image)
                continue
            other_path, other = images[key]
            if image["status"] == other["status"] == "done" and not keep_latest:
                raise UsageError(
                    f"{image['input']!r} was done in {str(other_path)!r} and in {str(path)!r}; "
                    "leave one report out, or add --keep-latest"
                )
            images[key] = max((other_path, other), (path, image), key=lambda item: _rank(item[1]))
    kept = [image for _, image in images.values()]
    taken = {image["input"] for image in kept if image["status"] != "left_out"}
    kept = [item for item in kept if item["status"] != "left_out" or item["input"] not in taken]
    counts = dict.fromkeys(STATUSES, 0)
    for image in kept:
        counts[image["status"]] += 1
    runs = [run for report in reports for run in report["runs"]]
    stage_s: dict[str, float] = {}
    for report in reports:
        for stage, spent in report["stage_s"].items():
            stage_s[stage] = stage_s.get(stage, 0.0) + spent
    return {
        "schema": SCHEMA,
        "status": _status(counts, runs),
        "started": min(report["started"] for report in reports),
        "finished": max(report["finished"] for report in reports),
        "elapsed_s": round(sum(report["elapsed_s"] for report in reports), 3),
        "totals": _totals(counts),
        "stage_s": _rounded(stage_s),
        "runs": runs,
        "images": kept,
    }


def _output(job: Job) -> str | None:
    return None if job.path is None else str(job.path)


def _status(counts: Mapping[str, int], runs: Sequence[Mapping[str, Any]]) -> str:
    if counts["not_reached"]:
        return "error" if any(run["status"] == "error" for run in runs) else "interrupted"
    return "some failed" if counts["failed"] else "done"


def _totals(counts: Mapping[str, int]) -> dict[str, int]:
    images = sum(counts.values()) - counts["left_out"]
    return {"images": images, **{name: counts[name] for name in reversed(STATUSES)}}


def _rank(image: Mapping[str, Any]) -> tuple[int, str]:
    return STATUSES.index(image["status"]), image["at"]


def versions() -> dict[str, str]:
    """Return the versions of dpt and of what it stands on, without importing any of it."""
    found = {"dpt": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "pillow"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _masked(value: Any) -> Any:
    """Return an option's value without the secrets that addresses may hold."""
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    return shown(value) if is_address(value) else value


def machine() -> dict[str, Any]:
    """Describe this machine: name, system, processor, usable cores, memory in bytes."""
    memory = None
    with contextlib.suppress(AttributeError, ValueError, OSError):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "processor": processor_name(),
        "cores": usable_cores(),
        "memory_bytes": memory,
    }


def _same_file(one: Path, other: Path) -> bool:
    if one == other or one.name != other.name:
        return one == other
    # An address has no place on this machine.
    paths = [path for path in (one, other) if not isinstance(path, RemotePath)]
    return len(paths) == 2 and os.path.abspath(one) == os.path.abspath(other)  # noqa: PTH100


def refuse_foreign(path: Path, *, option: str) -> None:
    """A report may replace a report and nothing else: --report photo.jpg is a slip."""
    if not (path.exists() or path.is_symlink()):
        return
    try:
        with path.open("rb") if path.is_file() else io.BytesIO() as stream:
            is_ours = b'"dpt-report/' in stream.read(200)
    except OSError:
        is_ours = False
    if not is_ours:
        raise UsageError(f"{option} {str(path)!r} exists and is no report; name another file")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(spent, 4) for stage, spent in seconds.items()}


def _json(line: Mapping[str, Any]) -> str:
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in line.items()
    }
    return json.dumps(finite, default=str)
