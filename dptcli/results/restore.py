"""From a result back to its numbers, and what a file is: `dpt restore` and `dpt info`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.depth.camera import exif_focal_35mm
from dptcli.errors import ImageError
from dptcli.evaluation.maps import MAP_SUFFIXES, StoredMap, own_facts, read_map
from dptcli.inputs.decode import printable
from dptcli.results.sidecar import FILES_KEY, facts_about, facts_beside, find_sidecar, read_sidecar

RESTORABLE = (*MAP_SUFFIXES, ".exr")

_EXIF_ORIENTATION = 0x0112
_TURNS = {
    1: "upright",
    2: "mirrored",
    3: "turned by 180°",
    4: "upside down, mirrored",
    5: "turned by 90° and mirrored",
    6: "turned by 90° to the left",
    7: "turned by 90° and mirrored",
    8: "turned by 90° to the right",
}


@dataclass(frozen=True)
class Restored:
    """A map that was read back.

    values: float32 (H, W), NaN where the file has no value. max_error: what rounding may have cost,
    in the unit of the values. facts: what the file says about itself.
    """

    values: NDArray[np.float32]
    max_error: float
    facts: dict[str, Any]


def restore(path: Path) -> Restored:
    """Read a result back as the float map that it was made from.

    16-bit pictures within half a level (`max_error`), float formats exactly. Raises ImageError for
    a file that is no map, or a 16-bit picture that does not say what its levels mean.
    """
    if not path.exists():
        raise ImageError(f"{printable(path)} does not exist; check the path")
    if path.is_dir():
        raise ImageError(f"{printable(path)} is a folder; name one of its files at a time")
    if path.suffix.lower() not in RESTORABLE:
        raise ImageError(
            f"{printable(path)} holds no values to restore; they come from "
            f"{', '.join(RESTORABLE)} files{_better(path)}"
        )
    try:
        stored = read_map(path)
    except ImageError as error:
        hint = _better(path)
        raise ImageError(f"{error}{hint}") if hint else error from error
    facts = stored.facts
    if facts.get("kind") == "labels":
        raise ImageError(f"{printable(path)} is a mask: its pixels are the class ids as they are")
    integers = stored.values.dtype.kind in "bui"
    if integers and "scale" not in facts and "last" not in facts:
        raise ImageError(
            f"{printable(path)} does not say what its levels mean; keep its .json beside it"
        )
    if facts.get("gamma", 1.0) != 1.0 or "shows" in facts:
        raise ImageError(
            f"{printable(path)} was made for the eye, not to be restored{_better(path)}"
        )
    values = stored.decoded() / float(facts.get("scale") or 1.0)
    if integers and facts.get("no_value") is not None:
        values[stored.values == facts["no_value"]] = np.nan
    return Restored(values.astype(np.float32), _max_error(stored, facts), facts)


def _max_error(stored: StoredMap, facts: dict[str, Any]) -> float:
    if stored.values.dtype.kind == "f":
        return 0.0
    if "last" in facts:
        top = float(np.iinfo(stored.values.dtype).max)
        low, high = sorted((float(facts["first"]), float(facts["last"])))
        if facts.get("no_value") is not None:  # values beyond the range are absent, not moved
            return (high - low) / top / 2
        # Values beyond a range that was asked for ended at its nearer end.
        clipped = max(low - float(facts.get("min", low)), float(facts.get("max", high)) - high)
        return max((high - low) / top / 2, clipped)
    return 0.5 / float(facts["scale"])  # a map of somebody else's


def _better(path: Path) -> str:
    """Name a file beside a picture from which its values do come back."""
    sidecar = find_sidecar(path)
    names = read_sidecar(sidecar).get(FILES_KEY, {}) if sidecar is not None else {}
    for name in names:
        other = path.with_name(Path(name).name)
        holds_values = names[name].get("max_error") is not None
        if other != path and holds_values and other.is_file():
            return f"; its values are in {printable(other)}"
    return ""


def describe(path: Path) -> dict[str, Any]:
    """Return what a file is: photograph, result or sidecar, its size, and what it says of itself.

    Raises ImageError for a file that is missing or neither.
    """
    if not path.is_file():
        raise ImageError(f"{printable(path)} does not exist or is no file; check the path")
    about: dict[str, Any] = {"file": str(path), "bytes": path.stat().st_size}
    suffix = path.suffix.lower()
    if suffix == ".json":
        return {**about, "is": "facts about results", **read_sidecar(path)}
    if suffix in {".ply", ".glb"}:
        what = "point cloud" if suffix == ".ply" else "mesh"
        return {**about, "is": what, **facts_beside(path)}
    if suffix in {".npy", ".npz", ".pfm", ".exr"}:
        stored = read_map(path)
        return {**about, "is": _what(stored.facts, "map"), **_array(stored.values), **stored.facts}
    return {**about, **_describe_image(path)}


def _describe_image(path: Path) -> dict[str, Any]:
    try:
        with Image.open(path) as image:
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
            image.load()
            facts = own_facts(image)
            about: dict[str, Any] = {
                "format": image.format,
                "height": image.height,
                "width": image.width,
                "mode": image.mode,
            }
            extrema = image.getextrema() if image.mode in {"L", "P", "F", "I", "I;16"} else None
    except Exception as error:  # Pillow raises nearly every type for broken data
        reason = printable(str(error) or type(error).__name__)
        raise ImageError(f"{printable(path)} is no image, map or mesh ({reason})") from error
    facts = facts_about(path, facts)
    about["is"] = _what(facts, "image")
    if extrema is not None:
        about["levels"] = list(extrema)
    if not facts:
        about["exif_orientation"] = f"{orientation} ({_TURNS.get(orientation, 'unknown')})"
        if (focal := exif_focal_35mm(path)) is not None:
            about["focal_35mm"] = focal
    return {**about, **facts}


def _what(facts: dict[str, Any], otherwise: str) -> str:
    kinds = {
        "inverse_depth": "inverse depth (large is near)",
        "depth": "depth without scale (large is far)",
        "depth_m": "depth in metres",
        "height_m": "height in metres (large is high)",
        "labels": "mask of class ids",
        "normals": "surface normals",
        "confidence": "confidence (large is sure)",
    }
    return kinds.get(str(facts.get("kind")), otherwise)


def _array(values: NDArray[Any]) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    ends = [float(finite.min()), float(finite.max())] if finite.size else None
    height, width = values.shape
    return {"dtype": str(values.dtype), "height": height, "width": width, "range": ends}
