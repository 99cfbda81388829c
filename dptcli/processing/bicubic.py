"""Bicubic enlarging of one large map on the CPU: torch's numbers in a quarter of its time.

torch computes every pixel of the result from 16 pixels of the source. Along the width and then
along the height they are 4 and 4, and the second step is a small matrix product for each band of
rows, which stays in the processor's cache: 12 megapixels take 0.05 s of processor time, not 0.2 s.
"""

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
    places, weights = _taps(rows, height)
    enlarged = np.empty(hw, np.float32)
    step = max(1, _MOST_WORK // (5 * width))
    for start in range(0, height, step):
        band = slice(start, start + step)
        first, last = places[band].min(), places[band].max()
        mix = np.zeros((len(places[band]), last - first + 1), np.float32)
        np.add.at(mix, (np.arange(len(mix))[:, None], places[band] - first), weights[band])
        np.matmul(mix, wide[first : last + 1], out=enlarged[band])
        if limits is not None:  # while the band is in the cache: the whole map takes 20 ms more
            np.clip(enlarged[band], *limits, out=enlarged[band])
    return torch.from_numpy(enlarged)


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
