"""Where each result goes: decided and checked for the whole run before any work starts."""

import logging
import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dptcli.errors import UsageError
from dptcli.inputs import ImageSource

logger = logging.getLogger(__name__)

Existing = Literal["refuse", "overwrite", "skip"]

# Endings that make OUT a file's name and not a folder's.
_IMAGE_SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".exr", ".pfm"),
    *(".npy", ".npz"),
}


@dataclass(frozen=True)
class Job:
    """One image and the file that its result goes to; path None is standard output."""

    source: ImageSource
    path: Path | None


@dataclass(frozen=True)
class Plan:
    """The work of a run: jobs to do, jobs whose result is there already, the folder of results."""

    jobs: tuple[Job, ...]
    skipped: tuple[Job, ...] = ()
    folder: Path | None = None


def plan_outputs(
    sources: Sequence[ImageSource],
    out: str,
    *,
    suffix: str = ".png",
    existing: Existing = "refuse",
) -> Plan:
    """Give every image its output: a file, its place in the folder OUT, or standard output.

    out: "-", a file name that ends in `suffix` (one image), else a folder, which mirrors the input
    tree. existing: what to do with an output that exists. Nothing is created here. Raises
    UsageError when two results would share a file, a result would replace an input, OUT cannot be
    written, or outputs exist and existing is "refuse".
    """
    if out == "-":
        _require_one(sources, "standard output takes one image")
        return Plan((Job(sources[0], None),))
    folder = None if _is_file_name(out, suffix) else Path(out)
    if folder is None:
        _require_one(sources, f"one file, {out!r}, cannot hold several results")
        jobs = [Job(sources[0], Path(out))]
    else:
        jobs = [
            Job(source, folder / _inside(source.relative).with_suffix(suffix))
            for source in _without_results(sources, folder)
        ]
    if not jobs:
        raise UsageError(f"no images to work on: all lie in the folder of results, {out!r}")
    _refuse_collisions(jobs)
    refuse_unwritable(folder or Path(out).parent)
    todo, present = _split_by_existence(jobs)
    if present and existing == "refuse":
        raise UsageError(
            f"{len(present)} of {len(jobs)} results exist already, the first is "
            f"{str(present[0].path)!r}; add --overwrite to replace or --skip-existing to keep them"
        )
    if existing == "skip":
        return Plan(tuple(todo), tuple(present), folder)
    return Plan(tuple(jobs), (), folder)


def _require_one(sources: Sequence[ImageSource], why: str) -> None:
    if len(sources) != 1:
        raise UsageError(f"{why}, and there are {len(sources)}; name a folder, e.g. -o results/")


def _is_file_name(out: str, suffix: str) -> bool:
    if out.endswith(("/", os.sep)) or Path(out).is_dir():
        return False
    ending = Path(out).suffix.lower()
    if ending in _IMAGE_SUFFIXES - {suffix}:
        better = Path(out).with_suffix(suffix)
        raise UsageError(f"results are {suffix} files; instead of {out!r} name {str(better)!r}")
    return ending == suffix


def _inside(relative: Path) -> Path:
    """Keep a mirrored path below its folder whatever the input was called."""
    return Path(*(part for part in relative.parts if part not in {"..", relative.anchor}))


def _without_results(sources: Sequence[ImageSource], folder: Path) -> list[ImageSource]:
    """Leave out images in OUT when OUT lies in an input folder: they are an earlier run's results.

    `dpt depth photos -o photos/depth` run twice must not take depth maps for photographs.
    """
    out = folder.resolve()
    kept = []
    for source in sources:
        if source.path is not None:
            path = source.path.absolute()
            root = path.parents[min(len(source.relative.parts), len(path.parents)) - 1].resolve()
            if root in out.parents and out in path.resolve().parents:
                continue
        kept.append(source)
    if (num_left_out := len(sources) - len(kept)) > 0:
        logger.warning("left out %d images in the folder of results, %s", num_left_out, folder)
    return kept


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    taken: dict[str, Job] = {}
    fold: Callable[[str], str] = str
    if len({str(job.path).casefold() for job in jobs}) < len(jobs):
        fold = _case_rule(jobs[0].path or Path())
    for job in jobs:
        other = taken.setdefault(fold(str(job.path)), job)
        if other is not job:
            raise UsageError(
                f"{other.source.name!r} and {job.source.name!r} would both be written to "
                f"{str(job.path)!r}; rename one or run them into different folders"
            )
    for job in jobs:
        for parent in (job.path or Path()).parents:
            if (file := taken.get(fold(str(parent)))) is not None:
                raise UsageError(
                    f"the result of {file.source.name!r} would be the file {str(parent)!r}, where "
                    f"{job.source.name!r} needs a folder; run them into different folders"
                )


def _case_rule(path: Path) -> Callable[[str], str]:
    """Return how this file system tells names apart: str as they are, or case-folded."""
    with tempfile.NamedTemporaryFile(prefix="dpt-case-", dir=_nearest_folder(path)) as probe:
        lower = Path(probe.name)
        same = lower.with_name(lower.name.swapcase()).exists()
    return str.casefold if same else str


def _nearest_folder(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())


def refuse_unwritable(folder: Path) -> None:
    """Raise UsageError when nothing can be made in a folder, which need not exist yet."""
    nearest = folder if folder.exists() else _nearest_folder(folder)
    if not nearest.is_dir():
        raise UsageError(f"cannot write into {str(folder)!r}: {str(nearest)!r} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(
            f"cannot write into {str(folder)!r}: no permission or a read-only file system"
        )


def _split_by_existence(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Part jobs by whether their output exists; refuse outputs that no run should replace."""
    inputs: dict[tuple[int, int], ImageSource] | None = None
    todo: list[Job] = []
    present: list[Job] = []
    for job in jobs:
        path = job.path or Path()
        try:
            found = path.stat()
        except FileNotFoundError:
            (present if path.is_symlink() else todo).append(job)  # a dangling link is a file too
            continue
        except OSError as error:
            raise UsageError(f"cannot write {str(path)!r}: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"cannot write {str(path)!r}: it exists and is no ordinary file")
        # By identity and not by name, so that links and capitals cannot hide an input.
        inputs = _identities(jobs) if inputs is None else inputs
        if (source := inputs.get((found.st_dev, found.st_ino))) is not None:
            raise UsageError(
                f"the result of {job.source.name!r} would replace the input {source.name!r}; "
                "name another output"
            )
        present.append(job)
    return todo, present


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
