"""A panorama's map at another size: its left and right borders are neighbours, poles are points."""

import numpy as np
from numpy.typing import NDArray

from dptcli.panorama.geometry import Extent, Floats, Size

_SHARPNESS = -0.75  # of the cubic: what PyTorch's resizing has
_BORDER = 2
_BAND_PIXELS = 1_000_000  # at once: bounds the memory beyond the result


def resized(values: Floats, hw: Size, extent: Extent) -> Floats:
    """A panorama's map, float32 (h, w), at `hw`, between its pixels by cubics."""
    if values.shape == hw:
        return values
    height, width = hw
    bordered = with_border(values, extent, _BORDER)
    columns, shares = _taps(values.shape[1], width)
    wide = np.zeros((len(bordered), width), np.float32)
    for column, share in zip(columns, shares, strict=True):
        wide += bordered[:, column] * share
    rows, shares = _taps(values.shape[0], height)
    result = np.zeros(hw, np.float32)
    step = max(1, _BAND_PIXELS // width)
    for first in range(0, height, step):
        band = slice(first, first + step)
        for row, share in zip(rows, shares, strict=True):
            result[band] += wide[row[band]] * share[band, None]
    return result


def with_border(values: Floats, extent: Extent, border: int) -> Floats:
    """A map (h, w) with as many more pixels on each side, as the sphere has
    them; where the panorama ends they are its last ones.
    """
    width = values.shape[1]
    upper, lower = values[:border][::-1], values[-border:][::-1]
    above, below = extent.has_poles
    # Behind a pole lies the other side. A map of fewer rows than the border repeats its last one.
    upper = np.roll(upper, width // 2, axis=1) if above and extent.is_closed else upper[-1:]
    lower = np.roll(lower, width // 2, axis=1) if below and extent.is_closed else lower[:1]
    upper = np.concatenate([np.repeat(upper[:1], border - len(upper), axis=0), upper])
    lower = np.concatenate([lower, np.repeat(lower[-1:], border - len(lower), axis=0)])
    tall = np.concatenate([upper, values, lower])
    place = np.arange(-border, width + border)
    return tall[:, place % width if extent.is_closed else place.clip(0, width - 1)]


def _taps(length: int, wanted: int) -> tuple[list[NDArray[np.int64]], list[Floats]]:
    """Which 4 of the bordered pixels make each of `wanted`, and their shares (Keys 1981)."""
    place = (np.arange(wanted) + 0.5) * (length / wanted) - 0.5
    first = np.floor(place).astype(np.int64)
    offset = place - first
    a = _SHARPNESS
    shares = []
    for step in (-1, 0, 1, 2):
        far = np.abs(offset - step)
        near = (a + 2) * far**3 - (a + 3) * far**2 + 1
        away = a * (far**3 - 5 * far**2 + 8 * far - 4)
        shares.append(np.where(far <= 1, near, away).astype(np.float32))
    return [first + step + _BORDER for step in (-1, 0, 1, 2)], shares
