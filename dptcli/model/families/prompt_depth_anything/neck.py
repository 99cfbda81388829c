"""The neck of Prompt Depth Anything (Lin et al. 2025, section 3.2): the prompt joins each fusion.

B batch, C channels, h×w a map, h'×w' the prompt: a depth sensor's map, in general much smaller
than the image.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.model.neck import FusionBlock, FusionStage, NeckConfig


class PromptBranch(nn.Module):
    """Three convolutions from the prompt to what is added to a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(1, channels, kernel_size=3, padding=1)
        self.convolution2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.convolution3 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, prompt: Tensor) -> Tensor:
        """(B, 1, h, w) -> (B, C, h, w)."""
        x = F.relu(self.convolution1(prompt))
        return self.convolution3(F.relu(self.convolution2(x)))


class PromptFusionBlock(FusionBlock):
    """A fusion block that adds what the prompt says before its map grows."""

    def __init__(self, config: NeckConfig) -> None:
        super().__init__(config)
        self.prompt_depth_layer = PromptBranch(config.fusion_hidden_size)

    def merge(self, x: Tensor, skip: Tensor | None, *, prompt: Tensor | None = None) -> Tensor:
        """x, skip: (B, C, h, w), prompt: (B, 1, h', w') from 0 to 1 -> (B, C, h, w)."""
        x = super().merge(x, skip)
        if prompt is None:
            return x
        # Not averaged on shrinking: the released weights were trained so.
        seen = F.interpolate(prompt, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return x + self.prompt_depth_layer(seen.to(x.dtype))


class PromptFusionStage(FusionStage):
    """The fusion blocks, which take `prompt` (B, 1, h', w') from 0 to 1 beside the maps."""

    block: ClassVar[type[FusionBlock]] = PromptFusionBlock
