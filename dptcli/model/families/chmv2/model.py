"""CHMv2 (2026): canopy height in metres by DINOv3, DPT's neck and bins.

B batch, C channels of the fused maps, K bins, H×W pixels, h×w patches.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.model.backbones.auto import AutoBackbone
from dptcli.model.bins import mean_of_bins, spaced
from dptcli.model.dpt import asked_for
from dptcli.model.families.chmv2.config import MIXED, CHMv2Config
from dptcli.model.heads import Head
from dptcli.model.layers import GrowBilinear
from dptcli.model.losses import depth_loss
from dptcli.model.neck import Neck
from dptcli.model.outputs import DepthEstimatorOutput
from dptcli.model.pretrained import Pretrained

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


class CHMv2ForDepthEstimation(Pretrained):
    """A CHMv2 model. Any height and width of at least one patch."""

    config_class = CHMv2Config
    config: CHMv2Config
    file_names: ClassVar[tuple[tuple[str, str], ...]] = (
        ("head.reassemble_stage.{q}", "neck.reassemble_stage.{q}"),
        ("head.convs.{q}", "neck.convs.{q}"),
        ("head.fusion_layers.{q}", "neck.fusion_stage.layers.{q}"),
        ("head.conv_depth.head.{q}", "head.head.{q}"),
    )

    def __init__(self, config: CHMv2Config) -> None:
        super().__init__(config)
        assert config.backbone_config is not None
        self.backbone = AutoBackbone.from_config(config.backbone_config)
        self.neck = Neck(config)
        self.head = CanopyHead(config)
        self.initialize()

    def forward(
        self,
        pixel_values: Tensor,
        head_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> DepthEstimatorOutput | tuple[Any, ...]:
        """Estimate heights above the ground, in metres.

        pixel_values: (B, C, H, W), normalised. labels: measured heights (B, H', W') in metres, not
        measured where zero, negative or not finite.
        Returns them as predicted_depth, (B, H, W) where both sides are multiples of two patches;
        and the loss for the labels, the mean absolute error.
        """
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        found = self.backbone.features(
            pixel_values, head_mask=head_mask, need_states=want_states, need_weights=want_weights
        )
        height_m = self.head(self.neck(found.maps))
        output = DepthEstimatorOutput(
            loss=None if labels is None else depth_loss(height_m, labels, kind="height_m"),
            predicted_depth=height_m,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        return output if as_object else output.to_tuple()
