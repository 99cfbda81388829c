"""A page to look at a folder of results: `dpt gallery OUT`.

The page is one HTML file that needs no network and no server. Beside it, in gallery_files/, lie
the pictures that it loads when they come into view. Values for the viewer lie there as scripts
with a PNG in base64, since a browser lets a page that was opened from disk look at no pixel of an
image file.
"""

import base64
import io
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from dptcli.errors import DptError, ImageError, UsageError
from dptcli.gallery.page import render
from dptcli.gallery.results import (
    COARSE_LEVELS,
    Depth,
    Found,
    Labels,
    Picture,
    find_failures,
    find_results,
    read_result,
)
from dptcli.inputs.decode import printable
from dptcli.inputs.find import decode_image
from dptcli.kinds import in_metres
from dptcli.results.files import atomic_write
from dptcli.running.machine import usable_cores

logger = logging.getLogger(__name__)

DEFAULT_PAGE = "gallery.html"
DEFAULT_DETAIL = 1024
THUMB_SIDE = 420

_OURS = re.compile(r"\d{5,}\.(photo\.jpg|thumb\.jpg|result\.jpg|result\.png|view\.jpg|js)")

# What stands at the beginning of our pages; the second in those of before 0.1.
_MARKS = (b'content="dpt gallery"', b"default-src &#x27;none&#x27;; base-uri &#x27;none&#x27;")


@dataclass(frozen=True)
class Built:
    """What was made: the page, how many results it shows, and the failures that it lists.

    num_unread: how many of the failures are results that are there but cannot be read.
    """

    page: Path
    num_results: int
    num_unread: int
    failures: tuple[tuple[str, str], ...]


