"""The heads: depth (relative or metric), segmentation and its auxiliary head.

C channels of the fused maps, h×w their size.
"""

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.model.config import DPTConfig
from dptcli.model.layers import GrowBilinear

AUXILIARY_DROPOUT = 0.1  # fixed in the reference
# The least inverse metres before the division; 100,000 km stand for infinity.
MIN_INVERSE_M = 1e-8


class Head(nn.Module):
    """What ends a network, and where its numbers must stop being narrow."""

    def tail(self) -> tuple[nn.Conv2d | None, Sequence[nn.Module]]:
        """The last convolution that half precision does not harm, and the modules behind it.

        bfloat16 holds 8 significant bits: a map made of such numbers shows bands. Without such a
        convolution the whole head is the tail.
        """
        return None, [self]


class DepthHead(Head):
    """Three convolutions to one positive value for each pixel (paper, supplement)."""

    def __init__(self, config: DPTConfig) -> None:
        super().__init__()
        channels = config.fusion_hidden_size
        self.index = config.head_in_index
        self.scale, self.shift = config.metric_scale, config.metric_shift
        self.projection = (
            nn.Conv2d(channels, channels, kernel_size=3, padding=1)
            if config.add_projection
            else None
        )
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels // 2, kernel_size=3, padding=1),
            GrowBilinear(),
            nn.Conv2d(channels // 2, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 1, kernel_size=1),
            nn.ReLU(),
        )

    def tail(self) -> tuple[nn.Conv2d | None, Sequence[nn.Module]]:
        return cast("nn.Conv2d", self.head[0]), [self.head[1:]]

    def forward(self, fused: Sequence[Tensor]) -> Tensor:
        """Fused maps (B, C, h, w) -> depth (B, 2h, 2w) of the map at `head_in_index`.

        Inverse depth, or metres where the configuration says how the two relate.
        """
        x = fused[self.index]
        if self.projection is not None:
            x = F.relu(self.projection(x))
        x = self.head(x).squeeze(1)
        if self.scale is None or self.shift is None:
            return x
        return 1.0 / (self.scale * x + self.shift).clamp(min=MIN_INVERSE_M)


class SegmentationHead(Head):
    """Class scores at twice the size of the fused map."""

    def __init__(self, config: DPTConfig) -> None:
        super().__init__()
        self.index = config.head_in_index
        self.head = nn.Sequential(
            *_classifier(config, dropout=config.semantic_classifier_dropout),
            GrowBilinear(),
        )

    def tail(self) -> tuple[nn.Conv2d | None, Sequence[nn.Module]]:
        return cast("nn.Conv2d", self.head[0]), [self.head[1:]]

    def forward(self, fused: Sequence[Tensor]) -> Tensor:
        """Fused maps (B, C, h, w) -> logits (B, num_labels, 2h, 2w)."""
        return self.head(fused[self.index])


class AuxiliaryHead(nn.Module):
    """Class scores at the size of the last fused map; only the training loss uses them."""

    def __init__(self, config: DPTConfig) -> None:
        super().__init__()
        self.head = nn.Sequential(*_classifier(config, dropout=AUXILIARY_DROPOUT))

    def forward(self, fused: Sequence[Tensor]) -> Tensor:
        """Fused maps (B, C, h, w) -> logits (B, num_labels, h, w)."""
        return self.head(fused[-1])


def _classifier(config: DPTConfig, *, dropout: float) -> list[nn.Module]:
    channels = config.fusion_hidden_size
    return [
        nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(channels, config.num_labels, kernel_size=1),
    ]
