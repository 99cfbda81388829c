"""Where each result goes: decided and checked for the whole run before any work starts."""

import hashlib
import logging
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn

from dptcli.counted import counted
from dptcli.errors import UsageError
from dptcli.inputs.find import ImageSource
from dptcli.inputs.search import real
from dptcli.remote import store
from dptcli.remote.places import RemotePath, place
from dptcli.results.disk import case_rule, refuse_unwritable
from dptcli.results.naming import inside, is_file_name, suffix_of

logger = logging.getLogger(__name__)

Existing = Literal["refuse", "overwrite", "skip"]


@dataclass(frozen=True)
class Job:
    """One image and the files that its results go to; path None is standard output.

    path: the first format's file. files: every format's, in their order, the first one included.
    sidecar: where facts go that the files cannot carry. keep: those of them that stay as they are.
    replaces: those that were there when the run was planned and that it may replace; None for any.
    """

    source: ImageSource
    path: Path | None
    files: tuple[Path, ...] = ()
    sidecar: Path | None = None
    keep: frozenset[Path] = frozenset()
    replaces: frozenset[Path] | None = None

    @property
    def results(self) -> tuple[Path, ...]:
        """All files that this job makes."""
        files = self.files or ((self.path,) if self.path is not None else ())
        return files if self.sidecar is None else (*files, self.sidecar)


