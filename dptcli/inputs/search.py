"""Search folders and patterns for pictures, and note what was found and is left out."""

from __future__ import annotations

import glob
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TypeVar

from dptcli.errors import UsageError
from dptcli.inputs.formats import IMAGE_SUFFIXES, Second, is_picture, second_choice
from dptcli.inputs.text import printable

logger = logging.getLogger(__name__)


@dataclass
class LeftOut:
    """What a search came upon and does not give: (path, reason).

    pictures: what a person would call one. folders: those that could not be listed.
    """

    pictures: list[tuple[str, str]] = field(default_factory=list)
    folders: list[tuple[str, str]] = field(default_factory=list)

    def add(self, path: PurePath, reason: str) -> None:
        self.pictures.append((str(path), reason))

    def add_folder(self, folder: Path, error: OSError) -> None:
        reason = f"cannot list the folder {printable(folder)}: {error.strerror or error}"
        if all(str(folder) != known for known, _ in self.folders):
            self.folders.append((str(folder), f"{reason}; what lies below it was left out"))

    def without(self, folder: Path) -> LeftOut:
        """The same without pictures below a folder: an earlier run's results."""
        out = folder.resolve()
        kept = [item for item in self.pictures if out not in real(Path(item[0])).parents]
        return LeftOut(kept, self.folders)

    def sentences(self) -> list[str]:
        """What is left out, a line a reason: counts by ending, the first names."""
        by_reason: dict[str, list[str]] = {}
        for path, reason in self.pictures:
            by_reason.setdefault(reason, []).append(path)
        lines = []
        for reason, paths in by_reason.items():
            counted = Counter(PurePath(path).suffix.lower() for path in paths)
            counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counted.items()))
            more = ", …" if len(paths) > 3 else ""
            names = ", ".join(map(printable, paths[:3]))
            lines.append(f"left out {counts}: {reason} ({names}{more})")
        return lines

    def log(self) -> None:
        """Say it: folders as errors, pictures as warnings."""
        for _, reason in self.folders:
            logger.error("%s", reason)
        for line in self.sentences():
            logger.warning("%s", line)


# --- searching -----------------------------------------------------------------------------------


def expand(path: Path, left_out: LeftOut) -> list[Path]:
    """An existing path as it is (whatever characters it holds), else what it matches as a glob."""
    if exists(path):
        return [path]
    if not glob.has_magic(str(path)):
        return []
    first = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
    base, pattern = Path(*path.parts[:first]), Path(*path.parts[first:])
    hidden_wanted = any(part.startswith(".") for part in pattern.parts)
    try:
        # Path.glob, not glob.glob: its ** does not follow links, so a loop cannot hang it.
        matches = sorted(base.glob(str(pattern)), key=natural_key)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot match '{printable(path)}': {error}") from error
    _note_unlistable(base, PurePath(pattern).parts, left_out)
    return [
        match
        for match in matches
        if hidden_wanted or not any(p.startswith(".") for p in match.relative_to(base).parts)
    ]


def exists(path: Path) -> bool:
    """Whether the path leads somewhere; False also where Path.exists would raise (permissions)."""
    try:
        return path.exists()
    except OSError:
        return False


def real(path: Path) -> Path:
    """A path without links; of links in a circle, which Path.resolve raises for, what there is."""
    return Path(os.path.realpath(path))


def is_dir(path: Path | os.DirEntry[str]) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def search(folder: Path, left_out: LeftOut, *, recursive: bool) -> list[Path]:
    """Image files below a folder, in natural order; linked folders are entered once, and last.

    Raises UsageError where the folder itself cannot be listed.
    """
    pictures: list[Path] = []
    searched: set[tuple[int, int]] = set()
    folders, links = [folder], list[Path]()
    while folders or links:
        here = folders.pop() if folders else links.pop()
        try:
            status = here.stat()
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if here == folder:
                raise UsageError(
                    f"cannot read the folder '{printable(folder)}': {error.strerror}; "
                    "check its permissions"
                ) from error
            left_out.add_folder(here, error)
            continue
        if (status.st_dev, status.st_ino) in searched:
            continue  # a link back into what is already known
        searched.add((status.st_dev, status.st_ino))
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = here / entry.name
            if is_dir(entry):
                if recursive:
                    (links if entry.is_symlink() else folders).append(path)
            elif is_picture(path.suffix.lower()):
                kind = None if entry.is_file(follow_symlinks=False) else special_kind(path)
                if kind is None:
                    pictures.append(path)
                else:
                    left_out.add(path, f"it is {kind}, not a file")
    return sorted(choose(pictures, left_out, path_of=lambda path: path), key=natural_key)


Found = TypeVar("Found")


def choose(
    pictures: Iterable[Found], left_out: LeftOut, *, path_of: Callable[[Found], PurePath]
) -> list[Found]:
    """Of files with endings of pictures those that are read; the others are noted with the reason.

    What cameras and editors write beside a JPEG (raw files, OpenEXR, …) is read where no other
    picture has its name: both results would have one name too.
    """
    kept: list[Found] = []
    later: list[tuple[int, Found, Second]] = []
    seconds: dict[str, Second | None] = {}
    taken: set[tuple[PurePath, str]] = set()
    for item in pictures:
        path = path_of(item)
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            kept.append(item)
            taken.add((path.parent, path.stem.casefold()))
            continue
        if suffix not in seconds:
            seconds[suffix] = second_choice(suffix)
        if (second := seconds[suffix]) is not None:
            later.append((second.rank, item, second))
        else:
            left_out.add(path, "not read here; export it as JPEG or PNG")
    for _, item, second in sorted(later, key=lambda entry: entry[0]):
        path = path_of(item)
        if second.missing is not None:
            left_out.add(path, f"its reader is an extra: pip install 'dptcli[{second.missing}]'")
        elif (path.parent, path.stem.casefold()) in taken:
            left_out.add(path, "beside another picture of the same name")
        else:
            kept.append(item)
            taken.add((path.parent, path.stem.casefold()))
    return kept


def _note_unlistable(base: Path, parts: Sequence[str], left_out: LeftOut) -> None:
    """Note the folders that a pattern had to list and could not, which Path.glob hides."""
    for index, part in enumerate(parts):
        if not glob.has_magic(part):
            continue
        before = parts[: index + (part == "**")]
        folders = base.glob(str(PurePath(*before))) if before else [base]
        for folder in folders:
            if is_dir(folder):
                try:
                    os.scandir(folder).close()
                except OSError as error:
                    left_out.add_folder(folder, error)


def natural_key(path: PurePath) -> tuple[list[list[tuple[int, int, str]]], str]:
    """A sort key that compares the numbers in names as numbers, folder by folder."""
    parts = [
        # Splitting at a group puts the runs of digits at the odd places.
        [(0, int(run), "") if i % 2 else (1, 0, run.casefold()) for i, run in enumerate(runs)]
        for runs in (re.split(r"([0-9]+)", part) for part in path.parts)
    ]
    return parts, str(path)


def special_kind(path: Path) -> str | None:
    """What a path is when it is no plain file, in words; None if it is one, or is gone."""
    try:
        return kind_of_mode(path.stat().st_mode)
    except OSError:
        return None  # opening it says why, by name


def kind_of_mode(mode: int) -> str | None:
    if stat.S_ISREG(mode):
        return None
    for test, kind in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe (FIFO)"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return kind
    return "a device"
