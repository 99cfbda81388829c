"""Depth Anything 3 (Lin et al. 2025), for one photograph: DINOv2, DPT's neck, depth and sky.

Depth is an exponential, large is far: without a scale, or metres for a camera of the
configuration's focal length. Names follow Depth Anything's state dict.
B batch, C channels of the fused maps, H×W pixels, h×w patches.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.model.backbones.auto import AutoBackbone
from dptcli.model.dpt import asked_for
from dptcli.model.families.depth_anything.model import DepthAnythingHead
from dptcli.model.families.depth_anything_3.config import DepthAnything3Config
from dptcli.model.losses import depth_loss
from dptcli.model.neck import Neck
from dptcli.model.outputs import DepthAndSkyOutput
from dptcli.model.pretrained import Pretrained


class DepthAnything3Head(DepthAnythingHead):
    """Depth Anything's head with an exponential at its end, and a second end for the sky."""

    def __init__(self, config: DepthAnything3Config) -> None:
        super().__init__(config)
        channels, hidden = config.fusion_hidden_size // 2, config.head_hidden_size
        self.sky_conv2 = nn.Conv2d(channels, hidden, kernel_size=3, padding=1)
        self.sky_conv3 = nn.Conv2d(hidden, 1, kernel_size=1)

    def tail(self) -> tuple[nn.Conv2d | None, Sequence[nn.Module]]:
        return self.conv1, [self.conv2, self.conv3, self.sky_conv2, self.sky_conv3]

    def forward(  # type: ignore[override]  # two maps
        self, fused: Sequence[Tensor], image_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Fused maps (B, C, ·, ·) -> depth and sky (B, H', W'), the image in whole patches."""
        x = self.grown(fused, image_hw)
        depth = self.conv3(F.relu(self.conv2(x))).exp()
        sky = F.relu(self.sky_conv3(F.relu(self.sky_conv2(x))))
        return depth.squeeze(1), sky.squeeze(1)


class DepthAnything3ForDepthEstimation(Pretrained):
    """Depth Anything 3's mono and metric networks. Any height and width of at least one patch."""

    config_class = DepthAnything3Config
    config: DepthAnything3Config

    def __init__(self, config: DepthAnything3Config) -> None:
        super().__init__(config)
        assert config.backbone_config is not None
        self.backbone = AutoBackbone.from_config(config.backbone_config)
        self.neck = Neck(config)
        self.head = DepthAnything3Head(config)
        self.initialize()

    def forward(
        self,
        pixel_values: Tensor,
        head_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> DepthAndSkyOutput | tuple[Any, ...]:
        """Estimate depth and where the sky is.

        pixel_values: (B, C, H, W), normalised. labels: measured depths (B, H', W') in any unit, not
        measured where zero, negative or not finite.
        Returns predicted_depth (B, h·patch, w·patch) as the network gives it, large is far: metres
        are a metric network's, times the focal length in pixels, by `reference_focal_px`; sky of
        the same shape, above `sky_threshold` where it is; and the loss for the labels, which
        neither scale nor shift of the depth changes.
        """
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        found = self.backbone.features(
            pixel_values, head_mask=head_mask, need_states=want_states, need_weights=want_weights
        )
        image_hw = (pixel_values.shape[-2], pixel_values.shape[-1])
        predicted_depth, sky = self.head(self.neck(found.maps), image_hw)
        output = DepthAndSkyOutput(
            loss=None if labels is None else depth_loss(predicted_depth, labels, kind="depth"),
            predicted_depth=predicted_depth,
            sky=sky,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        return output if as_object else output.to_tuple()