@dataclass(frozen=True)
class Plan:
    """The work of a run: jobs to do, jobs whose result is there already, the folder of results."""

    jobs: tuple[Job, ...]
    skipped: tuple[Job, ...] = ()
    folder: Path | None = None


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of a list, counted from 1.

    An image's part follows from its name below the inputs' common folder, so that every machine of
    an array agrees and new images move no others.
    """

    index: int
    count: int

    def holds(self, source: ImageSource) -> bool:
        """Whether an image falls to this part."""
        name = hashlib.blake2b(os.fsencode(source.relative.as_posix()), digest_size=8)
        return int.from_bytes(name.digest(), "big") % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


Settle = Callable[[Sequence[Job], Sequence[Job]], Sequence[Job]]
"""(jobs whose files exist, all jobs) -> those that are done; UsageError for what must stay."""


def photo_facts(job: Job) -> dict[str, str]:
    """Return where the photograph lies, seen from its result, for `dpt gallery` and other readers.

    {"photo": a path relative to the result's folder}, so that both may move together, whole where
    one of them is beyond this machine; nothing for standard input and output.
    """
    if job.source.is_stdin or job.source.sent_as is not None or job.path is None:
        return {}
    if job.source.path is None:
        return {"photo": job.source.name}
    if isinstance(job.path, RemotePath):
        return {"photo": str(real(job.source.path))}
    photo, folder = real(job.source.path), job.path.parent.resolve()
    try:
        return {"photo": os.path.relpath(photo, folder)}
    except ValueError:  # on another drive of Windows
        return {"photo": str(photo)}


def plan_outputs(
    sources: Sequence[ImageSource],
    out: str,
    *,
    suffixes: Sequence[str] = (".png",),
    sidecar: str | None = None,
    existing: Existing = "refuse",
    settle: Settle | None = None,
    shard: Shard | None = None,
    is_result: Callable[[Path], bool] | None = None,
    added: str = "",
) -> Plan:
    """Give every image its outputs: files, their place in the folder OUT, or standard output.

    out: "-", a file name with the ending of one of `suffixes` (one image), else a folder, which
    mirrors the input tree. suffixes: one for each format, e.g. ".png", ".depth16.png". sidecar: the
    suffix of a file of facts beside them. existing: what to do with outputs that exist; "skip" also
    keeps the files that a job has already. settle: what becomes of outputs in a folder that exist
    when existing is "refuse". shard: plan this part of the images alone. is_result: whether a file
    in the folder is what an earlier run wrote, and no photograph. added: what the names of
    results in a folder have behind the photograph's. Nothing stays of what is tried here.
    Raises UsageError when two results would share a file, a result would replace an input, OUT
    cannot be written, or outputs exist and existing is "refuse".
    """
    if out == "-":
        _require_one(sources, "standard output takes one image")
        if len(suffixes) > 1:
            raise UsageError(
                f"standard output takes one format, and there are {len(suffixes)}; name a folder, "
                "e.g. -o results/"
            )
        return Plan((Job(sources[0], None),))
    folder = None if is_file_name(out, suffixes) else place(out)
    if folder is None and added:
        raise UsageError("--suffix is for results in a folder, e.g. photos/ -o photos/")
    if folder is None:
        _require_one(sources, f"one file, {out!r}, cannot hold several results")
        jobs = [_named_job(sources[0], place(out), suffixes, sidecar)]
    else:
        jobs = [
            _job(source, _base(folder, source, added), suffixes, sidecar)
            for source in _without_results(sources, folder, is_result)
        ]
    if not jobs:
        raise UsageError(f"no images to work on: all lie in the folder of results, {out!r}")
    _refuse_collisions(jobs)
    refuse_unwritable(folder or place(out).parent, first=jobs[0].results[0])
    inputs = jobs  # of every shard: none of them may be replaced
    if shard is not None:
        if folder is None:
            raise UsageError("--shard parts a list; name a folder for the results, e.g. -o out/")
        jobs = [job for job in jobs if shard.holds(job.source)]
    todo, present = _split_by_existence(jobs, existing, inputs)
    if existing == "skip":
        return Plan(tuple(todo), tuple(present), folder)
    order = {job.source: at for at, job in enumerate(jobs)}
    jobs = sorted([*todo, *present], key=lambda job: order[job.source])
    if present and existing == "refuse":
        done = (settle if settle and folder else refuse_existing)(present, jobs)
        skipped = {id(job) for job in done}
        return Plan(tuple(job for job in jobs if id(job) not in skipped), tuple(done), folder)
    return Plan(tuple(jobs), (), folder)


def refuse_existing(present: Sequence[Job], jobs: Sequence[Job]) -> NoReturn:
    """Say that results are in the way."""
    first = next(path for path in present[0].results if path.exists() or path.is_symlink())
    if len(jobs) == 1:
        if first == present[0].sidecar:
            raise UsageError(
                f"{str(first)!r}, which says what the result is, exists already; take all formats "
                "at once, e.g. -f ply,glb, or add --overwrite, which keeps what it says of others"
            )
        raise UsageError(
            f"{str(first)!r} exists already; add --overwrite to replace or --skip-existing to keep "
            "it, or name another"
        )
    raise UsageError(
        f"{len(present)} of {len(jobs)} results exist already, the first is "
        f"{str(first)!r}; add --overwrite to replace or --skip-existing to keep them"
    )


def _base(folder: Path, source: ImageSource, added: str) -> Path:
    base = folder / inside(source.relative).with_suffix("")
    return base.with_name(base.name + added) if added else base


def _job(source: ImageSource, base: Path, suffixes: Sequence[str], sidecar: str | None) -> Job:
    """Give an image its files in a folder: `base` and the suffix of each format."""
    files = tuple(base.with_name(base.name + suffix) for suffix in suffixes)
    beside = None if sidecar is None else base.with_name(base.name + sidecar)
    return Job(source, files[0], files, beside)


def _named_job(source: ImageSource, out: Path, suffixes: Sequence[str], sidecar: str | None) -> Job:
    """Give one image the file OUT for the format of that ending, and the others beside it."""
    own = suffix_of(str(out), suffixes)
    assert own is not None
    name = out.name
    base = out.with_name(name[: -len(own)] if name.lower().endswith(own) else out.stem)
    job = _job(source, base, suffixes, sidecar)
    files = tuple(
        out if suffix == own else file for suffix, file in zip(suffixes, job.files, strict=True)
    )
    return Job(source, files[0], files, job.sidecar)


def _require_one(sources: Sequence[ImageSource], why: str) -> None:
    if len(sources) != 1:
        raise UsageError(f"{why}, and there are {len(sources)}; name a folder, e.g. -o results/")


def _without_results(
    sources: Sequence[ImageSource], folder: Path, is_result: Callable[[Path], bool] | None
) -> list[ImageSource]:
    """Leave out images in OUT when OUT lies in an input folder: they are an earlier run's results.

    `dpt depth photos -o photos/depth` run twice must not take depth maps for photographs. Where OUT
    holds the photographs themselves, is_result tells which are which.
    """
    if isinstance(folder, RemotePath):
        return [s for s in sources if s.url is None or not _is_earlier_result(s, str(folder))]
    out = folder.resolve()
    kept = []
    may_hold: dict[tuple[Path, int], bool] = {}  # one answer for all images of a folder
    for source in sources:
        if source.path is not None:
            place = source.path.parent, len(source.relative.parts)
            if place not in may_hold:
                path = source.path.absolute()
                root = path.parents[min(place[1], len(path.parents)) - 1].resolve()
                may_hold[place] = root in out.parents
            if may_hold[place] and out in real(source.path).parents:
                continue
            if is_result is not None and is_result(source.path):
                continue
        kept.append(source)
    if (num_left_out := len(sources) - len(kept)) > 0:
        logger.warning(
            "left out %s in the folder of results, %s", counted(num_left_out, "image"), folder
        )
    return kept


def _is_earlier_result(source: ImageSource, folder: str) -> bool:
    """Whether an object lies in a folder of results that lies below the inputs' own folder."""
    assert source.url is not None
    below = len(source.relative.parts)
    root = source.url.rsplit("/", below)[0]
    return f"{folder}/".startswith(f"{root}/") and source.url.startswith(f"{folder}/")


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    taken: dict[str, Job] = {}
    fold: Callable[[str], str] = str
    results = [(job, path) for job in jobs for path in job.results]
    if len({str(path).casefold() for _, path in results}) < len(results):
        fold = case_rule(results[0][1])
    clashes = []
    for job, path in results:
        other = taken.setdefault(fold(str(path)), job)
        if other is not job:
            clashes.append((other, job, path))
    if clashes:
        other, job, path = clashes[0]
        others = len({id(later) for _, later, _ in clashes}) - 1
        more = f" (so it is with {counted(others, 'more image')})" if others else ""
        raise UsageError(
            f"{other.source.name!r} and {job.source.name!r} would both be written to "
            f"{str(path)!r}; rename one or run them into different folders{more}"
        )
    for job, path in results:
        for parent in path.parents:
            if (file := taken.get(fold(str(parent)))) is not None:
                raise UsageError(
                    f"the result of {file.source.name!r} would be the file {str(parent)!r}, where "
                    f"{job.source.name!r} needs a folder; run them into different folders"
                )


def _split_by_existence(
    jobs: Sequence[Job], existing: Existing, with_inputs: Sequence[Job]
) -> tuple[list[Job], list[Job]]:
    """Part jobs by whether their outputs exist; refuse outputs that no run should replace.

    With "skip" a job is present when all its files are, else when any is.
    """
    inputs: dict[tuple[int, int], ImageSource] | None = None
    if jobs and isinstance(jobs[0].path, RemotePath):
        return _split_by_listing(jobs, existing, with_inputs)
    todo: list[Job] = []
    present: list[Job] = []
    for job in jobs:
        found = []
        for path in job.results:
            facts = _existing(path)
            if facts is None:
                continue
            found.append(path)
            if isinstance(facts, str):
                continue
            # By identity and not by name, so that links and capitals cannot hide an input.
            inputs = _identities(with_inputs) if inputs is None else inputs
            if (source := inputs.get((facts.st_dev, facts.st_ino))) is not None:
                raise UsageError(
                    f"the result of {job.source.name!r} would replace the input {source.name!r}; "
                    "name another output"
                )
        _sort_in(job, found, existing, todo, present)
    return todo, present


def _sort_in(
    job: Job, found: Sequence[Path], existing: Existing, todo: list[Job], present: list[Job]
) -> None:
    """Put a job, of whose results some are there, into one of two lists."""
    if existing != "overwrite":  # else the user has said so for whatever is there
        job = replace(job, replaces=frozenset(found))
    if found and existing == "skip" and len(found) < len(job.results):
        kept = frozenset(found) - {job.sidecar}
        todo.append(replace(job, keep=frozenset(path for path in kept if path is not None)))
    else:
        (present if found else todo).append(job)


def _split_by_listing(
    jobs: Sequence[Job], existing: Existing, with_inputs: Sequence[Job]
) -> tuple[list[Job], list[Job]]:
    """Part jobs whose results go to a store; it is asked once for all that is there."""
    todo: list[Job] = []
    present: list[Job] = []
    inputs = {job.source.url: job.source for job in with_inputs}
    results = {path: str(path) for job in jobs for path in job.results}
    try:
        if len(results) < 10:  # a prefix may hold millions of other objects
            there = {url for url in results.values() if store.exists(url)}
        else:
            there = set(store.find(str(RemotePath(os.path.commonpath(results.values())))))
    except OSError as error:
        raise UsageError(store.refusal(next(iter(results.values())), error)) from None
    for job in jobs:
        for path in job.results:
            if (source := inputs.get(results[path])) is not None:
                raise UsageError(
                    f"the result of {job.source.name!r} would replace the input {source.name!r}; "
                    "name another output"
                )
        found = [path for path in job.results if results[path] in there]
        _sort_in(job, found, existing, todo, present)
    return todo, present


def _existing(path: Path) -> os.stat_result | Literal["dangling link"] | None:
    """Return what stands at `path`; a dangling link is a file too. Refuses folders and devices."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return "dangling link" if path.is_symlink() else None
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"cannot write {str(path)!r}: it exists and is no ordinary file")
    return found


def _identities(jobs: Sequence[Job]) -> dict[tuple[int, int], ImageSource]:
    found = {}
    for job in jobs:
        try:
            facts = job.source.path.stat() if job.source.path else None
        except OSError:
            continue  # gone or unreadable: its own failure comes when it is decoded
        if facts is not None:
            found[facts.st_dev, facts.st_ino] = job.source
    return found
