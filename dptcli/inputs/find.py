"""Find images and open them: files, folders, globs, streams, addresses; failures by name."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from dptcli.errors import ImageError, UsageError
from dptcli.inputs.content import InputFacts, noted
from dptcli.inputs.decode import RGBArray, decode
from dptcli.inputs.decode import decode_picture as _decode_picture
from dptcli.inputs.formats import IMAGE_SUFFIXES, PICTURE_SUFFIXES
from dptcli.inputs.reading import WHITE, Colour, Wanted
from dptcli.inputs.search import (
    LeftOut,
    choose,
    expand,
    is_dir,
    kind_of_mode,
    natural_key,
    search,
)
from dptcli.inputs.text import printable
from dptcli.remote import Address, is_address, listing, opening, shown

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

STDIN = "-"


@dataclass(frozen=True)
class ImageSource:
    """One image to read and where it lies below the inputs' common folder.

    path: a file of this machine. url: an address beyond it (s3://, gs://, https://). Neither means
    standard input. relative: what an output folder mirrors. sent_as: what it is called in place of
    its path, where it was sent from elsewhere.
    """

    path: Path | None
    relative: Path
    url: str | None = field(default=None, kw_only=True)
    sent_as: str | None = field(default=None, kw_only=True)

    @property
    def is_stdin(self) -> bool:
        """Whether it can be read once only."""
        return self.path is None and self.url is None

    @property
    def name(self) -> str:
        """The source as one printable line without secrets, for messages and logs."""
        if self.url is not None:
            return shown(self.url)
        if self.sent_as is not None:
            return printable(self.sent_as)
        return "standard input" if self.path is None else printable(self.path)

    @property
    def given(self) -> str:
        """The source as programs take it: a path as it is, an address without its secrets."""
        return self.name if self.path is None or self.sent_as is not None else str(self.path)


def below(source: ImageSource, root: str) -> ImageSource:
    """Return a file's source as one of the tree below `root`, whoever named it.

    What is no file of this machine stays as it is. Raises UsageError for a file elsewhere.
    """
    if source.path is None:
        return source
    top, path = Path(root).absolute(), Path(os.path.abspath(source.path))  # noqa: PTH100 (of ..)
    for base, file in ((top, path), (top.resolve(), path.parent.resolve() / path.name)):
        if file.is_relative_to(base):
            return replace(source, relative=file.relative_to(base))
    raise UsageError(f"{source.name!r} does not lie below --root {root!r}; name a folder above it")


# --- finding -------------------------------------------------------------------------------------


def find_images(
    inputs: Sequence[str | Path],
    *,
    listed: Sequence[str] = (),
    recursive: bool = True,
    left_out: LeftOut | None = None,
    may_be_none: bool = False,
) -> list[ImageSource]:
    """The images that files, folders, globs and addresses name, each once, in the inputs' order.

    What a folder or a glob holds comes in natural order (2.jpg before 10.jpg). Files named outright
    are kept whatever they are, so that a wrong one fails by name when it is decoded; folders are
    searched for pictures, without hidden entries, devices and pipes. `relative` is the path
    below the deepest folder that holds every input: one folder's tree is mirrored as it is, and
    equal names in different folders stay apart. Addresses have a common folder of their own. "-" is
    standard input. listed: inputs of a list, of which single ones may have vanished since it was
    made: they are kept too, unless there is none left. left_out: takes what is found and not given;
    without it that is logged. may_be_none: folders may be empty yet.

    Raises UsageError when an input does not exist, a folder cannot be read or nothing was found.
    """
    if left_out is None:
        left_out = LeftOut()
        sources = find_images(
            inputs, listed=listed, recursive=recursive, left_out=left_out, may_be_none=may_be_none
        )
        left_out.log()
        return sources
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
                str(given), suffixes=PICTURE_SUFFIXES, recursive=recursive, order=natural_key
            )
            is_searched = any(address.in_store for address in addresses)
            if is_searched and [address.url for address in addresses] != [str(given)]:
                addresses = choose(addresses, left_out, path_of=lambda it: PurePosixPath(it.key))
                addresses.sort(key=lambda it: natural_key(PurePosixPath(it.key)))
            paths += addresses
            remote_roots.append(remote_root)
            continue
        # Path("") is the current folder, but "" is more likely a shell variable that was not set.
        matches = expand(Path(given), left_out) if str(given) else []
        if not matches and str(given) and index >= num_named:
            vanished.append(Path(given))
        elif not matches:
            missing.append(printable(given))
        for path in matches:
            if is_dir(path):
                roots.append(_absolute(path))
                paths += search(path, left_out, recursive=recursive)
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
    if not paths and not may_be_none:
        listed = ", ".join(f"'{printable(shown(str(given)))}'" for given in inputs[:5])
        raise UsageError(
            f"no images in {listed}; folders are searched for {' '.join(sorted(IMAGE_SUFFIXES))} "
            "and more"
            + ("" if recursive else ", and subfolders only without --no-recursive")
            + "".join(f"; {line}" for line in left_out.sentences())
            + "".join(f"; {reason}" for _, reason in left_out.folders)
        )
    roots += [_absolute(path).parent for path in vanished]
    return _sources([*paths, *vanished], roots, remote_roots)


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


def source_of(given: str | Path) -> ImageSource | Path:
    """What a path or an address names, to be decoded."""
    if is_address(given):
        return ImageSource(None, Path("image"), url=str(given))
    return Path(given)


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
        try:
            data = sys.stdin.buffer.read()
        except OSError as error:  # closed, or a folder
            raise ImageError(
                f"standard input cannot be read ({error.strerror}); pipe an image into it"
            ) from error
        yield source.name, io.BytesIO(data)
    elif isinstance(source, bytes):
        yield "the image given as bytes", io.BytesIO(source)
    elif isinstance(source, ImageSource | str | Path):
        path = source.path if isinstance(source, ImageSource) else Path(source)
        assert path is not None
        with _open_file(path) as stream:
            yield source.name if isinstance(source, ImageSource) else printable(path), stream
    else:
        stream_name = getattr(source, "name", None)
        name = printable(stream_name) if isinstance(stream_name, str) else "the image stream"
        # TIFF and PNG seek from the start of the file, wherever the caller's stream stands.
        yield name, io.BytesIO(source.read())


def _open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe, device or socket is refused without opening it."""
    name = printable(path)
    try:
        kind = kind_of_mode(path.stat().st_mode)
        if kind is None:
            # Should a pipe take the file's place just now, O_NONBLOCK keeps us from waiting.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            stream = os.fdopen(os.open(path, flags), "rb")
            kind = kind_of_mode(os.fstat(stream.fileno()).st_mode)
            if kind is None:
                return stream
            stream.close()
    except FileNotFoundError as error:
        raise ImageError(f"{name} does not exist; was it moved or removed?") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{name} cannot be opened: {reason}; check the file") from error
    raise ImageError(f"{name} is {kind}, not an image file; give files, or pipe one image into -")
