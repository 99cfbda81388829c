"""A value for each pixel as the mean of fixed bins, weighted by what a network says of each.

B batch, K bins, H×W pixels.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SPACINGS = ("linear", "log")


def spaced(low: float, high: float, count: int, *, by: str, device: torch.device) -> Tensor:
    """Bins (K,) from low to high, in equal steps or in equal ratios (`by` "log")."""
    if by == "linear":
        return torch.linspace(low, high, count, device=device)
    first, last = torch.tensor([low, high]).log().tolist()
    return torch.linspace(first, last, count, device=device).exp()


def _by_relu(scores: Tensor, floor: float) -> Tensor:
    return F.relu(scores) + floor


SHARES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "linear": _by_relu,
    "softmax": lambda scores, _: scores.softmax(dim=1),
    "sigmoid": lambda scores, _: scores.sigmoid(),
}
"""Name -> from scores (B, K, H, W) to weights, not yet of the sum 1."""


def mean_of_bins(scores: Tensor, bins: Tensor, *, share: str = "linear", floor: float) -> Tensor:
    """Scores (B, K, H, W) and bins (K,) -> the weighted mean (B, H, W).

    floor: what "linear" adds to every weight. Both sums are one product over the bins, so that
    scores of a megapixel, a gigabyte in 256 bins, are held twice at most.
    """
    weights = SHARES[share](scores, floor)
    both = torch.stack((bins.to(weights.dtype), torch.ones_like(bins, dtype=weights.dtype)))
    sums = F.conv2d(weights, both[:, :, None, None])  # (B, 2, H, W)
    return sums[:, 0] / sums[:, 1]
