"""How sure any network is: by how much its answer to the mirrored photograph disagrees.

A network that knows answers both alike; where it guesses, the two differ.
"""

import torch
from torch import Tensor

from dptcli.kinds import Kind, in_metres, near_is_large
from dptcli.running.windows import fit_scale_shift

_SAMPLED = 1_000_000
_EDGES = (0.02, 0.98)  # of the values that inverse depth spans


def agreement(depth: Tensor, mirrored: Tensor, kind: Kind) -> Tensor:
    """Depth (h, w) and that of the mirrored photograph, turned back -> confidence, 0 to 1.

    For depth, with d and m the two values of a pixel: min(d, m) / max(d, m), where of depth without
    a scale m is first multiplied by the median of d / m. So 0.5 is twice as far by one of the two.
    For inverse depth, which has neither scale nor shift, m is first fitted to d by least squares;
    then it is 1 - |d - m| / s, at least 0, where s is the spread of d: its 98 % less its 2 %
    quantile. So it is for heights, which are compared as they are. What is not finite has
    confidence 0.
    """
    known = depth.isfinite() & mirrored.isfinite()
    if not known.any():
        return torch.zeros_like(depth)
    first, second = _sampled(depth[known]), _sampled(mirrored[known])
    if near_is_large(kind):
        scale, shift = (1.0, 0.0) if in_metres(kind) else fit_scale_shift(second, first)
        low, high = torch.quantile(first, torch.tensor(_EDGES)).tolist()
        apart = (depth - (mirrored * scale + shift)).abs()
        found = 1 - apart / max(high - low, 1e-30)
    else:
        if kind == "depth":
            ratios = (first / second)[second > 0]
            mirrored = mirrored * (float(ratios.median()) if ratios.numel() else 1.0)
        least, most = torch.minimum(depth, mirrored), torch.maximum(depth, mirrored)
        found = torch.where(most > 0, least / most, (least == most).to(depth.dtype))
    return torch.where(known, found, 0.0).clamp(0, 1)


def _sampled(values: Tensor) -> Tensor:
    return values[:: max(1, values.numel() // _SAMPLED)]
