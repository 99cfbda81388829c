"""Find images and open them: files, folders, globs, streams, addresses; failures by name."""

from __future__ import annotations

import glob
import io
import logging
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO

from dptcli.errors import ImageError, UsageError
from dptcli.inputs.content import InputFacts, noted
from dptcli.inputs.decode import RGBArray, decode
from dptcli.inputs.decode import decode_picture as _decode_picture
from dptcli.inputs.reading import WHITE, Colour, Wanted
from dptcli.inputs.text import printable
from dptcli.remote import Address, is_address, listing, opening, shown

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

# What a folder is searched for; a file that is named outright may be called anything.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"}
)

# Pictures that Pillow alone does not read; a folder of them must not look empty.
_OTHER_PICTURES = frozenset({".heic", ".heif", ".avif", ".jxl", ".jp2", ".cr2", ".nef", ".arw"})

STDIN = "-"


@dataclass(frozen=True)
class ImageSource:
    """One image to read and where it lies below the inputs' common folder.

    path: a file of this machine. url: an address beyond it (s3://, gs://, https://). Neither means
    standard input. relative: what an output folder mirrors.
    """

    path: Path | None
    relative: Path
    url: str | None = field(default=None, kw_only=True)

    @property
    def is_stdin(self) -> bool:
        """Whether it can be read once only."""
        return self.path is None and self.url is None

    @property
    def name(self) -> str:
        """The source as one printable line without secrets, for messages and logs."""
        if self.url is not None:
            return shown(self.url)
        return "standard input" if self.path is None else printable(self.path)

    @property
    def given(self) -> str:
        """The source as programs take it: a path as it is, an address without its secrets."""
        return self.name if self.path is None else str(self.path)


# --- finding -------------------------------------------------------------------------------------


def find_images(
    inputs: Sequence[str | Path], *, listed: Sequence[str] = (), recursive: bool = True
) -> list[ImageSource]:
    """The images that files, folders, globs and addresses name, each once, in the inputs' order.

    What a folder or a glob holds comes in natural order (2.jpg before 10.jpg). Files named outright
    are kept whatever they are, so that a wrong one fails by name when it is decoded; folders are
    searched for IMAGE_SUFFIXES, without hidden entries, devices and pipes. `relative` is the path
    below the deepest folder that holds every input: one folder's tree is mirrored as it is, and
    equal names in different folders stay apart. Addresses have a common folder of their own. "-" is
    standard input. listed: inputs of a list, of which single ones may have vanished since it was
    made: they are kept too, unless there is none left.

    Raises UsageError when an input does not exist, a folder cannot be read or nothing was found.
    """
    num_named, inputs = len(inputs), [*inputs, *listed]
    if not inputs:
        raise UsageError("no input given; name an image, a folder, or - for standard input")
    paths: list[Path | Address | None] = []  # None: standard input
    roots: list[Path] = []
    remote_roots: list[tuple[str, ...]] = []
    missing: list[str] = []
    vanished: list[Path] = []
    for index, given in enumerate(inputs):
        if str(given) == STDIN:
            paths.append(None)
            continue
        if is_address(given):
            addresses, remote_root = listing.expand(
                str(given), suffixes=IMAGE_SUFFIXES, recursive=recursive, order=natural_key
            )
            paths += addresses
            remote_roots.append(remote_root)
            continue
        # Path("") is the current folder, but "" is more likely a shell variable that was not set.
        matches = _expand(Path(given)) if str(given) else []
        if not matches and str(given) and index >= num_named:
            vanished.append(Path(given))
        elif not matches:
            missing.append(printable(given))
        for path in matches:
            if _is_dir(path):
                roots.append(_absolute(path))
                paths += _search(path, recursive=recursive)
            else:
                roots.append(_absolute(path).parent)
                paths.append(path)
    if vanished and not paths:
        missing += map(printable, vanished)
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        listed = ", ".join(f"'{name}'" for name in missing[:5])
        raise UsageError(
            f"no such file or folder: {listed}{more}; check the spelling, the permissions "
            f"and the current folder, {printable(Path.cwd())}"
        )
    if not paths:
        listed = ", ".join(f"'{printable(shown(str(given)))}'" for given in inputs[:5])
        raise UsageError(
            f"no images in {listed}; folders are searched for {' '.join(sorted(IMAGE_SUFFIXES))}"
            + ("" if recursive else ", and subfolders only without --no-recursive")
        )
    roots += [_absolute(path).parent for path in vanished]
    return _sources([*paths, *vanished], roots, remote_roots)


