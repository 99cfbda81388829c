"""How the depth of a scene without a unit becomes metres: one factor, by another network's metres.

Source: NestedDepthAnything3Net of Depth Anything 3's own code, which draws 100,000 pixels at random
where a quantile is of more.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_TOO_FEW = 10  # pixels that are not sky; then all of them count
_LEAST, _LEAST_M = 1e-3, 1e-2  # nearer is no depth
_FAR = 0.99  # the sky lies as far as all but 1 % of the rest
_SAMPLED = 1_000_000  # torch.quantile sorts, and takes no more than 16 million


class Aligned(NamedTuple):
    """scale: what times a scene's depth is metres. sky_m: how far its sky lies. Scalars."""

    scale: Tensor
    sky_m: Tensor


def align(
    depth: Tensor, confidence: Tensor, metric_m: Tensor, sky: Tensor, *, max_sky_m: float
) -> Aligned:
    """One scene's maps, (…, H, W) each, sky a mask -> its factor, and its sky's depth.

    The factor is that of least squares over the surer half of what is not sky.
    """
    ground = ~sky
    if int(ground.sum()) <= _TOO_FEW:
        ground = torch.ones_like(sky)
    used = (
        ground
        & (confidence >= _quantile(confidence[ground], 0.5))
        & (metric_m > _LEAST_M)
        & (depth > _LEAST)
    )
    relative, metres = depth[used], metric_m[used]
    scale = (metres * relative).sum() / relative.square().sum().clamp(min=1e-12)
    return Aligned(scale, (_quantile(depth[ground], _FAR) * scale).clamp(max=max_sky_m))


def _quantile(values: Tensor, share: float) -> Tensor:
    step = max(1, values.numel() // _SAMPLED)
    return torch.quantile(values[::step].float(), share)
