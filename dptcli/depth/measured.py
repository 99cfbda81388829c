"""Measured depth maps: of a sensor, of another program, of this one."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import ImageError
from dptcli.evaluation.maps import read_map
from dptcli.inputs.decode import printable

FARTHEST_M = 1000.0
_OTHERS = ("inverse_depth", "disparity", "labels", "height_m", "confidence", "normals")
_TOO_NEAR_M = 0.03  # half of an integer map nearer than this: its levels are not what was said
_TOO_NEAR_FOR_BYTES_M = 0.5


def read_metres(path: Path, *, levels_per_metre: float) -> NDArray[np.float64]:
    """Read a measured depth map (h, w) in metres; 0 and non-finite values: not measured.

    levels_per_metre: of integers; floats are metres. Raises ImageError for what is no such map, and
    where half of its pixels would lie nearer or farther than anything is measured.
    """
    stored = read_map(path)
    kind = stored.facts.get("kind")
    # Somebody else's archive may call metres "depth"; in a file of ours it has no scale.
    if kind in _OTHERS or (kind == "depth" and "dpt" in stored.facts):
        what = "depth without a scale" if kind == "depth" else kind
        raise ImageError(f"{printable(path)} holds {what}, not depth in metres")
    if stored.has_colours:
        raise ImageError(f"{printable(path)} is a coloured picture, not depth in metres")
    metres = stored.decoded()
    is_integer = stored.values.dtype.kind in "bui"
    if is_integer and "last" not in stored.facts:
        metres = metres * (1 / levels_per_metre)  # for millimetres ·0.001, as the reference does
    known = metres[np.isfinite(metres) & (metres > 0)]
    usual = float(np.median(known)) if known.size else 1.0
    is_near = is_integer and usual < _TOO_NEAR_M
    if stored.values.dtype == np.uint8 and "last" not in stored.facts:
        is_near |= 255 / levels_per_metre < _TOO_NEAR_FOR_BYTES_M
    if is_near or usual > FARTHEST_M:
        remedy = "floats must be metres"
        if is_integer:
            remedy = f"--anchor-scale says how many levels make a metre, here {levels_per_metre:g}"
        raise ImageError(f"{printable(path)} holds {usual:.4g} m in the middle; {remedy}")
    return metres
