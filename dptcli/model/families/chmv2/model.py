"""CHMv2 (2026): canopy height in metres by DINOv3, DPT's neck and bins.

B batch, C channels of the fused maps, K bins, H×W pixels, h×w patches.
"""

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.kinds import Kind
from dptcli.model.bins import mean_of_bins, spaced
from dptcli.model.families.chmv2.config import MIXED, CHMv2Config
from dptcli.model.families.estimator import DepthEstimator
from dptcli.model.heads import Head
from dptcli.model.layers import GrowBilinear

_MIXED_SHARE = 8.0  # the mixed bins cover an eighth of the range, and the mean is taken so often
_FLOORS = {MIXED: 1e-8, "linear": 0.1}  # fixed in the reference


class CanopyHead(Head):
    """Convolutions to a score for each bin, and their mean in metres."""

    def __init__(self, config: CHMv2Config) -> None:
        super().__init__()
        channels, hidden = config.fusion_hidden_size, config.head_hidden_size
        self.num_bins = config.number_output_channels
        self.low_m, self.high_m = config.min_depth, config.max_depth
        self.spacing, self.share = config.bins_strategy, config.norm_strategy
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels // 2, kernel_size=3, padding=1),
            GrowBilinear(),
            nn.Conv2d(channels // 2, hidden, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, self.num_bins, kernel_size=1),
        )

    def tail(self) -> tuple[nn.Conv2d | None, Sequence[nn.Module]]:
        return cast("nn.Conv2d", self.head[0]), [self.head[1:]]

    def forward(self, fused: Sequence[Tensor]) -> Tensor:
        """Fused maps (B, C, h, w) -> heights (B, 2h, 2w) in metres, of the last map."""
        scores = self.head(fused[-1])
        if self.num_bins == 1:
            return (F.relu(scores) + self.low_m).squeeze(1)
        mixed = self.share == MIXED
        height_m = mean_of_bins(
            scores,
            self.bins(scores.device),
            share="linear" if mixed else self.share,
            floor=_FLOORS.get(self.share, 0.0),
        )
        return height_m * _MIXED_SHARE if mixed else height_m

    def bins(self, device: torch.device) -> Tensor:
        """The bins (K,); mixed ones go from logarithmic at the ground to linear at the top."""
        if self.spacing != MIXED:
            return spaced(self.low_m, self.high_m, self.num_bins, by=self.spacing, device=device)
        ends = self.low_m, self.high_m / _MIXED_SHARE, self.num_bins
        low = torch.linspace(1.0, 0.0, self.num_bins, device=device)
        linear, log = (spaced(*ends, by=by, device=device) for by in ("linear", "log"))
        return low * log + (1.0 - low) * linear


class CHMv2ForDepthEstimation(DepthEstimator):
    """A CHMv2 model. Any height and width of at least one patch.

    predicted_depth: heights above the ground in metres, (B, H, W) where both sides are multiples of
    two patches. The loss is the mean absolute error.
    """

    config_class = CHMv2Config
    config: CHMv2Config
    head: CanopyHead
    file_names: ClassVar[tuple[tuple[str, str], ...]] = (
        ("head.reassemble_stage.{q}", "neck.reassemble_stage.{q}"),
        ("head.convs.{q}", "neck.convs.{q}"),
        ("head.fusion_layers.{q}", "neck.fusion_stage.layers.{q}"),
        ("head.conv_depth.head.{q}", "head.head.{q}"),
    )

    def head_of(self, config: CHMv2Config) -> CanopyHead:
        return CanopyHead(config)

    def maps_of(self, fused: Sequence[Tensor], _image_hw: tuple[int, int]) -> dict[str, Tensor]:
        return {"predicted_depth": self.head(fused)}

    def kind_of_loss(self) -> Kind:
        return "height_m"
