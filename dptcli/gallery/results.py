"""Find the results in a folder and read each as what the page shows: levels, classes, a picture."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.depth.colormaps import depth_lut, finite_range, scale_to_levels
from dptcli.errors import DptError, ImageError
from dptcli.evaluation.maps import read_map
from dptcli.inputs.decode import printable
from dptcli.inputs.formats import IMAGE_SUFFIXES, READ_SUFFIXES
from dptcli.kinds import CONFIDENCE, is_kind, near_is_large
from dptcli.records.report import FAILURES_NAME
from dptcli.results.sidecar import FILES_KEY, TEXT_KEY, facts_beside, find_sidecar, read_sidecar

logger = logging.getLogger(__name__)

# More levels than these cannot be told apart on a screen and make the page's files large.
FINE_LEVELS = 4096
COARSE_LEVELS = 256

# What `dpt` writes beside results for other readers; the page shows the result itself.
_BESIDE = {"class_mask", "legend", "normals", CONFIDENCE}
# Besides PNG, which says itself what it is, files that a sidecar names: to look at, or with values.
_LOSSY = {".jpg", ".jpeg", ".webp"}
_FLOATS = {".npy", ".npz", ".tif", ".tiff", ".pfm", ".exr"}


@dataclass(frozen=True)
class Found:
    """A result's file and what it says about itself; photo: where the photograph should lie."""

    path: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    photo: Path | None = None


@dataclass(frozen=True)
class Depth:
    """levels: uint16 (H, W), 0 … num_levels-1, large is near; far and near: their values."""

    levels: NDArray[np.uint16]
    num_levels: int
    far: float
    near: float


@dataclass(frozen=True)
class Labels:
    """values: pixel values (H, W); names and colors ("#rrggbb") by pixel value."""

    values: NDArray[np.integer]
    names: Mapping[int, str]
    colors: Mapping[int, str]


@dataclass(frozen=True)
class Picture:
    """A result to look at only, such as an overlay."""

    image: Image.Image


def find_results(
    folder: Path, *, photos: Path | None = None, leave_out: Path | None = None
) -> list[Found]:
    """Return what `dpt` wrote below a folder, one result for each photograph and task.

    Of several files for one photograph the one with the finest values is taken. photos: where the
    photographs lie, mirroring the folder, for results that do not say it. leave_out: a folder that
    is not searched.
    """
    best: dict[tuple[Path, str, str], tuple[int, Found]] = {}
    for path in _files(folder, leave_out):
        facts = _facts(path)
        kind = str(facts.get("kind", ""))
        if not facts or kind in _BESIDE:
            continue
        found = Found(path, facts, _find_photo(path, facts, folder, photos))
        task = "depth" if is_kind(kind) else "labels" if kind.startswith("labels") else kind
        key = (path.parent, str(found.photo or path), task)
        rank = _rank(path, facts)
        if key not in best or rank < best[key][0]:
            best[key] = (rank, found)
    found_all = [found for _, found in best.values()]
    return sorted(found_all, key=lambda item: _natural(str(item.path.relative_to(folder))))


def _files(folder: Path, leave_out: Path | None) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if name[0] != "." and Path(root, name) != leave_out
        )
        for name in sorted(names):
            if Path(name).suffix.lower() in {".png", *_LOSSY, *_FLOATS}:
                yield Path(root, name)


def _facts(path: Path) -> dict[str, Any]:
    """What a file says about itself or its sidecar says; nothing where `dpt` did not write it."""
    try:
        if path.suffix.lower() != ".png":
            sidecar = find_sidecar(path)
            named = {} if sidecar is None else read_sidecar(sidecar).get(FILES_KEY, {})
            return facts_beside(path) if path.name in named else {}
        with Image.open(path) as image:
            text = image.info.get(TEXT_KEY)  # .text would read the whole file
        facts = json.loads(text) if text else {}
    except Exception:
        logger.debug("%s is no result", printable(path), exc_info=True)
        return {}
    return facts if isinstance(facts, dict) else {}


def _rank(path: Path, facts: Mapping[str, Any]) -> int:
    """The finer the values that a file holds, the smaller."""
    suffix = path.suffix.lower()
    if facts.get("kind") == "labels_picture" or suffix in _LOSSY:
        return 3
    if suffix in _FLOATS:
        return 0
    with Image.open(path) as image:
        return 0 if image.mode.startswith("I") else 1 if image.mode in ("L", "P") else 2


def _find_photo(
    path: Path, facts: Mapping[str, Any], folder: Path, photos: Path | None
) -> Path | None:
    if isinstance(facts.get("photo"), str) and "\0" not in facts["photo"]:
        said = Path(os.path.normpath(path.parent / facts["photo"]))
        if photos is None or said.is_file():
            return said
    if photos is not None:
        base = photos / path.relative_to(folder).with_suffix("")
        for suffix in (*sorted(IMAGE_SUFFIXES), *sorted(READ_SUFFIXES - IMAGE_SUFFIXES)):
            for candidate in (base.with_name(base.name + s) for s in (suffix, suffix.upper())):
                if candidate.is_file():
                    return candidate
    return None