def build_gallery(
    folder: str | Path,
    *,
    page: str | Path | None = None,
    photos: str | Path | None = None,
    title: str | None = None,
    detail: int = DEFAULT_DETAIL,
    num_threads: int = usable_cores(),
    on_done: Callable[[int, int], None] = lambda _done, _total: None,
) -> Built:
    """Make the page for a folder of results of `dpt depth` and `dpt segment`.

    page: the file to write, FOLDER/gallery.html by default; its pictures go to PAGE_files. photos:
    where the photographs lie when the results' own account of it does not hold any more. detail:
    the long side in pixels of pictures in the viewer. A result that cannot be read is listed as a
    failure. Raises UsageError for a folder without results and a place that cannot be written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{printable(folder)!r} is no folder; name one that dpt wrote results to")
    page = folder / DEFAULT_PAGE if page is None else Path(page)
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"the page {printable(page)!r} must end in .html")
    if photos is not None and not Path(photos).is_dir():
        raise UsageError(f"--photos {printable(photos)!r} is no folder; check the path")
    assets = page.with_name(f"{page.stem}_files")
    _refuse_foreign(page, assets)
    found = find_results(folder, photos=Path(photos) if photos else None, leave_out=assets)
    failures = find_failures(folder)
    if not found and not failures:
        raise UsageError(
            f"{printable(folder)!r} holds no results; first run e.g. dpt depth photos/ -o OUT"
        )
    entries: list[dict[str, Any]] = []
    sets: list[dict[str, Any]] = []
    try:
        assets.mkdir(parents=True, exist_ok=True)
        maker = _Maker(folder=folder, page=page, assets=assets, detail=detail)
        for index, entry in enumerate(_in_threads(maker, found, num_threads)):
            if isinstance(entry, str):
                failures.append((printable(found[index].path.relative_to(folder)), entry))
            else:
                _share_names(entry, sets)
                entries.append(entry)
            on_done(index + 1, len(found))
        html = render(
            title=title or printable(folder.resolve().name) or "results",
            entries=entries,
            sets=sets,
            failures=failures,
            files=quote(os.fsencode(assets.name)),
        )
        with atomic_write(page) as stream:
            stream.write(html.encode("utf-8", "replace"))
        _remove_stale(assets, entries)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot write the page {printable(page)!r}: {reason}") from error
    return Built(page, len(entries), len(found) - len(entries), tuple(failures))


@dataclass(frozen=True)
class _Maker:
    """Makes the files of one result and its entry in the page's index."""

    folder: Path
    page: Path
    assets: Path
    detail: int

    def __call__(self, index: int, found: Found) -> dict[str, Any] | str:
        """Return the entry, or why the result cannot be shown."""
        try:
            result = read_result(found)
            photo = self._photo(found)
        except DptError as error:
            return printable(str(error))
        number = f"{index:05d}"
        entry: dict[str, Any] = {"id": number, **self._names(found)}
        if photo is not None:
            entry["size"] = list(photo.size)
            entry["photo"] = True
            self._save(_shrunk(photo, self.detail), f"{number}.photo.jpg", quality=82)
            self._save(_shrunk(photo, THUMB_SIDE), f"{number}.thumb.jpg", quality=80)
        if isinstance(result, Depth):
            entry |= self._depth(number, result, found.facts)
        elif isinstance(result, Labels):
            entry |= self._labels(number, result)
        else:
            entry |= self._picture(number, result)
        entry.setdefault("size", entry["full"])
        return entry

    def _names(self, found: Found) -> dict[str, Any]:
        relative = found.path.relative_to(self.folder)
        names = {"name": printable(relative.with_suffix("")), "file": self._link(found.path)}
        if found.photo is not None and found.photo.is_file():
            names["source"] = printable(found.photo.name)
        if found.facts.get("model") is not None:
            names["model"] = printable(str(found.facts["model"]))
        return names

    def _link(self, path: Path) -> str:
        """A relative address with everything escaped that could mean more than a name."""
        relative = os.path.relpath(path.resolve(), self.page.parent.resolve())
        return "./" + quote(os.fsencode(Path(relative).as_posix()))

    def _photo(self, found: Found) -> Image.Image | None:
        if found.photo is None:
            return None
        try:
            return Image.fromarray(decode_image(found.photo))
        except (ImageError, OSError) as error:
            logger.warning("%s: shown without its photograph: %s", printable(found.path), error)
            return None

    def _depth(self, number: str, depth: Depth, facts: Mapping[str, Any]) -> dict[str, Any]:
        levels = depth.levels
        height, width = levels.shape
        is_fine = depth.num_levels > COARSE_LEVELS
        eight = (levels >> 4 if is_fine else levels).astype(np.uint8)
        self._save(_shrunk(Image.fromarray(eight), THUMB_SIDE), f"{number}.result.jpg", quality=85)
        small = _nearest(levels, self.detail)
        if is_fine:
            channels = (small >> 4, small & 15, np.zeros_like(small))
            packed = np.stack(channels, -1).astype(np.uint8)
        else:
            packed = small.astype(np.uint8)
        self._script(number, packed)
        return {
            "kind": "depth",
            "full": [width, height],
            "map": [small.shape[1], small.shape[0]],
            "top": depth.num_levels - 1,
            "range": [_plain(depth.far), _plain(depth.near)],
            "metres": in_metres(facts.get("kind")),
            "shows": _shown(facts.get("kind")),
        }

    def _labels(self, number: str, labels: Labels) -> dict[str, Any]:
        values = labels.values
        counts = np.bincount(values.ravel().astype(np.int64))
        small = _nearest(values, self.detail)
        wide = int(values.max()) > 255
        channels = (small & 255, small >> 8, np.zeros_like(small))
        packed = np.stack(channels, -1) if wide else small
        self._script(number, packed.astype(np.uint8))
        table = np.zeros((len(counts), 4), np.uint8)
        for value, color in labels.colors.items():
            if value < len(table):
                table[value] = (*bytes.fromhex(color[1:]), 255)
        thumb = Image.fromarray(table[_nearest(values, THUMB_SIDE)], "RGBA")
        self._save(thumb.quantize(256, Image.Quantize.FASTOCTREE), f"{number}.result.png")
        present = sorted(np.flatnonzero(counts), key=lambda value: -counts[value])
        return {
            "kind": "labels",
            "full": [values.shape[1], values.shape[0]],
            "map": [small.shape[1], small.shape[0]],
            "shares": [[int(v), round(float(counts[v]) / values.size, 5)] for v in present],
            "names": {str(value): printable(name) for value, name in labels.names.items()},
            "colors": {str(value): color for value, color in labels.colors.items()},
        }

    def _picture(self, number: str, picture: Picture) -> dict[str, Any]:
        plain = Image.new("RGB", picture.image.size, (255, 255, 255))
        plain.paste(picture.image, mask=picture.image.getchannel("A"))
        self._save(_shrunk(plain, THUMB_SIDE), f"{number}.result.jpg", quality=82)
        self._save(_shrunk(plain, self.detail), f"{number}.view.jpg", quality=85)
        return {"kind": "picture", "full": list(plain.size)}

    def _save(self, image: Image.Image, name: str, **options: Any) -> None:
        with atomic_write(self.assets / name) as stream:
            image.save(stream, "PNG" if name.endswith(".png") else "JPEG", **options)

    def _script(self, number: str, packed: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        buffer = io.BytesIO()
        Image.fromarray(packed).save(buffer, "PNG", compress_level=6)
        text = base64.b64encode(buffer.getvalue())
        with atomic_write(self.assets / f"{number}.js") as stream:
            stream.write(b'dptReceive("%s","%s");\n' % (number.encode(), text))


def _in_threads(
    maker: _Maker, found: list[Found], num_threads: int
) -> Iterator[dict[str, Any] | str]:
    with ThreadPoolExecutor(num_threads, "dpt-gallery") as pool:
        try:
            yield from pool.map(maker, range(len(found)), found)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _share_names(entry: dict[str, Any], sets: list[dict[str, Any]]) -> None:
    """Keep one copy of each label set in the page and not one for every image."""
    if entry["kind"] != "labels":
        return
    own = {"names": entry.pop("names"), "colors": entry.pop("colors")}
    if own not in sets:
        sets.append(own)
    entry["set"] = sets.index(own)


def _refuse_foreign(page: Path, assets: Path) -> None:
    """A page may replace a page of ours, and its pictures those of one. Raises UsageError."""
    try:
        if page.exists():
            with page.open("rb") as stream:
                start = stream.read(1000)
            if not any(mark in start for mark in _MARKS):
                raise UsageError(
                    f"{printable(page)!r} exists and is no page of dpt gallery; name another file"
                )
        elif assets.is_dir():
            for path in assets.iterdir():
                if not _OURS.fullmatch(path.name):
                    raise UsageError(
                        f"{printable(assets)!r}, where the page's pictures go, holds "
                        f"{printable(path.name)!r}; name another page with -o"
                    )
    except OSError as error:
        raise UsageError(f"cannot read {printable(page)!r}: {error.strerror}") from error


def _remove_stale(assets: Path, entries: list[dict[str, Any]]) -> None:
    """Remove files of an earlier, longer page; nothing that we did not write."""
    numbers = {entry["id"] for entry in entries}
    for path in assets.iterdir():
        if _OURS.fullmatch(path.name) and path.name.split(".")[0] not in numbers:
            path.unlink(missing_ok=True)


def _plain(value: float) -> float | None:
    """JSON has no infinity."""
    return value if np.isfinite(value) else None


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    """The image with no side above `side`, averaged."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=2.0)
    return small


def _shown(kind: Any) -> str:
    """What a depth map shows, in words."""
    if kind == "depth_m":
        return "distance in metres"
    if kind == "height_m":
        return "height in metres"
    return f"{str(kind).replace('_', ' ')}, no unit"


def _nearest(values: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    """The map with no side above `side`, each pixel one that was there: nothing is invented."""
    height, width = values.shape
    scale = max(height, width) / side
    if scale <= 1:
        return values
    rows, columns = (
        ((np.arange(max(1, round(size / scale))) + 0.5) * size / max(1, round(size / scale)))
        for size in (height, width)
    )
    return values[np.ix_(rows.astype(np.intp), columns.astype(np.intp))]
