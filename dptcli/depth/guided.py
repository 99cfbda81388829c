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
# Less than one pixel of a photograph is of a window, and more than what sums of float64 leave of 0.
_LEAST_SHARE = 1e-6
# Of a window's pixels around their middle, in pixels squared: less says nothing of a slant.
_LEAST_SPREAD = 0.1
_BAND_PIXELS = 1_000_000  # applied at once: bounds the memory beyond the result


def refine_edges(
    values: NDArray[np.float32],
    rgb: NDArray[np.uint8],
    *,
    kind: Kind,
    network_hw: tuple[int, int],
    apart: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Return depth float32 (H, W) with its edges moved to the photograph's, within its own range.

    rgb: the photograph, uint8 (H', W', 3). kind: what the values are. network_hw: what the network
    saw. apart: bool (H, W), what has no surface, the sky. It stays as it is and has no say in what
    is beside it, as pixels that are not finite and depths that are not positive.
    """
    known = np.isfinite(values) if apart is None else np.isfinite(values) & ~apart
    if near_is_large(kind):
        return _refine(values, rgb, known, network_hw=network_hw)
    # In inverse depth planes are linear in the picture, and a far background does not outweigh all.
    known &= values > 0
    inverse = np.divide(1, values, out=np.zeros_like(values), where=known)
    refined = _refine(inverse, rgb, known, network_hw=network_hw)
    return np.divide(1, refined, out=values.copy(), where=known)


def _refine(
    values: NDArray[np.float32],
    rgb: NDArray[np.uint8],
    known: NDArray[np.bool_],
    *,
    network_hw: tuple[int, int],
) -> NDArray[np.float32]:
    height, width = values.shape
    if min(height, width) < 2 or not known.any():
        return values
    lo = float(values.min(where=known, initial=np.inf))
    hi = float(values.max(where=known, initial=-np.inf))
    grid_hw = (
        max(2, min(height, -(-network_hw[0] // _COARSENESS))),
        max(2, min(width, -(-network_hw[1] // _COARSENESS))),
    )
    slopes, offset = _fit(*_on_grid(values, rgb, known, grid_hw))
    if rgb.shape[:2] != values.shape:
        rgb = _resized(rgb, (height, width), Image.Resampling.BILINEAR).astype(np.uint8)
    refined = np.empty_like(values)
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
    np.copyto(refined, values, where=~known)
    return refined


def _on_grid(
    values: NDArray[np.float32],
    rgb: NDArray[np.uint8],
    known: NDArray[np.bool_],
    grid_hw: tuple[int, int],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
    """The means of what is known: values (h, w), colours (h, w, 3) in 0…1, and its share (h, w).

    Share None: all is known.
    """
    if known.all():
        return _boxed(values, grid_hw), _boxed(rgb, grid_hw) / 255, None
    share = _boxed(known.astype(np.float32), grid_hw)
    means = _boxed(np.where(known, values, np.float32(0)), grid_hw)
    # A cell at the border has the colour of its own side alone, too.
    there = known
    if rgb.shape[:2] != known.shape:
        rgb_hw = (rgb.shape[0], rgb.shape[1])
        nearest = _resized(known.astype(np.uint8), rgb_hw, Image.Resampling.NEAREST)
        there = nearest.astype(np.bool_)
    colours = _boxed(np.where(there[..., None], rgb, np.uint8(0)), grid_hw)
    of_colours = 255 * _boxed(there.astype(np.float32), grid_hw).clip(min=_LEAST_SHARE)
    return means / share.clip(min=_LEAST_SHARE), colours / of_colours[..., None], share


def _fit(
    values: NDArray[np.float64], guide: NDArray[np.float64], share: NDArray[np.float64] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit values (h, w) to colours (h, w, 3): the mean slopes (h, w, 3) and offsets (h, w).

    share: what each counts for, (h, w); None for all alike.
    """
    windows = _Windows(share)
    mean = windows.mean
    mean_value, mean_guide = mean(values), mean(guide)
    covariance = mean(guide * values[..., None]) - mean_guide * mean_value[..., None]
    products = mean(guide[..., :, None] * guide[..., None, :])
    scatter = products - mean_guide[..., :, None] * mean_guide[..., None, :]
    solved = np.linalg.solve(scatter + _REGULAR * np.eye(3), covariance[..., None])
    slopes = np.asarray(solved[..., 0], np.float64)
    offset = windows.mean_there(values) - (slopes * windows.mean_there(guide)).sum(-1)
    # A window's own line counts for as much as is known of the window.
    windows = windows.of_windows()
    return windows.mean(slopes).astype(np.float32), windows.mean_there(offset).astype(np.float32)


class _Windows:
    """Means over the window around each pixel of maps (h, w, …), each pixel by its share (h, w).

    Share None: all count alike.
    """

    def __init__(self, share: NDArray[np.float64] | None) -> None:
        self._share = share
        if share is None:
            return
        self._total = _box(share).clip(min=_LEAST_SHARE)
        self._places = np.moveaxis(np.indices(share.shape, np.float64), 0, -1)
        self._middle = self.mean(self._places)
        products = self.mean(self._places[..., :, None] * self._places[..., None, :])
        spread = products - self._middle[..., :, None] * self._middle[..., None, :]
        aside = (self._middle - self._places)[..., None]
        solved = np.linalg.solve(spread + _LEAST_SPREAD * np.eye(2), aside)
        self._lean = np.asarray(solved[..., 0], np.float64)

    def of_windows(self) -> "_Windows":
        """Windows of windows: each of these counts for what is known of it."""
        return _Windows(None if self._share is None else self._total)

    def mean(self, maps: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._share is None:
            return _box(maps)
        return _box(maps * _as_deep(self._share, maps)) / _as_deep(self._total, maps)

    def mean_there(self, maps: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean, where a window is known on one side alone: led on to its pixel, straight."""
        mean = there = self.mean(maps)
        if self._share is None:
            return mean
        for axis in (0, 1):
            place, middle, lean = (
                _as_deep(of[..., axis], maps) for of in (self._places, self._middle, self._lean)
            )
            there = there - lean * (self.mean(place * maps) - middle * mean)
        return there


def _as_deep(share: NDArray[np.float64], maps: NDArray[np.float64]) -> NDArray[np.float64]:
    return share.reshape(*share.shape, *(1,) * (maps.ndim - 2))


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


def _boxed(values: NDArray[np.generic], hw: tuple[int, int]) -> NDArray[np.float64]:
    """The mean of what each cell of a grid of `hw` covers."""
    return _resized(values, hw, Image.Resampling.BOX).astype(np.float64)


def _enlarged(
    values: NDArray[np.float32], shares: tuple[float, float], hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Enlarge the rows between two shares of the height to `hw`, bilinear; writable."""
    height, width = values.shape
    part = (0, shares[0] * height, width, shares[1] * height)
    resized = Image.fromarray(values).resize(hw[::-1], Image.Resampling.BILINEAR, box=part)
    return np.array(resized)