def _expand(path: Path) -> list[Path]:
    """An existing path as it is (whatever characters it holds), else what it matches as a glob."""
    if _exists(path):
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
    return [
        match
        for match in matches
        if hidden_wanted or not any(p.startswith(".") for p in match.relative_to(base).parts)
    ]


def _exists(path: Path) -> bool:
    """Whether the path leads somewhere; False also where Path.exists would raise (permissions)."""
    try:
        return path.exists()
    except OSError:
        return False


def _is_dir(path: Path | os.DirEntry[str]) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _search(folder: Path, *, recursive: bool) -> list[Path]:
    """Image files below a folder, in natural order; linked folders are entered once, and last."""
    images: list[Path] = []
    left_out: Counter[str] = Counter()
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
            logger.warning("skipped the folder %s: %s", printable(here), error.strerror)
            continue
        if (status.st_dev, status.st_ino) in searched:
            continue  # a link back into what is already known
        searched.add((status.st_dev, status.st_ino))
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = here / entry.name
            if _is_dir(entry):
                if recursive:
                    (links if entry.is_symlink() else folders).append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                kind = None if entry.is_file(follow_symlinks=False) else _special_kind(path)
                if kind is None:
                    images.append(path)
                else:
                    logger.warning("skipped %s: it is %s, not a file", printable(path), kind)
            elif path.suffix.lower() in _OTHER_PICTURES:
                left_out[path.suffix.lower()] += 1
    if left_out:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(left_out.items()))
        logger.warning(
            "left out %s in %s: not read here; export them as JPEG or PNG",
            counts,
            printable(folder),
        )
    return sorted(images, key=natural_key)


def natural_key(path: PurePath) -> tuple[list[list[tuple[int, int, str]]], str]:
    """A sort key that compares the numbers in names as numbers, folder by folder."""
    parts = [
        # Splitting at a group puts the runs of digits at the odd places.
        [(0, int(run), "") if i % 2 else (1, 0, run.casefold()) for i, run in enumerate(runs)]
        for runs in (re.split(r"([0-9]+)", part) for part in path.parts)
    ]
    return parts, str(path)


def _sources(
    paths: Sequence[Path | Address | None],
    roots: Sequence[Path],
    remote_roots: Sequence[tuple[str, ...]],
) -> list[ImageSource]:
    """Each path once, with its place below the deepest folder that holds all roots."""
    addresses = [path for path in paths if isinstance(path, Address)]
    places = listing.places(addresses, remote_roots)
    try:
        root = os.path.commonpath(roots) if roots else ""
    except ValueError:  # two Windows drives share no folder
        root = ""
    sources: dict[str, ImageSource] = {}
    parents: dict[Path, tuple[str, Path]] = {}  # as given -> (real, below the root)
    for path in paths:
        if path is None:
            sources.setdefault(STDIN, ImageSource(None, Path("stdin")))
            continue
        if isinstance(path, Address):
            sources.setdefault(path.url, ImageSource(None, Path(places[path.url]), url=path.url))
            continue
        parent = path.parent
        if parent not in parents:
            absolute = _absolute(parent)
            below = absolute.relative_to(root or absolute.anchor)
            parents[parent] = (str(parent.resolve()), below)
        real, below = parents[parent]
        # The name itself is not resolved: two links to one photograph are two outputs.
        sources.setdefault(f"{real}{os.sep}{path.name}", ImageSource(path, below / path.name))
    return list(sources.values())


