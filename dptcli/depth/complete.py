"""Gaps in a measured depth map, filled from what is measured around them.

Inverse depth is interpolated: along a flat surface it is linear in the picture, so that a harmonic
fill (each unknown pixel the mean of its neighbours) meets floors, walls and roads between the lines
of a LiDAR. It stays within the nearest and farthest measured depth, and invents no edge: between
two surfaces it passes from one to the other. Coarse grids start the finer ones, so a map takes a
few passes over its pixels whatever the size of its gaps.
"""

import numpy as np
from numpy.typing import NDArray

MOST_SIDE = 1024
"""A sparse map of a longer side is averaged down to it: between its points nothing finer is known.
"""

_SWEEPS = 12  # on each grid; a coarser one has settled what is farther away than that


def is_measured(depth_m: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Where a depth map (h, w) holds a depth: 0, negative and non-finite values are none."""
    return np.asarray(np.isfinite(depth_m) & (depth_m > 0))


def complete(depth_m: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a depth map (h, w) with its gaps filled, float32; measured pixels stay as they are.

    depth_m: 0, negative or not finite where nothing was measured. One with gaps whose longer side
    is above MOST_SIDE comes back smaller. Raises ValueError where nothing at all was measured.
    """
    known = is_measured(depth_m)
    if known.all():
        return depth_m.astype(np.float32)
    if not known.any():
        raise ValueError("no pixel of the depth map is measured")
    step = -(-max(depth_m.shape) // MOST_SIDE)
    inverse, measured = _gathered(depth_m, known, step)
    completed = (1 / _filled(inverse, measured)).astype(np.float32)
    if step == 1:
        completed[known] = depth_m[known]  # to the bit
    return completed


def _gathered(
    depth_m: NDArray[np.floating], known: NDArray[np.bool_], step: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean inverse depth of what is known in each step×step, and where there is any."""
    rows, columns = np.nonzero(known)
    hw = (-(-known.shape[0] // step), -(-known.shape[1] // step))
    cells = (rows // step) * hw[1] + columns // step
    total = np.bincount(cells, 1 / depth_m[rows, columns].astype(np.float64), hw[0] * hw[1])
    count = np.bincount(cells, minlength=hw[0] * hw[1])
    return (total / np.maximum(count, 1)).reshape(hw), (count > 0).reshape(hw)


def _filled(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    if known.all():
        return values
    coarse = _filled(*_halved(values, known))
    grown = _doubled(_doubled(coarse).T).T[: values.shape[0], : values.shape[1]]
    filled = np.where(known, values, grown)
    for _ in range(_SWEEPS):
        around = np.pad(filled, 1, mode="edge")
        mean = (around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]) / 4
        filled = np.where(known, values, mean)
    return filled


def _halved(
    values: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Half the size, rounded up: the means of what is known in each 2×2, and where there is any."""
    height, width = values.shape
    pad = ((0, height % 2), (0, width % 2))
    blocks = ((height + 1) // 2, 2, (width + 1) // 2, 2)
    total = np.pad(np.where(known, values, 0), pad).reshape(blocks).sum((1, 3))
    count = np.pad(known, pad).reshape(blocks).sum((1, 3))
    return total / np.maximum(count, 1), count > 0


def _doubled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(h, w) -> (2h, w), linear between the centres of pixels."""
    around = np.pad(values, ((1, 1), (0, 0)), mode="edge")
    pairs = np.stack(
        (0.75 * values + 0.25 * around[:-2], 0.75 * values + 0.25 * around[2:]), axis=1
    )
    return pairs.reshape(2 * values.shape[0], -1)
