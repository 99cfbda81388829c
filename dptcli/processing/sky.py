"""The sky in a depth map: networks answer anything there, so it gets one value, far away."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from dptcli.processing.rings import grow

_QUANTILE = 0.99  # the authors' of Depth Anything 3
_TOO_FEW = 10  # pixels, of sky or of all else, that change nothing
_SAMPLED = 1_000_000
_REACH = 2  # pixels that a bicubic kernel takes on each side


def sky_far(depth: torch.Tensor, sky: torch.Tensor, *, near_is_large: bool = False) -> torch.Tensor:
    """Depth (H, W) with its sky, bool (H, W), as far as all but 1 % of the rest.

    A map that is nearly all sky, or has nearly none, comes back as it is. Source: Depth Anything
    3's own code, which draws the quantile from 100,000 pixels at random.
    """
    rest = depth[~sky]
    if rest.numel() <= _TOO_FEW or int(sky.sum()) <= _TOO_FEW:
        return depth
    rest = rest[:: max(1, rest.numel() // _SAMPLED)]
    far = torch.quantile(rest.float(), 1 - _QUANTILE if near_is_large else _QUANTILE)
    return torch.where(sky, far.to(depth.dtype), depth)


def mask_at(sky: torch.Tensor, hw: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask, bool (h, w), at (height, width) `hw`, by the nearest pixel."""
    resized = F.interpolate(sky[None, None].float(), hw, mode="nearest-exact")[0, 0]
    return np.asarray(resized.numpy() > 0)


def without_jump(depth: torch.Tensor, sky: torch.Tensor) -> torch.Tensor:
    """Depth (H, W) whose sky begins as what lies beside it, so that it can be resized.

    Between a roof at 10 m and its sky at 200 there is nothing: a resized jump would give the roof's
    edge some 100 m, or, since bicubic overshoots, less than 0. The sky itself is put in afterwards.
    """
    filled, known = grow(depth, ~sky, _REACH)
    return torch.where(known, filled, depth.float())


def put_in(depth: torch.Tensor, ended: torch.Tensor, sky: torch.Tensor) -> torch.Tensor:
    """Depth (H, W) with the sky of the smaller map `ended` (h, w), sharp where it begins."""
    hw = (depth.shape[0], depth.shape[1])
    both = torch.stack((ended.float(), sky.float()))[None]
    of_sky, is_sky = F.interpolate(both, hw, mode="nearest-exact")[0]
    return torch.where(is_sky > 0, of_sky, depth)
