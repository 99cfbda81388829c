"""Which results of earlier runs stand, which are done again, and which no run may replace."""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn, TypeVar

from dptcli.errors import UsageError
from dptcli.inputs.find import ImageSource
from dptcli.records.ledger import Record, describing, is_made_of, read_records, same_source
from dptcli.results.plan import Job, refuse_existing

Item = TypeVar("Item")
Result = TypeVar("Result")

# Few enough to keep threads busy, many enough that handing them out costs nothing.
_CHUNK = 64


def settle(
    present: Sequence[Job],
    jobs: Sequence[Job],
    *,
    folder: Path,
    task: str,
    work: Callable[[ImageSource], str],
    whole: bool = False,
) -> Sequence[Job]:
    """Return those of the jobs with files whose results stand; the others are done again.

    A result stands when it is as a run left it, made by this `work` of an image that has not
    changed. work: returns the hash of all that decides an image's result but the image; asked for
    once it is clear that nothing is refused. whole: results depend on all images of the run, so all
    stand or none. Raises UsageError for a file that no run made, that was changed since, or that
    belongs to another image or task.
    """
    records = read_records(folder)
    known = [
        {path: records.get(path.relative_to(folder).as_posix(), []) for path in job.results}
        for job in present
    ]
    unknown = [
        job
        for job, of in zip(present, known, strict=True)
        if job.source.is_stdin or any(not of[p] and os.path.lexists(p) for p in job.results)
    ]
    if unknown:
        refuse_existing(unknown, jobs)
    states = _in_threads(_state, list(zip(present, known, strict=True)))
    for job, state in zip(present, states, strict=True):
        if state.refusal is not None:
            _refuse(job, state.refusal, state.record)
        if state.record is not None and state.record.task != task:
            _refuse(job, "is a result of another command", state.record)
    finished = [
        (job, record)
        for job, state in zip(present, states, strict=True)
        if (record := state.done_by.get(work(job.source))) is not None
    ]
    same = _in_threads(_is_current, finished)
    done = [job for (job, _), current in zip(finished, same, strict=True) if current]
    return [] if whole and len(done) < len(jobs) else done


class _State:
    """What is known of a job's files: a record of one; {work: record} where all are of one work."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self.done_by: dict[str, Record] = {}
        self.refusal: str | None = None


def _state(item: tuple[Job, dict[Path, list[Record]]]) -> _State:
    job, known = item
    state = _State()
    works: list[dict[str, Record]] = []
    for path in job.results:
        try:
            found = describing(path, known[path])
            # After a power cut a file may be there without its content.
            is_empty = path.stat().st_size == 0
        except FileNotFoundError:
            works.append({})
            continue
        if not known[path]:
            works.append({})  # another run put it there since the folder was looked through
            continue
        if not found and not is_empty:
            state.record, state.refusal = known[path][-1], "was changed after dpt wrote it"
            return state
        works.append({record.work: record for record in found})
        for record in found or known[path][-1:]:
            state.record = record
            if not _may_replace(record, job):
                state.refusal = f"is the result of another image, {record.source!r}"
                return state
    first = works[0] if works else {}
    state.done_by = {w: r for w, r in first.items() if all(w in others for others in works)}
    return state


def _may_replace(record: Record, job: Job) -> bool:
    """Whether a result is of this image; where it lay elsewhere, its content decides."""
    try:
        return same_source(record, job.source) or is_made_of(record, job.source)
    except OSError:
        return False


def _is_current(item: tuple[Job, Record]) -> bool:
    job, record = item
    try:
        return is_made_of(record, job.source)
    except OSError:  # gone or unreadable: doing it again says so by name
        return False


def _refuse(job: Job, why: str, record: Record | None) -> NoReturn:
    about = f" (dpt {record.task} {record.source})" if record and "command" in why else ""
    raise UsageError(
        f"{str(job.path)!r} {why}{about}; name another folder, or add --overwrite to replace or "
        "--skip-existing to keep what exists"
    )


def _in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Map a function that waits for disks."""
    chunks = [items[at : at + _CHUNK] for at in range(0, len(items), _CHUNK)]
    pool = ThreadPoolExecutor(8, "dpt-check")
    try:
        found = pool.map(functools.partial(_all, function), chunks)
        return [result for chunk in found for result in chunk]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _all(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]
