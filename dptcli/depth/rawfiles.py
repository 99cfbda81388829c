"""Writers of depth for programs: 16-bit PNG, TIFF, PFM, NPY, NPZ, OpenEXR.

Each writes into a stream that is open for binary writing and returns what its sidecar must say, so
that the values come back: floats as they are, levels as first + (last - first) * level / 65535.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin, TiffTags

from dptcli.depth.colormaps import finite_range, scale_to_levels
from dptcli.depth.depthmap import DepthMap
from dptcli.depth.splat import write_splat
from dptcli.kinds import CONFIDENCE
from dptcli.results.writers import save_png, write_array

Facts = dict[str, Any]

_TOP = 65_535

_PLACE_TYPES = {34735: TiffTags.SHORT, 34737: TiffTags.ASCII}


def write_png16(stream: BinaryIO, depth: DepthMap) -> Facts:
    """Write the image's own range over all 65,536 levels, the smallest value at 0.

    Where values are missing, level 0 stands for them ("no_value") and the smallest has level 1.
    """
    lowest, last = finite_range(depth.values)
    missing = ~np.isfinite(depth.values)
    is_whole = not missing.any()
    first = lowest if is_whole else lowest - (last - lowest) / (_TOP - 1)
    levels = scale_to_levels(depth.values, lo=first, hi=last, levels=_TOP + 1)
    if not last - lowest > 1e-30:
        levels = np.full_like(levels, 0 if is_whole else 1)  # a constant map comes back as `first`
    levels[missing] = 0
    facts = {
        **_spread(first, last),
        **({} if is_whole else {"no_value": 0}),
    }
    save_png(stream, Image.fromarray(levels), {**depth.facts, **facts}, smooth=True)
    return facts


def write_confidence(stream: BinaryIO, depth: DepthMap) -> Facts:
    """Write how sure the depth is over 65,536 levels, large is sure.

    They span 0 to 1 where that holds all values, else the image's own range.
    """
    assert depth.confidence is not None
    low, high = finite_range(depth.confidence)
    first, last = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    levels = scale_to_levels(depth.confidence, lo=first, hi=last, levels=_TOP + 1)
    facts = {
        "kind": CONFIDENCE,
        "unit": "none",
        "polarity": "large is sure",
        **_spread(first, last),
    }
    facts |= {"min": low, "max": high}
    save_png(stream, Image.fromarray(levels), {**depth.facts, **facts}, smooth=True)
    return facts


def _spread(first: float, last: float) -> Facts:
    """What says that a range lies over all levels."""
    return {"dtype": "uint16", "first": first, "last": last, "max_error": (last - first) / _TOP / 2}


def write_scaled_png(stream: BinaryIO, depth: DepthMap, *, scale: int) -> Facts:
    """Write metres × scale as 16 bits; 0 means no value: not finite, not positive, or too far.

    scale: 1000 for millimetres (up to 65.5 m), 256 as KITTI does it (up to 256 m).
    """
    scaled = np.nan_to_num(depth.values * np.float32(scale), nan=0.0, posinf=0.0, neginf=0.0)
    scaled += 0.5  # round to nearest: the cast truncates
    levels = np.where((scaled >= 1) & (scaled < _TOP + 1), scaled, 0).astype(np.uint16)
    facts = {
        "dtype": "uint16",
        "first": 0.0,
        "last": _TOP / scale,
        "levels_per_metre": scale,
        "no_value": 0,
        "num_without_value": int((levels == 0).sum()),
        "max_error": 0.5 / scale,
    }
    save_png(stream, Image.fromarray(levels), {**depth.facts, **facts}, smooth=True)
    return facts


def write_tiff(stream: BinaryIO, depth: DepthMap) -> Facts:
    """Write float32 TIFF, uncompressed: floats barely shrink. ImageDescription has the facts.

    A photograph's place on the ground (GeoTIFF) is the map's too.
    """
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = json.dumps(depth.facts, default=str)
    if depth.place is not None:
        height, width = depth.values.shape
        for tag, values in depth.place.scaled((height, width)).items():
            tags.tagtype[tag] = _PLACE_TYPES.get(tag, TiffTags.DOUBLE)
            tags[tag] = values
    Image.fromarray(depth.values).save(stream, "TIFF", tiffinfo=tags)
    return _as_they_are()


def write_pfm(stream: BinaryIO, depth: DepthMap) -> Facts:
    """Write a one-channel PFM: rows from the bottom up, a negative scale for little endian.

    Source: the format that MiDaS writes.
    """
    height, width = depth.values.shape
    scale = -1.0 if sys.byteorder == "little" else 1.0
    stream.write(f"Pf\n{width} {height}\n{scale:f}\n".encode())
    stream.write(np.ascontiguousarray(depth.values[::-1], dtype=np.float32).tobytes())
    return _as_they_are()


def write_npy(stream: BinaryIO, depth: DepthMap) -> Facts:
    """Write a NumPy array, float32 (H, W)."""
    write_array(stream, depth.values)
    return _as_they_are()


def write_npz(stream: BinaryIO, depth: DepthMap) -> Facts:
    """Write a compressed NumPy archive: the kind's name (H, W), and what readers of scenes expect.

    Those have an axis of views, here one: `depth` (1, H, W) where large is far, and where they are
    known `conf` (1, H, W), large is sure, `intrinsics` (1, 3, 3) in pixels of the map, `extrinsics`
    (1, 3, 4), world to camera (float64 where it was given). Source: what Depth Anything 3 writes. A
    map of the kind "depth" is there once, in their shape.
    """
    arrays: dict[str, Any] = {depth.kind: depth.values}  # Any: NumPy before 2 has no allow_pickle
    if not depth.near_is_large:
        arrays["depth"] = depth.values[None]
    if depth.confidence is not None:
        arrays["conf"] = depth.confidence[None]
    if depth.lens is not None and not depth.lens.is_assumed:
        arrays["intrinsics"] = depth.lens.matrix()[None]
    if depth.extrinsics is not None:
        arrays["extrinsics"] = depth.extrinsics[None]
    np.savez_compressed(stream, **arrays)
    return {**_as_they_are(), "array": depth.kind, "arrays": [*arrays]}


def write_exr(stream: BinaryIO, depth: DepthMap) -> Facts:
    """Write OpenEXR with one float32 channel: Z for metres, Y for inverse depth."""
    import OpenEXR

    channel = "Y" if depth.near_is_large else "Z"
    header = {
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "comments": json.dumps(depth.facts, default=str),
    }
    # The library writes to a path only, and the stream may be standard output.
    with tempfile.TemporaryDirectory(prefix="dpt-exr-") as folder:
        path = Path(folder) / "depth.exr"
        values = np.ascontiguousarray(depth.values)
        try:
            OpenEXR.File(header, {channel: values}).write(str(path))
        except RuntimeError as error:  # the library's only one, whose words name its own file
            reason = str(error).rsplit('". ', 1)[-1].rstrip(".")
            raise OSError(None, reason) from error
        stream.write(path.read_bytes())
    return {**_as_they_are(), "channel": channel}


def _as_they_are() -> Facts:
    return {"dtype": "float32", "max_error": 0.0}


RAW_WRITERS: Mapping[str, Callable[[BinaryIO, DepthMap], Facts]] = {
    "png16": write_png16,
    "mm": lambda stream, depth: write_scaled_png(stream, depth, scale=1000),
    "x256": lambda stream, depth: write_scaled_png(stream, depth, scale=256),
    "tiff": write_tiff,
    "pfm": write_pfm,
    "npy": write_npy,
    "npz": write_npz,
    "exr": write_exr,
    "confidence": write_confidence,
    "splat": write_splat,
}
