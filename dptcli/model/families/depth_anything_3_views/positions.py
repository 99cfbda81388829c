"""Where a map's pixels lie in the image, added to its channels, and the neck that does so.

A quarter of the channels each: sines and cosines across, sines and cosines down, of places between
-1 and 1 on the image's diagonal.
C channels, D width, H×W pixels of a map, h×w patches.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dptcli.model.layers import FeatureMap
from dptcli.model.neck import NeckConfig, ReassembleLayer, ReassembleStage

_SLOWEST = 100.0  # how much slower the last frequency is than the first
_SHARE = 0.1  # of the positions in the sum


def with_positions(x: Tensor, *, aspect: float) -> Tensor:
    """Maps (B, C, H, W) and their positions; aspect: the image's width by its height."""
    across, down = positions(x.shape[1], (x.shape[-2], x.shape[-1]), aspect=aspect, device=x.device)
    half = x.shape[1] // 2
    # In two halves: each depends on one direction alone, so a row and a column are all it takes.
    return torch.cat((x[:, :half] + across.to(x.dtype), x[:, half:] + down.to(x.dtype)), dim=1)


def positions(
    channels: int, hw: tuple[int, int], *, aspect: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What is added across (C/2, 1, W) and down (C/2, H, 1), float32."""
    diagonal = (aspect**2 + 1) ** 0.5
    count = channels // 4
    powers = torch.arange(count, device=device, dtype=torch.float32) / count
    frequencies = 1 / _SLOWEST**powers
    waves = []
    for span, length in ((aspect / diagonal, hw[1]), (1 / diagonal, hw[0])):
        end = span * (length - 1) / length  # the middle of the last pixel
        places = torch.linspace(-end, end, length, device=device, dtype=torch.float32)
        angles = frequencies[:, None] * places  # (C/4, length)
        waves.append(_SHARE * torch.cat((angles.sin(), angles.cos())))
    return waves[0][:, None, :], waves[1][:, :, None]


class PositionedReassemble(ReassembleStage):
    """Normalises the tokens of every stage alike, and adds positions to the projected maps."""

    def __init__(self, config: NeckConfig) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(config.backbone_width)

    def forward(self, features: Sequence[FeatureMap], *, first: int = 0) -> list[Tensor]:
        """As ReassembleStage's."""
        maps = []
        for feature, layer in zip(features, list(self.layers)[first:], strict=True):
            assert isinstance(layer, ReassembleLayer)
            tokens = self.norm(feature.map.flatten(2).transpose(1, 2))  # (B, h·w, D)
            x = layer.projection(tokens.transpose(1, 2).reshape(feature.map.shape))
            maps.append(layer.resize(with_positions(x, aspect=x.shape[-1] / x.shape[-2])))
        return maps
