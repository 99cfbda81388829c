"""Read maps: one number a pixel, from PNG, TIFF, NPY, NPZ or PFM, as they were stored."""

import importlib.util
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.errors import ImageError
from dptcli.inputs.decode import printable
from dptcli.results.sidecar import POLARITY, TEXT_KEY, UNIT, facts_about

_TIFF_DESCRIPTION = 270

# In the order in which a folder is searched: exact floats before anything that was rounded.
MAP_SUFFIXES = (".npy", ".npz", ".pfm", ".tiff", ".tif", ".png")


@dataclass(frozen=True)
class StoredMap:
    """values (H, W) as stored, and what the file or its sidecar NAME.json says about them.

    facts may hold "kind" (depth_m, depth, inverse_depth, labels), "scale", and "first" and "last":
    the values of level 0 and of the top level of a picture that spreads a range. has_colours:
    whether the values are the numbers of a palette's colours.
    """

    values: NDArray[Any]
    facts: dict[str, Any] = field(default_factory=dict)
    has_colours: bool = False

    def decoded(self) -> NDArray[np.float64]:
        """Return the values (H, W) as float64, levels turned back into what they stand for.

        NaN where a picture's level says that there is none.
        """
        values = self.values.astype(np.float64)
        if "first" not in self.facts or "last" not in self.facts:
            return values
        first, last = float(self.facts["first"]), float(self.facts["last"])
        decoded = first + (last - first) * values / float(np.iinfo(self.values.dtype).max)
        if self.facts.get("no_value") is not None:
            decoded[self.values == self.facts["no_value"]] = np.nan
        return decoded


def read_map(path: Path) -> StoredMap:
    """Read one map of shape (H, W).

    Raises ImageError, by name, for a file that is missing, damaged, empty, or a colour picture.
    """
    name = printable(path)
    facts: dict[str, Any] = {}
    has_colours = False
    try:
        if path.suffix.lower() in (".npy", ".npz"):
            values, facts = _read_numpy(path)
        elif path.suffix.lower() == ".pfm":
            values = _read_pfm(path)
        elif path.suffix.lower() == ".exr":
            values = _read_exr(path)
        else:
            values, facts, has_colours = _read_picture(path)
    except FileNotFoundError as error:
        raise ImageError(f"{name} does not exist; check the path") from error
    except ImageError:
        raise
    except Exception as error:  # Pillow and NumPy raise nearly every type for broken data
        reason = printable(str(error) or type(error).__name__)
        raise ImageError(f"{name} cannot be read as a map ({reason}); export it again") from error
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):  # a channel or batch of one
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or 0 in values.shape:
        raise ImageError(f"{name} has shape {values.shape}; a map needs (height, width)")
    if values.dtype.kind not in "buif":
        raise ImageError(f"{name} holds {values.dtype}; a map needs integers or floats")
    return StoredMap(values, facts_about(path, facts), has_colours)


def _read_numpy(path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    """The map, and what its name in an .npz says of it."""
    # allow_pickle=False: a pickle may run any code.
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded, {}
    with loaded:
        # What our archives and those of other networks for depth have beside it is no map of it.
        ours = [name for name in ("inverse_depth", "depth_m", "depth") if name in loaded.files]
        if len(loaded.files) != 1 and not ours:
            keys = ", ".join(loaded.files) or "nothing"
            raise ImageError(f"{printable(path)} holds {keys}; a map's .npz holds one array")
        kind = [*ours, *loaded.files][0]
        known = {"kind": kind, "unit": UNIT.get(kind), "polarity": POLARITY.get(kind)}
        return loaded[kind], known if kind in UNIT else {}


def _read_pfm(path: Path) -> NDArray[np.float32]:
    """One-channel PFM: "Pf", width and height, scale (below 0: little endian), rows upwards."""
    with path.open("rb") as stream:
        if stream.readline().strip() != b"Pf":
            raise ImageError(f"{printable(path)} is no one-channel PFM; its first line must be Pf")
        width, height = (int(word) for word in stream.readline().split())
        order = "<" if float(stream.readline()) < 0 else ">"
        values = np.frombuffer(stream.read(), dtype=f"{order}f4", count=height * width)
    return values.reshape(height, width)[::-1].astype(np.float32)


def _read_exr(path: Path) -> NDArray[Any]:
    """One channel of OpenEXR, which is an optional dependency."""
    if importlib.util.find_spec("OpenEXR") is None:
        raise ImageError(f"{printable(path)} needs OpenEXR to be read; pip install 'dptcli[exr]'")
    import OpenEXR

    with path.open("rb"):  # what is missing is said as for other files
        channels = OpenEXR.File(str(path)).channels()
    if len(channels) != 1:
        raise ImageError(f"{printable(path)} holds {', '.join(channels)}; a map has one channel")
    values: NDArray[Any] = next(iter(channels.values())).pixels
    return values


def _read_picture(path: Path) -> tuple[NDArray[Any], dict[str, Any], bool]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken metadata does not matter to the values
        with Image.open(path) as image:
            image.load()
            if image.mode not in ("1", "L", "P", "F") and not image.mode.startswith("I"):
                raise ImageError(
                    f"{printable(path)} is a colour picture ({image.mode}), which cannot be turned "
                    "back into values; write maps as 8- or 16-bit grey, e.g. dpt depth --bits 16"
                )
            values = np.asarray(image)
            facts = own_facts(image)
            palette = image.getpalette() if image.mode == "P" else None
    greys = [level for level in range(256) for _ in "rgb"]
    return values, facts, palette is not None and palette != greys[: len(palette)]


def own_facts(image: Image.Image) -> dict[str, Any]:
    """What a picture that dpt wrote says about itself: a PNG's text, a TIFF's description."""
    text = getattr(image, "text", {}).get(TEXT_KEY)
    is_described = text is None and image.format == "TIFF"
    if is_described:
        text = getattr(image, "tag_v2", {}).get(_TIFF_DESCRIPTION)
    try:
        facts = json.loads(text) if text else {}
    except (ValueError, TypeError):
        return {}
    # A description may be anybody's, JSON too (microscopes' and tifffile's), with words like ours.
    is_ours = isinstance(facts, dict) and (not is_described or "dpt" in facts)
    return facts if is_ours else {}


def resize_map(values: NDArray[Any], hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return a map (H, W) at `hw`, float32: bilinear, pixel centres aligned, averaged on shrinking.

    A non-finite value spreads to all that is made from it. Source: the KITTI and NYU protocols
    resize the prediction, never the target.
    """
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    if image.size != hw[::-1]:
        image = image.resize(hw[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image)


def resize_labels(labels: NDArray[Any], hw: tuple[int, int]) -> NDArray[np.int32]:
    """Return labels (H, W) at `hw`, each pixel its nearest one: no class is invented."""
    image = Image.fromarray(np.ascontiguousarray(labels, dtype=np.int32))
    if image.size != hw[::-1]:
        image = image.resize(hw[::-1], Image.Resampling.NEAREST)
    return np.asarray(image)
