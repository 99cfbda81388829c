"""GLPN (Kim et al. 2022): global features from a transformer, local ones let in where they help.

Names follow the hub's state dict.
B batch, C channels of the decoder, D_i width of a stage, H×W pixels, h×w a map.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.model.dpt import asked_for
from dptcli.model.families.glpn.config import GLPNConfig
from dptcli.model.families.glpn.encoder import MixTransformer
from dptcli.model.heads import Head
from dptcli.model.losses import depth_loss
from dptcli.model.outputs import DepthEstimatorOutput
from dptcli.model.pretrained import Pretrained


class SelectiveFusion(nn.Module):
    """Local and global features added with weights that both decide (section 3.4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolutional_layer1 = _normed(2 * channels, channels)
        self.convolutional_layer2 = _normed(channels, channels // 2)
        self.convolutional_layer3 = nn.Conv2d(channels // 2, 2, kernel_size=3, padding=1)

    def forward(self, local: Tensor, coarse: Tensor) -> Tensor:
        """(B, C, h, w) both -> (B, C, h, w)."""
        x = self.convolutional_layer1(torch.cat((local, coarse), dim=1))
        share = torch.sigmoid(self.convolutional_layer3(self.convolutional_layer2(x)))
        return local * share[:, :1] + coarse * share[:, 1:]


def _normed(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class DecoderStage(nn.Module):
    """A map brought to the decoder's width and joined with the running one, where there is one."""

    def __init__(self, width: int, channels: int, *, is_first: bool) -> None:
        super().__init__()
        self.convolution: nn.Module = nn.Identity()
        if width != channels:
            self.convolution = nn.Conv2d(width, channels, kernel_size=1)
        self.fusion = None if is_first else SelectiveFusion(channels)

    def forward(self, x: Tensor, coarse: Tensor | None) -> Tensor:
        """x: (B, D_i, h, w), coarse: (B, C, h, w) -> (B, C, h, w)."""
        x = self.convolution(x)
        if self.fusion is None or coarse is None:
            return x
        return self.fusion(x, coarse)


class Decoder(nn.Module):
    """From the deepest map up, each grown to the next one's size."""

    def __init__(self, config: GLPNConfig) -> None:
        super().__init__()
        channels, widths = config.decoder_hidden_size, list(reversed(config.hidden_sizes))
        self.stages = nn.ModuleList(
            DecoderStage(width, channels, is_first=index == 0) for index, width in enumerate(widths)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps from shallow to deep -> (B, C, ·, ·) from deep to shallow.

        Each has twice the size of its map, which is the next map's; the last four times. Where a
        side is no multiple of the strides the next map's size counts, and the reference fails.
        """
        deep_first = list(reversed(maps))
        outputs: list[Tensor] = []
        for index, (stage, x) in enumerate(zip(self.stages, deep_first, strict=True)):
            fused = stage(x, outputs[-1] if outputs else None)
            if index + 1 < len(deep_first):
                following = deep_first[index + 1]
                outputs.append(_grown(fused, (following.shape[-2], following.shape[-1])))
            else:
                outputs.append(_doubled(_doubled(fused)))
        return outputs


def _grown(x: Tensor, hw: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=hw, mode="bilinear", align_corners=False)


def _doubled(x: Tensor) -> Tensor:
    return _grown(x, (2 * x.shape[-2], 2 * x.shape[-1]))


class GLPNHead(Head):
    """Two convolutions and a sigmoid, a fraction of `max_depth`."""

    def __init__(self, config: GLPNConfig) -> None:
        super().__init__()
        channels = config.decoder_hidden_size
        self.index, self.max_depth = config.head_in_index, config.max_depth
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 1, kernel_size=3, padding=1),
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, ·, ·) -> metres (B, ·, ·) of the map at `head_in_index`."""
        return (torch.sigmoid(self.head(maps[self.index])) * self.max_depth).squeeze(1)


class GLPNForDepthEstimation(Pretrained):
    """A GLPN model. Any height and width from 1 / stride of each stage's attention on."""

    config_class = GLPNConfig
    config: GLPNConfig
    optional_keys: ClassVar[tuple[str, ...]] = (r".*\.num_batches_tracked",)

    def __init__(self, config: GLPNConfig) -> None:
        super().__init__(config)
        self.glpn = nn.ModuleDict({"encoder": MixTransformer(config)})
        self.decoder = Decoder(config)
        self.head = GLPNHead(config)
        self.initialize()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> DepthEstimatorOutput | tuple[Any, ...]:
        """Estimate depth in metres.

        pixel_values: (B, C, H, W), from 0 to 1. labels: measured depths (B, H', W') in metres, not
        measured where zero, negative or not finite.
        Returns predicted_depth (B, H, W) where both sides are multiples of 32; the loss for the
        labels (SILog); the stages' maps (B, D_i, h, w) as hidden_states; attentions (B, A, N, M).
        """
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        maps, weights = self.glpn["encoder"](pixel_values, need_weights=want_weights)
        predicted_depth = self.head(self.decoder(maps))
        output = DepthEstimatorOutput(
            loss=None if labels is None else depth_loss(predicted_depth, labels, kind="depth_m"),
            predicted_depth=predicted_depth,
            hidden_states=tuple(maps) if want_states else None,
            attentions=weights,
        )
        return output if as_object else output.to_tuple()
