"""Bicubic enlarging of one large map on the CPU: torch's numbers in a quarter of its time.

torch computes every pixel of the result from 16 pixels of the source. Along the width and then
along the height they are 4 and 4, and the second step is a small matrix product for each band of
rows, which stays in the processor's cache: 12 megapixels take 0.05 s of processor time, not 0.2 s.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

_A = np.float32(-0.75)  # the cubic's free number, torch's choice
# Multiplications in one product. OpenBLAS starts threads above this; in a writer thread they would
# only wait for the network's.
_MOST_WORK = 4 * 65_536


def enlarge(
    plane: torch.Tensor, hw: tuple[int, int], *, limits: tuple[float, float] | None = None
) -> torch.Tensor:
    """A float32 CPU map (h, w) at (H, W), bicubic, align_corners=False, and clamped to `limits`.

    The order of four sums aside it is `F.interpolate`: a few 1e-7 of the values' range.
    """
    rows, (height, width) = plane.shape[0], hw
    # At equal heights this is torch's own step along the width, each row on its own.
    wide = F.interpolate(plane[None, None], (rows, width), mode="bicubic")[0, 0].numpy()
    mix, first, last = _mixture(rows, height)
    enlarged = np.empty(hw, np.float32)
    step = max(1, _MOST_WORK // (5 * width))
    for start in range(0, height, step):
        stop = min(start + step, height)
        seen = slice(first[start], last[stop - 1] + 1)
        np.matmul(mix[start:stop, seen], wide[seen], out=enlarged[start:stop])
        if limits is not None:  # while the band is in the cache: the whole map takes 20 ms more
            np.clip(enlarged[start:stop], *limits, out=enlarged[start:stop])
    return torch.from_numpy(enlarged)


@lru_cache(maxsize=4)
def _mixture(size: int, target: int) -> tuple[NDArray[np.float32], list[int], list[int]]:
    """Every target place as a sum of source places, (target, size); the first and last of each.

    Kept for the sizes of the last photographs: it takes as long as a third of the products.
    """
    places, weights = _taps(size, target)
    mix = np.zeros((target, size), np.float32)
    rows = np.arange(target)
    for tap in range(places.shape[1]):
        mix[rows, places[:, tap]] += weights[:, tap]
    mix.flags.writeable = False
    return mix, places[:, 0].tolist(), places[:, -1].tolist()


def _taps(size: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Which 4 source places make each target place, (target, 4), and their weights.

    Places beyond an edge are the edge. All in float32 as in torch's kernel, whose multiplication
    and subtraction are one step with one rounding: here float64 stands in for it.
    """
    scale = np.float64(np.float32(size) / np.float32(target))
    at = (scale * (np.arange(target) + 0.5) - 0.5).astype(np.float32)
    below = np.floor(at)
    offsets = np.arange(-1, 3)
    distance = np.abs((at - below)[:, None] - offsets.astype(np.float32))
    inner = ((_A + 2) * distance - (_A + 3)) * distance * distance + 1
    outer = ((_A * distance - 5 * _A) * distance + 8 * _A) * distance - 4 * _A
    weights = np.where(distance <= 1, inner, outer).astype(np.float32)
    return np.clip(below.astype(np.int64)[:, None] + offsets, 0, size - 1), weights
