"""Metric bins (Bhat et al. 2023, section 3.2): depth in metres as a mean over adaptive bins.

Each pixel has its own bins. A seed regressor places them on the coarsest map, attractors pull their
centres at four finer ones, and a binomial over their order weighs them. Names follow the hub's
state dict.
B batch, E bin embedding channels, K bins, h×w a map's size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.model.families.zoedepth.config import Domain, ZoeDepthConfig

ATTRACTOR_ALPHA = 300.0  # whatever the configuration says, as in the reference
EPSILON = 1e-4  # of probabilities and temperatures
MIN_RAW = 1e-3  # added to what a ReLU may have made zero


class PixelMLP(nn.Module):
    """Two 1×1 convolutions with a ReLU between them."""

    def __init__(self, channels: int, *, hidden: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, kernel_size=1)
        self.conv2 = nn.Conv2d(hidden, out, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, out, h, w)."""
        return self.conv2(F.relu(self.conv1(x)))


@dataclass(frozen=True, kw_only=True)
class BinRule:
    """How raw network outputs place bin centres.

    normed: centres are kept as fractions of the domain's range, else in metres without bound.
    takes_mean: attractors pull by their mean, else by their sum.
    """

    domain: Domain
    normed: bool
    takes_mean: bool

    @property
    def points_per_attractor(self) -> int:
        """Channels for each attractor; normed ones have two, of which the first counts."""
        return 2 if self.normed else 1

    def first(self, raw: Tensor) -> Tensor:
        """The seed's output (B, K, h, w) -> bin centres (B, K, h, w)."""
        if not self.normed:
            return F.softplus(raw)
        widths = F.relu(raw) + MIN_RAW
        widths = widths / widths.sum(dim=1, keepdim=True)
        edges = F.pad(widths.cumsum(dim=1), (0, 0, 0, 0, 1, 0))  # (B, K + 1, h, w), 0 to 1
        return (edges[:, :-1] + edges[:, 1:]) / 2

    def attract(self, raw: Tensor, centres: Tensor) -> Tensor:
        """Pull the centres (B, K, h, w) towards the attractors in `raw`."""
        points = (F.relu(raw) + MIN_RAW)[:, ::2] if self.normed else F.softplus(raw)
        pull = torch.zeros_like(centres)
        for point in points.split(1, dim=1):  # one at a time: all at once cost A times the memory
            distance = point - centres
            pull = pull + distance / (1 + ATTRACTOR_ALPHA * distance.square())
        return centres + (pull / points.shape[1] if self.takes_mean else pull)

    def metres(self, centres: Tensor) -> Tensor:
        """Centres (B, K, h, w) in metres, in rising order where they are bounded."""
        if not self.normed:
            return centres
        low, high = self.domain.min_depth_m, self.domain.max_depth_m
        depths_m = (high - low) * centres + low
        return depths_m.sort(dim=1).values.clamp(low, high)


class ConditionalLogBinomial(nn.Module):
    """Weights of the bins: a binomial distribution over their order, one for each pixel."""

    def __init__(
        self, config: ZoeDepthConfig, *, channels: int, num_bins: int, shrink: int
    ) -> None:
        super().__init__()
        total = channels + config.bin_embedding_dim
        self.mlp = nn.Sequential(
            nn.Conv2d(total, total // shrink, kernel_size=1),
            nn.GELU(),
            nn.Conv2d(total // shrink, 4, kernel_size=1),  # two for each of two ratios
            nn.Softplus(),
        )
        self.num_bins = num_bins
        self.min_temp, self.max_temp = config.min_temp, config.max_temp

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, h, w) and (B, E, h, w) -> weights (B, K, h, w) that add up to 1."""
        parts = self.mlp(torch.cat((features, embedding), dim=1)) + EPSILON
        success = parts[:, :1] / (parts[:, :1] + parts[:, 1:2])
        warmth = parts[:, 2:3] / (parts[:, 2:3] + parts[:, 3:])
        temperature = (self.max_temp - self.min_temp) * warmth + self.min_temp
        order = torch.arange(self.num_bins, dtype=torch.float32, device=parts.device)
        order = order.view(1, -1, 1, 1)
        last = self.num_bins - 1
        scores = (
            _log_choose(torch.tensor(float(last), device=parts.device), order)
            + order * success.clamp(EPSILON, 1.0).log()
            + (last - order) * (1 - success).clamp(EPSILON, 1.0).log()
        )
        return (scores / temperature).softmax(dim=1).to(parts.dtype)


def _log_choose(n: Tensor, k: Tensor, *, epsilon: float = 1e-7) -> Tensor:
    """log(n over k) by Stirling's approximation."""
    n, k = n + epsilon, k + epsilon
    return n * n.log() - k * k.log() - (n - k) * (n - k + epsilon).log()


def depth_from_bins(
    x: Tensor,
    blocks: Sequence[Tensor],
    features: Tensor,
    *,
    rule: BinRule,
    seed: nn.Module,
    seed_projector: nn.Module,
    projectors: Iterable[nn.Module],
    attractors: Iterable[nn.Module],
    weigh: nn.Module,
) -> Tensor:
    """Place, refine and weigh the bins of one domain.

    x: the coarsest map (B, C, h, w); blocks: fused maps, coarse to fine, at most as many as there
    are refinements, which those without a map are left out of; features: of the
    relative head, at the output's size (H, W). Returns depth (B, H, W) in metres.
    """
    centres = rule.first(seed(x))
    embedding = seed_projector(x)
    for projector, attractor, block in zip(projectors, attractors, blocks, strict=False):
        coarser, embedding = embedding, projector(block)
        raw = attractor(embedding + _resized(coarser, like=embedding))
        centres = rule.attract(raw, _resized(centres, like=raw))
    weights = weigh(features, _resized(embedding, like=features))
    depths_m = _resized(rule.metres(centres), like=features)
    return (weights * depths_m).sum(dim=1)


def _resized(x: Tensor, *, like: Tensor) -> Tensor:
    # align_corners=True: the released weights were trained with it.
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)
