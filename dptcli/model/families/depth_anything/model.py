"""Depth Anything v1 and V2 (Yang et al. 2024): DINOv2, DPT's neck, a head at the image's size.

Relative models answer inverse depth (large is near); metric ones a fraction of `max_depth` in
metres. Names follow the hub's state dict.
B batch, C channels of the fused maps, H×W pixels, h×w patches.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.model.checks import pair_of
from dptcli.model.families.depth_anything.config import DepthAnythingConfig
from dptcli.model.families.estimator import DepthEstimator
from dptcli.model.heads import Head
from dptcli.model.layers import GrowBilinear


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


class DepthAnythingForDepthEstimation(DepthEstimator):
    """A Depth Anything model. Any height and width of at least one patch.

    predicted_depth (B, h·patch, w·patch): inverse depth, large is near (relative), or metres
    (metric).
    """

    config_class = DepthAnythingConfig
    config: DepthAnythingConfig
    head: DepthAnythingHead

    def head_of(self, config: DepthAnythingConfig) -> DepthAnythingHead:
        return DepthAnythingHead(config)

    def maps_of(self, fused: Sequence[Tensor], image_hw: tuple[int, int]) -> dict[str, Tensor]:
        return {"predicted_depth": self.head(fused, image_hw)}
