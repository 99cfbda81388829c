"""Depth Anything 3 (Lin et al. 2025), for one photograph: DINOv2, DPT's neck, depth and sky.

Depth is an exponential, large is far: without a scale, or metres for a camera of the
configuration's focal length. Names follow Depth Anything's state dict.
B batch, C channels of the fused maps, H×W pixels, h×w patches.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.kinds import Kind
from dptcli.model.families.depth_anything.model import DepthAnythingHead
from dptcli.model.families.depth_anything_3.config import DepthAnything3Config
from dptcli.model.families.estimator import DepthEstimator
from dptcli.model.outputs import DepthAndSkyOutput, ModelOutput


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


class DepthAnything3ForDepthEstimation(DepthEstimator):
    """Depth Anything 3's mono and metric networks. Any height and width of at least one patch.

    predicted_depth (B, h·patch, w·patch) as the network gives it, large is far: metres are a metric
    network's, times the focal length in pixels, by `reference_focal_px`; sky of the same shape,
    above `sky_threshold` where it is. Neither scale nor shift of the depth changes the loss.
    """

    config_class = DepthAnything3Config
    config: DepthAnything3Config
    head: DepthAnything3Head
    output_class: ClassVar[type[ModelOutput]] = DepthAndSkyOutput

    def head_of(self, config: DepthAnything3Config) -> DepthAnything3Head:
        return DepthAnything3Head(config)

    def maps_of(self, fused: Sequence[Tensor], image_hw: tuple[int, int]) -> dict[str, Tensor]:
        return dict(zip(("predicted_depth", "sky"), self.head(fused, image_hw), strict=True))

    def kind_of_loss(self) -> Kind:
        return "depth"