def _absolute(path: Path) -> Path:
    """The absolute path without ".", ".." — and with its links, which resolve() would follow."""
    return Path(os.path.abspath(path))  # noqa: PTH100


# --- opening -------------------------------------------------------------------------------------


def decode_image(
    source: ImageSource | str | Path | bytes | BinaryIO,
    *,
    wanted: Wanted | None = None,
    max_pixels: int | None = None,
    background: Colour = WHITE,
) -> RGBArray:
    """Read one image upright as RGB uint8 (H, W, 3); see `decode` for what is done to the pixels.

    max_pixels: in place of that of `wanted`. Pipes, devices and sockets are refused without opening
    them. Raises ImageError with the name, the reason and the remedy.
    """
    wanted = wanted or Wanted()
    if max_pixels is not None:
        wanted = replace(wanted, max_pixels=max_pixels)
    with _opened(source) as (name, stream):
        return decode(stream, name=name, wanted=wanted, background=background)


def decode_picture(
    source: ImageSource | str | Path | bytes | BinaryIO,
    *,
    wanted: Wanted | None = None,
    on_read: Callable[[ImageSource, InputFacts], None] | None = None,
) -> Image.Image:
    """Read one image as `decode_image` does, to a Pillow image: two copies of its pixels fewer.

    on_read: is told what was read of a file or an address.
    """
    with _opened(source) as (name, stream):
        if on_read is not None and isinstance(source, ImageSource) and not source.is_stdin:
            facts, stream = noted(name, stream)
            on_read(source, facts)
        return _decode_picture(stream, name=name, wanted=wanted)


def _special_kind(path: Path) -> str | None:
    """What a path is when it is no plain file, in words; None if it is one, or is gone."""
    try:
        return _kind(path.stat().st_mode)
    except OSError:
        return None  # opening it says why, by name


def _kind(mode: int) -> str | None:
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


@contextmanager
def _opened(
    source: ImageSource | str | Path | bytes | BinaryIO,
) -> Iterator[tuple[str, BinaryIO]]:
    """The source's name and a seekable stream of its bytes."""
    if isinstance(source, ImageSource) and source.url is not None:
        with opening.open_address(source.url) as stream:
            yield source.name, stream
    elif isinstance(source, ImageSource) and source.path is None:
        if sys.stdin.isatty():
            raise ImageError("standard input is a terminal; pipe an image into it")
        yield source.name, io.BytesIO(sys.stdin.buffer.read())
    elif isinstance(source, bytes):
        yield "the image given as bytes", io.BytesIO(source)
    elif isinstance(source, ImageSource | str | Path):
        path = source.path if isinstance(source, ImageSource) else Path(source)
        assert path is not None
        with _open_file(path) as stream:
            yield printable(path), stream
    else:
        stream_name = getattr(source, "name", None)
        name = printable(stream_name) if isinstance(stream_name, str) else "the image stream"
        # TIFF and PNG seek from the start of the file, wherever the caller's stream stands.
        yield name, io.BytesIO(source.read())


def _open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe, device or socket is refused without opening it."""
    name = printable(path)
    try:
        kind = _kind(path.stat().st_mode)
        if kind is None:
            # Should a pipe take the file's place just now, O_NONBLOCK keeps us from waiting.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            stream = os.fdopen(os.open(path, flags), "rb")
            kind = _kind(os.fstat(stream.fileno()).st_mode)
            if kind is None:
                return stream
            stream.close()
    except FileNotFoundError as error:
        raise ImageError(f"{name} does not exist; was it moved or removed?") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{name} cannot be opened: {reason}; check the file") from error
    raise ImageError(f"{name} is {kind}, not an image file; give files, or pipe one image into -")