def _natural(text: str) -> list[Any]:
    """Sort 2 before 10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]


def read_result(found: Found) -> Depth | Labels | Picture:
    """Read a result's values. Raises ImageError for one that is damaged."""
    kind = found.facts.get("kind")
    try:
        if found.path.suffix.lower() in _FLOATS:
            values = read_map(found.path).values
            return _from_inverse(values) if near_is_large(kind) else _from_depth(values)
        with Image.open(found.path) as image:
            image.load()
            mode = image.mode
            if mode in ("RGB", "RGBA"):
                depth = _from_colors(image, found.facts) if is_kind(kind) else None
                return depth or Picture(image.convert("RGBA"))
            palette = image.getpalette() if mode == "P" else None
        stored = read_map(found.path)
        if is_kind(kind):
            if "scale" in found.facts:
                return _from_depth(stored.values / float(found.facts["scale"]))
            top = int(np.iinfo(stored.values.dtype).max)
            if found.facts.get("no_value") is not None and not near_is_large(kind):
                return _from_depth(stored.decoded())
            return _depth(stored.values, top, found.facts)
        return _labels(found.path, stored.values, palette)
    except DptError:
        raise
    except Exception as error:  # Pillow and NumPy raise nearly every type for broken data
        raise ImageError(f"{printable(found.path)} cannot be read ({error})") from error


def _depth(levels: NDArray[Any], top: int, facts: Mapping[str, Any]) -> Depth:
    """Turn levels 0 … top into levels that grow with nearness."""
    first, last = float(facts.get("first", 0)), float(facts.get("last", 1))
    # A larger value is nearer in inverse depth and farther in depth.
    rising = (last >= first) == near_is_large(facts.get("kind"))
    num_levels = min(top + 1, FINE_LEVELS)
    scaled = levels.astype(np.uint32)
    if top + 1 > num_levels:
        scaled = (scaled * (num_levels - 1) + top // 2) // top
    fine = scaled.astype(np.uint16)
    if rising:
        return Depth(fine, num_levels, far=first, near=last)
    return Depth((num_levels - 1 - fine).astype(np.uint16), num_levels, far=last, near=first)


def _from_depth(depth: NDArray[np.floating]) -> Depth:
    """Spread depth, in metres or without a scale, over levels, 0 where nothing was measured."""
    measured = np.isfinite(depth) & (depth > 0)
    near, far = (float(f(depth[measured])) for f in (np.min, np.max)) if measured.any() else (0, 0)
    span = far - near if far > near else 1.0
    with np.errstate(invalid="ignore"):
        levels = np.where(measured, (far - depth) / span * (FINE_LEVELS - 1), 0)
    return Depth(np.rint(levels).astype(np.uint16), FINE_LEVELS, far=far, near=near)


def _from_inverse(values: NDArray[np.floating]) -> Depth:
    """Spread inverse depth over levels; what is not finite counts as far."""
    far, near = finite_range(values)
    levels = scale_to_levels(values, lo=far, hi=near, levels=FINE_LEVELS)
    return Depth(levels, FINE_LEVELS, far=far, near=near)


def _from_colors(image: Image.Image, facts: Mapping[str, Any]) -> Depth | None:
    """Look the levels up that a colormap made these colours from, where it is known and exact."""
    if not {"colormap", "first", "last"} <= set(facts) or facts.get("gamma", 1) != 1:
        return None
    lut = depth_lut(str(facts["colormap"])).astype(np.uint32)
    keys = (lut[:, 0] << 16) | (lut[:, 1] << 8) | lut[:, 2]
    order = np.argsort(keys, kind="stable")
    rgb = np.asarray(image.convert("RGB")).astype(np.uint32)
    pixels = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
    places = np.minimum(np.searchsorted(keys[order], pixels), len(keys) - 1)
    levels = order[places]
    if (keys[levels] != pixels).any():  # a colour bar, a photograph beside it: not a plain map
        return None
    return _depth(levels, len(lut) - 1, facts)


def _labels(path: Path, values: NDArray[Any], palette: list[int] | None) -> Labels:
    names, colors = _read_names(path)
    for value in np.unique(values).tolist():
        if value not in colors and value in names:
            rgb = (palette or [])[3 * value : 3 * value + 3] or [128, 128, 128]
            colors[value] = "#" + bytes(rgb).hex()
    return Labels(values, names, colors)


def _read_names(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Names and colours from NAME.labels.json, or from labels.json in this or an outer folder."""
    own = path.with_suffix(".labels.json")
    for candidate in (own, *(parent / "labels.json" for parent in path.parents)):
        try:
            content = json.loads(candidate.read_text(encoding="utf-8"))
            names = {int(label): str(name) for label, name in content["labels"].items()}
            colors = {int(label): str(color) for label, color in content["colors"].items()}
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.debug("%s names no classes: %r", printable(candidate), error)
            continue
        good = {key: c for key, c in colors.items() if re.fullmatch(r"#[0-9a-fA-F]{6}", c)}
        return names, good
    return {}, {}


def find_failures(folder: Path) -> list[tuple[str, str]]:
    """Return (image, reason) from every failures.jsonl below a folder."""
    found = []
    for path in sorted(folder.rglob(FAILURES_NAME)):
        try:
            lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
            items = [json.loads(line) for line in lines if line.strip()]
            found += [(printable(str(i["input"])), printable(str(i["error"]))) for i in items]
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is no list of failures: %s", printable(path), error)
    return found
