"""The formats that depth is written in: names, file endings, what each one is. Loads nothing."""

import difflib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dptcli.errors import UsageError

Group = Literal["picture", "map", "shape", "stereo"]

SIDECAR_SUFFIX = ".json"


@dataclass(frozen=True)
class Format:
    """One way of writing depth.

    group: "picture" for the eye, "map" for programs (the values come back), "shape" in space,
    "stereo" the photograph in two views.
    needs_metres: it stores lengths and has no place for relative depth. needs_camera: it says where
    things are, or has a place for the camera. needs_sure: it says how sure
    the depth is. extra: the optional dependency, (module, name of the
    extra).
    """

    name: str
    suffix: str
    group: Group
    summary: str
    needs_metres: bool = False
    needs_camera: bool = False
    needs_sure: bool = False
    extra: tuple[str, str] | None = None


FORMATS = {
    item.name: item
    for item in (
        Format("color", ".png", "picture", "colours (or grey), PNG"),
        Format("jpg", ".jpg", "picture", "colours (or grey), JPEG"),
        Format("webp", ".webp", "picture", "colours (or grey), WebP"),
        Format("png16", ".depth16.png", "map", "16-bit grey over the image's own range"),
        Format("mm", ".depth-mm.png", "map", "16-bit millimetres", needs_metres=True),
        Format("x256", ".depth-x256.png", "map", "16-bit metres × 256", needs_metres=True),
        Format("tiff", ".tiff", "map", "float32 TIFF"),
        Format("pfm", ".pfm", "map", "float32 PFM, as MiDaS writes it"),
        Format("npy", ".npy", "map", "float32 NumPy array"),
        Format("npz", ".npz", "map", "the same, compressed", needs_camera=True),
        Format(
            "confidence",
            ".confidence.png",
            "map",
            "how sure the depth is, 16-bit grey",
            needs_sure=True,
        ),
        Format("exr", ".exr", "map", "float32 OpenEXR", extra=("OpenEXR", "exr")),
        Format("splat", ".png", "map", "16-bit inverse depth, fitted to COLMAP's points"),
        Format("ply", ".ply", "shape", "coloured point cloud", needs_camera=True),
        Format("glb", ".glb", "shape", "textured mesh", needs_camera=True),
        Format("normals", ".normals.png", "shape", "surface normals as colours", needs_camera=True),
        # Endings that players of stereo know: left-right, top-bottom, F for each in full.
        Format("sbs", "_LRF.jpg", "stereo", "two views side by side"),
        Format("sbs-half", "_LR.jpg", "stereo", "the same, each half as wide"),
        Format("tb", "_TBF.jpg", "stereo", "two views, the left eye's above"),
        Format("tb-half", "_TB.jpg", "stereo", "the same, each half as high"),
        Format("anaglyph", "_anaglyph.jpg", "stereo", "two views for red and cyan glasses"),
        Format(
            "vr180", "_180x180_LR.jpg", "stereo", "half a sphere for each eye", needs_camera=True
        ),
    )
}
DEFAULT_FORMAT = FORMATS["color"]

# What people call them, too.
_ALIASES = {
    "colour": "color",
    "png": "color",
    "jpeg": "jpg",
    "tif": "tiff",
    "numpy": "npy",
    "mesh": "glb",
    "points": "ply",
    "normal": "normals",
    "hsbs": "sbs-half",
    "half-sbs": "sbs-half",
    "htb": "tb-half",
    "half-tb": "tb-half",
    "redcyan": "anaglyph",
}
_SAME_ENDING = {".jpeg": ".jpg", ".tif": ".tiff"}
# What other programs write, and what we write in its stead.
_IN_ITS_STEAD = {
    **dict.fromkeys((".obj", ".stl", ".fbx", ".dae", ".gltf", ".3mf", ".blend"), "glb"),
    **dict.fromkeys((".usd", ".usda", ".usdc", ".usdz"), "glb"),
    **dict.fromkeys((".las", ".laz", ".pcd", ".xyz", ".pts", ".e57"), "ply"),
    **dict.fromkeys((".mat", ".h5", ".hdf5", ".pt", ".pth", ".pkl", ".csv"), "npy"),
    ".hdr": "exr",
}


def parse_formats(text: str | None, *, out: str) -> tuple[Format, ...]:
    """Read --format; without it the ending of OUT decides, and colours are the default.

    Raises UsageError for an unknown name, for a format whose optional dependency is missing, and
    for an OUT that ends as files do that we cannot write.
    """
    _refuse_foreign(out)
    if text is None:
        by_ending = {item.suffix: item for item in reversed(FORMATS.values())}  # the first of each
        chosen: tuple[Format, ...] = (by_ending.get(ending(out), DEFAULT_FORMAT),)
    else:
        names = [word.strip().lower() for word in text.split(",") if word.strip()]
        chosen = tuple(dict.fromkeys(_find(name) for name in names))
    if not chosen:
        raise UsageError(f"--format {text!r} names no format, e.g. --format color,npy")
    shared = [item.name for item in chosen if item.suffix == DEFAULT_FORMAT.suffix]
    if len(shared) > 1:
        raise UsageError(
            f"--format {' and '.join(shared)} are both NAME{DEFAULT_FORMAT.suffix}; take webp or "
            "jpg for the picture"
        )
    for item in chosen:
        if item.extra is not None and importlib.util.find_spec(item.extra[0]) is None:
            raise UsageError(
                f"--format {item.name} needs {item.extra[0]}; pip install 'dptcli[{item.extra[1]}]'"
            )
    return chosen


def _refuse_foreign(out: str) -> None:
    nearest = _IN_ITS_STEAD.get(ending(out))
    if nearest is None or out.endswith(("/", os.sep)) or Path(out).is_dir():
        return
    item = FORMATS[nearest]
    raise UsageError(
        f"no result is a {ending(out)} file; {item.name} is the nearest ({item.summary}): instead "
        f"of {out!r} name {out[: -len(ending(out))] + item.suffix!r}"
    )


def ending(name: str | Path) -> str:
    """Return a file name's ending in the spelling of FORMATS: x.JPEG -> .jpg."""
    suffix = Path(name).suffix.lower()
    return _SAME_ENDING.get(suffix, suffix)


def result_stem(name: str) -> str:
    """Return a result's name without its format's suffix: v1.0.depth16.png -> v1.0."""
    suffixes = [item.suffix for item in FORMATS.values() if name.lower().endswith(item.suffix)]
    longest = max(suffixes, key=len, default=Path(name).suffix)
    return name[: -len(longest)] if longest else name


def needs_sidecar(chosen: Sequence[Format]) -> bool:
    """Tell whether any file cannot carry its own facts as a PNG's text does."""
    return any(item != DEFAULT_FORMAT for item in chosen)


def _find(name: str) -> Format:
    known = FORMATS.get(_ALIASES.get(name, name))
    if known is not None:
        return known
    close = difflib.get_close_matches(name, [*FORMATS, *_ALIASES], n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UsageError(f"unknown format {name!r}; {hint}there are {', '.join(FORMATS)}")
