"""Depth Anything v1 and V2 (Yang et al. 2024): DINOv2, DPT's neck, a head at the image's size.

Relative models answer inverse depth (large is near); metric ones a fraction of `max_depth` in
metres. Names follow the hub's state dict.
B batch, C channels of the fused maps, H×W pixels, h×w patches.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.kinds import kind_of
from dptcli.model.backbones.auto import AutoBackbone
from dptcli.model.checks import pair_of
from dptcli.model.dpt import asked_for
from dptcli.model.families.depth_anything.config import DepthAnythingConfig
from dptcli.model.heads import Head
from dptcli.model.layers import GrowBilinear
from dptcli.model.losses import depth_loss
from dptcli.model.neck import Neck
from dptcli.model.outputs import DepthEstimatorOutput
from dptcli.model.pretrained import Pretrained


class DepthAnythingHead(Head):
    """Three convolutions; the map grows to the image's size after the first."""

    def __init__(self, config: DepthAnythingConfig) -> None:
        super().__init__()
        channels = config.fusion_hidden_size
        self.index = config.head_in_index
        self.patch_hw = pair_of("patch_size", config.patch_size)
        self.metric = config.depth_estimation_type == "metric"
        self.max_depth = 1.0 if config.max_depth is None else config.max_depth
        self.conv1 = nn.Conv2d(channels, channels // 2, kernel_size=3, padding=1)
        self.grow = GrowBilinear()
        self.conv2 = nn.Conv2d(channels // 2, config.head_hidden_size, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(config.head_hidden_size, 1, kernel_size=1)

    def tail(self) -> tuple[nn.Conv2d | None, Sequence[nn.Module]]:
        return self.conv1, [self.conv2, self.conv3]

    def forward(self, fused: Sequence[Tensor], image_hw: tuple[int, int]) -> Tensor:
        """Fused maps (B, C, ·, ·) -> depth (B, H', W'), the image without an incomplete patch."""
        x = self.conv3(F.relu(self.conv2(self.grown(fused, image_hw))))
        x = torch.sigmoid(x) if self.metric else F.relu(x)
        return (x * self.max_depth).squeeze(1)

    def grown(self, fused: Sequence[Tensor], image_hw: tuple[int, int]) -> Tensor:
        """Fused maps -> what the last two convolutions see (B, C // 2, H', W')."""
        height, width = (
            side // patch * patch for side, patch in zip(image_hw, self.patch_hw, strict=True)
        )
        return self.grow(self.conv1(fused[self.index]), (height, width))


class DepthAnythingForDepthEstimation(Pretrained):
    """A Depth Anything model. Any height and width of at least one patch."""

    config_class = DepthAnythingConfig
    config: DepthAnythingConfig

    def __init__(self, config: DepthAnythingConfig) -> None:
        super().__init__(config)
        assert config.backbone_config is not None
        self.backbone = AutoBackbone.from_config(config.backbone_config)
        self.neck = Neck(config)
        self.head = DepthAnythingHead(config)
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
        """Estimate depth.

        pixel_values: (B, C, H, W), normalised. labels: measured depths (B, H', W'), not measured
        where zero, negative or not finite; in metres for a metric model.
        Returns predicted_depth (B, h·patch, w·patch): inverse depth, large is near (relative), or
        metres (metric); and the loss for the labels.
        """
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        found = self.backbone.features(
            pixel_values, head_mask=head_mask, need_states=want_states, need_weights=want_weights
        )
        image_hw = (pixel_values.shape[-2], pixel_values.shape[-1])
        predicted_depth = self.head(self.neck(found.maps), image_hw)
        loss = None
        if labels is not None:
            loss = depth_loss(predicted_depth, labels, kind=kind_of(self.config))
        output = DepthEstimatorOutput(
            loss=loss,
            predicted_depth=predicted_depth,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        return output if as_object else output.to_tuple()
