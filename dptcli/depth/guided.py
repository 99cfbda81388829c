"""Depth whose edges lie on the photograph's edges: a guided filter on a coarse grid.

He, Sun, Tang: Guided Image Filtering, 2010; its fast form: He, Sun: Fast Guided Filter, 2015. In
every window the depth is explained as a linear function of the photograph's colour, and that
function is applied at the photograph's own resolution.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.kinds import Kind, near_is_large

# The grid has a pixel for each 2×2 of the network's: finer ones cost four times as much and measure
# the same. A window of 17×17 of them spans the blur of the network's edges.
_COARSENESS = 2
_RADIUS = 8
REACH = 2 * (_RADIUS + 1) * _COARSENESS
"""How far from a pixel of the network's others have a say in it: windows of windows."""
# Contrast below a tenth of the full range (its square) is taken for texture, not for an edge.
_REGULAR = 0.01
_BAND_PIXELS = 1_000_000  # applied at once: bounds the memory beyond the result


def refine_edges(
    values: NDArray[np.float32],
    rgb: NDArray[np.uint8],
    *,
    kind: Kind,
    network_hw: tuple[int, int],
) -> NDArray[np.float32]:
    """Return depth float32 (H, W) with its edges moved to the photograph's, within its own range.

    rgb: the photograph, uint8 (H', W', 3). kind: what the values are. network_hw: what the network
    saw. Pixels that are not finite, and depths that are not positive, stay as they are.
    """
    if near_is_large(kind):
        return _refine(values, rgb, network_hw=network_hw)
    # In inverse depth planes are linear in the picture, and a far background does not outweigh all.
    good = values > 0
    inverse = np.divide(1, values, out=np.full_like(values, np.nan), where=good)
    refined = _refine(inverse, rgb, network_hw=network_hw)
    return np.divide(1, refined, out=values.copy(), where=good & np.isfinite(refined))


def _refine(
    values: NDArray[np.float32], rgb: NDArray[np.uint8], *, network_hw: tuple[int, int]
) -> NDArray[np.float32]:
    height, width = values.shape
    finite = np.isfinite(values)
    if min(height, width) < 2 or not finite.any():
        return values
    known = values if finite.all() else np.where(finite, values, values[finite].mean())
    lo, hi = float(known.min()), float(known.max())
    grid_hw = (
        max(2, min(height, -(-network_hw[0] // _COARSENESS))),
        max(2, min(width, -(-network_hw[1] // _COARSENESS))),
    )
    slopes, offset = _fit(
        _resized(known, grid_hw, Image.Resampling.BOX).astype(np.float64),
        _resized(rgb, grid_hw, Image.Resampling.BOX).astype(np.float64) / 255,
    )
    if rgb.shape[:2] != values.shape:
        rgb = _resized(rgb, (height, width), Image.Resampling.BILINEAR).astype(np.uint8)
    refined = np.empty_like(known)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = slice(top, min(height, top + rows))
        shares = (band.start / height, band.stop / height)
        total = _enlarged(offset, shares, (band.stop - band.start, width))
        for channel in range(3):
            slope = _enlarged(slopes[..., channel], shares, (len(total), width))
            slope *= rgb[band, :, channel]
            slope /= 255
            total += slope
        np.clip(total, lo, hi, out=refined[band])
    refined[~finite] = values[~finite]
    return refined


def _fit(
    values: NDArray[np.float64], guide: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit values (h, w) to colours (h, w, 3): the mean slopes (h, w, 3) and offsets (h, w)."""
    mean_value, mean_guide = _box(values), _box(guide)
    covariance = _box(guide * values[..., None]) - mean_guide * mean_value[..., None]
    products = _box(guide[..., :, None] * guide[..., None, :])
    scatter = products - mean_guide[..., :, None] * mean_guide[..., None, :]
    slopes = np.linalg.solve(scatter + _REGULAR * np.eye(3), covariance[..., None])[..., 0]
    offset = mean_value - (slopes * mean_guide).sum(-1)
    return _box(slopes).astype(np.float32), _box(offset).astype(np.float32)


def _box(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean over the window around each pixel.

    Near the border the window shrinks on both sides alike: a lopsided one would flatten the ground.
    """
    for axis in (0, 1):
        length = values.shape[axis]
        summed = np.cumsum(values, axis=axis)
        summed = np.insert(summed, 0, 0.0, axis=axis)
        place = np.arange(length)
        radius = np.minimum(_RADIUS, np.minimum(place, length - 1 - place))
        first, last = place - radius, place + radius + 1
        count = (last - first).reshape([-1 if other == axis else 1 for other in range(values.ndim)])
        values = (summed.take(last, axis) - summed.take(first, axis)) / count
    return values


def _resized(
    values: NDArray[np.generic], hw: tuple[int, int], how: Image.Resampling
) -> NDArray[np.generic]:
    if values.shape[:2] == hw:
        return values
    return np.asarray(Image.fromarray(values).resize(hw[::-1], how))


def _enlarged(
    values: NDArray[np.float32], shares: tuple[float, float], hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Enlarge the rows between two shares of the height to `hw`, bilinear; writable."""
    height, width = values.shape
    part = (0, shares[0] * height, width, shares[1] * height)
    resized = Image.fromarray(values).resize(hw[::-1], Image.Resampling.BILINEAR, box=part)
    return np.array(resized)
