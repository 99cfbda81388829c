"""The photograph as a second eye sees it, by its depth: moved, what is uncovered filled.

The photograph is the left eye's view. Both look the same way, the right one from a place to the
right, so that everything moves along its row, to the left the nearer it is (its disparity).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Between two neighbouring pixels a surface is stretched at most so far; beyond it is two things.
_MOST_STRETCH = 2.5
_BAND_PIXELS = 500_000  # moved at once: bounds the memory
_UNSEEN = np.float32(-1)

Floats = NDArray[np.float32]


def second_view(
    rgb: NDArray[np.uint8], disparity: Floats
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return what the right eye sees, uint8 (H, W, 3), and where it saw what the left did not.

    rgb: the left eye's view. disparity: how far each of its pixels (H, W) moves to the left.
    What is uncovered is filled with what lies beside it and farther away, mirrored at the edge.
    """
    height, width = disparity.shape
    view, holes = np.empty_like(rgb), np.empty((height, width), np.bool_)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = slice(top, top + rows)
        source = _seen_from(disparity[band])
        holes[band] = source < 0
        view[band] = _sampled(rgb[band], _filled(source, disparity[band]))
    return view, holes


def crisp(disparity: Floats, *, blur_px: int) -> Floats:
    """Return disparity (H, W) with steps where a network's soft edges ramp from thing to thing.

    blur_px: how far such a ramp reaches to each side. Each of its pixels goes to the nearer of both
    ends; then all that is near grows by a pixel, for the photograph's edges are mixed from both,
    and a mixed pixel that stayed behind would be a rim around the thing. Slanted surfaces stay.
    """
    high, low = (_extreme(disparity, blur_px, pick) for pick in (np.maximum, np.minimum))
    is_edge = high - low > np.maximum(2, 0.3 * (2 * blur_px + 1))
    ends = np.where(disparity - low < high - disparity, low, high)
    stepped = np.where(is_edge, ends, disparity)
    grown = _extreme(stepped, 1, np.maximum)
    return np.where(grown - stepped > 1, grown, stepped)


def _seen_from(disparity: Floats) -> Floats:
    """Return which column of the left view each pixel of the right one shows; _UNSEEN for none.

    Where several would be seen, the one farthest to the right in the left view is nearest: it has
    moved farthest to the left.
    """
    height, width = disparity.shape
    place = np.arange(width, dtype=np.float32) - disparity
    start, length = place[:, :-1], np.diff(place, axis=1)
    # A length below 0 is a surface that the right eye sees from behind.
    is_surface = (length > 0) & (length <= _MOST_STRETCH)
    first = np.ceil(start)
    seen = np.full((height, width), _UNSEEN)
    row, column = np.nonzero(is_surface)
    start, length, first = start[is_surface], length[is_surface], first[is_surface]
    for step in range(int(_MOST_STRETCH) + 1):
        target = first + step
        share = (target - start) / length
        inside = (share < 1) & (target >= 0) & (target < width)
        found = np.full((height, width), _UNSEEN)
        # Of several for one pixel the last is kept, which in its row is the one to the right.
        found[row[inside], target[inside].astype(np.intp)] = (column + share)[inside]
        seen = np.maximum(seen, found)
    return seen


def _filled(source: Floats, disparity: Floats) -> Floats:
    """Return the columns of `_seen_from` with those for what was uncovered."""
    height, width = source.shape
    column = np.broadcast_to(np.arange(width), (height, width))
    known = source >= 0
    before = np.maximum.accumulate(np.where(known, column, -1), axis=1)
    after = np.minimum.accumulate(np.where(known, column, width)[:, ::-1], axis=1)[:, ::-1]
    row = np.arange(height)[:, None]
    near = np.round(np.clip(source, 0, width - 1)).astype(np.intp)
    moved = np.where(known, disparity[row, near], np.inf)
    at_before = np.where(before >= 0, moved[row, np.maximum(before, 0)], np.inf)
    at_after = np.where(after < width, moved[row, np.minimum(after, width - 1)], np.inf)
    to_right = at_after <= at_before  # what lies farther away moves less
    edge = np.clip(np.where(to_right, after, before), 0, width - 1)
    mirrored = np.clip(2 * edge - column, 0, width - 1)
    # Only as far as the same surface goes.
    alike = np.abs(moved[row, mirrored] - moved[row, edge]) <= 2
    return np.where(known, source, source[row, np.where(alike, mirrored, edge)])


def _sampled(rgb: NDArray[np.uint8], source: Floats) -> NDArray[np.uint8]:
    """Return the colours at columns between pixels; (H, W, 3)."""
    width = rgb.shape[1]
    source = np.clip(source, 0, width - 1)
    left = np.minimum(source.astype(np.intp), width - 2 if width > 1 else 0)
    share = (source - left)[..., None]
    row = np.arange(len(rgb))[:, None]
    mixed = rgb[row, left] * (1 - share) + rgb[row, np.minimum(left + 1, width - 1)] * share
    return np.asarray(mixed + 0.5).astype(np.uint8)


def _extreme(values: Floats, reach: int, pick: Callable[..., Any]) -> Floats:
    """Return the largest or smallest value of the square window of `reach` around each pixel."""
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (reach, reach)
        moved = np.moveaxis(np.pad(values, padding, mode="edge"), axis, 0)
        size, wanted = 1, 2 * reach + 1
        while size < wanted:  # windows of twice the size, then of what is wanted
            step = min(size, wanted - size)
            moved = pick(moved[:-step], moved[step:])
            size += step
        values = np.moveaxis(moved, 0, axis)
    return values
