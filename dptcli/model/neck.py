"""The neck of DPT (Ranftl et al. 2021, section 3.1): reassemble, then fuse from deep to shallow.

B batch, D backbone width, C channels, h×w patches.
"""

from collections.abc import Sequence
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.errors import ShapeError
from dptcli.model.checks import Activation
from dptcli.model.layers import ActivationLayer, FeatureMap, GrowBilinear


class NeckConfig(Protocol):
    """What the neck asks of a configuration, whichever family it describes.

    backbone_width: the tokens' width. reassembles: whether maps come from tokens of one size.
    fuses_to_next_map: a fusion block grows its map to the next one's size instead of twofold.
    """

    @property
    def backbone_width(self) -> int: ...
    @property
    def hidden_act(self) -> Activation: ...
    @property
    def readout_type(self) -> str: ...
    @property
    def reassembles(self) -> bool: ...
    @property
    def reassemble_factors(self) -> Sequence[float]: ...
    @property
    def neck_hidden_sizes(self) -> Sequence[int]: ...
    @property
    def neck_ignore_stages(self) -> Sequence[int]: ...
    @property
    def fusion_hidden_size(self) -> int: ...
    @property
    def use_batch_norm_in_fusion_residual(self) -> bool: ...
    @property
    def use_bias_in_fusion_residual(self) -> bool | None: ...
    @property
    def fuses_to_next_map(self) -> bool: ...


class ReassembleLayer(nn.Module):
    """Projects a map to the stage's width and resizes it by the stage's factor."""

    def __init__(self, *, width: int, channels: int, factor: float) -> None:
        super().__init__()
        self.projection = nn.Conv2d(width, channels, kernel_size=1)
        self.resize = _resize_by(factor, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, C, h·factor, w·factor)."""
        return self.resize(self.projection(x))


def _resize_by(factor: float, channels: int) -> nn.Module:
    if factor > 1:
        return nn.ConvTranspose2d(channels, channels, kernel_size=int(factor), stride=int(factor))
    if factor == 1:
        return nn.Identity()
    return nn.Conv2d(channels, channels, kernel_size=3, stride=int(1 / factor), padding=1)


class ReassembleStage(nn.Module):
    """Folds the readout token into the patches, then reassembles each map.

    Stages in `neck_ignore_stages` (a hybrid's convolutional maps) pass as they are.
    """

    def __init__(self, config: NeckConfig) -> None:
        super().__init__()
        self.readout_type = config.readout_type
        self.ignored = set(config.neck_ignore_stages)
        width = config.backbone_width
        self.layers = nn.ModuleList()
        self.readout_projects = nn.ModuleList()
        sizes_and_factors = zip(config.neck_hidden_sizes, config.reassemble_factors, strict=False)
        for stage, (channels, factor) in enumerate(sizes_and_factors):
            if stage in self.ignored:
                self.layers.append(nn.Identity())
                self.readout_projects.append(nn.Identity())
                continue
            self.layers.append(ReassembleLayer(width=width, channels=channels, factor=factor))
            if config.readout_type == "project":
                self.readout_projects.append(
                    nn.Sequential(nn.Linear(2 * width, width), ActivationLayer(config.hidden_act))
                )

    def forward(self, features: Sequence[FeatureMap], *, first: int = 0) -> list[Tensor]:
        """FeatureMaps (B, D, h, w) of the stages from `first` on -> maps (B, C_i, h·f_i, w·f_i)."""
        maps = []
        layers = list(self.layers)[first:]
        for stage, (feature, layer) in enumerate(zip(features, layers, strict=True), start=first):
            if stage in self.ignored:
                maps.append(feature.map)
            else:
                maps.append(layer(self._fold_readout(stage, feature)))
        return maps

    def _fold_readout(self, stage: int, feature: FeatureMap) -> Tensor:
        """Equations 3–5 of the paper: ignore, add, or project the class token."""
        x, readout = feature.map, feature.readout
        if self.readout_type == "ignore" or readout is None:
            return x
        if self.readout_type == "add":
            return x + readout[:, :, None, None]
        tokens = x.flatten(2).transpose(1, 2)  # (B, D, h, w) -> (B, h·w, D)
        both = torch.cat((tokens, readout.unsqueeze(1).expand_as(tokens)), dim=-1)
        folded = self.readout_projects[stage](both)
        return folded.transpose(1, 2).reshape(x.shape)  # (B, h·w, D) -> (B, D, h, w)


class ResidualConvUnit(nn.Module):
    """Pre-activation residual unit: ReLU, 3×3, ReLU, 3×3, each with optional batch norm."""

    def __init__(self, config: NeckConfig) -> None:
        super().__init__()
        channels = config.fusion_hidden_size
        normed = config.use_batch_norm_in_fusion_residual
        bias = config.use_bias_in_fusion_residual
        bias = not normed if bias is None else bias
        self.convolution1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=bias)
        self.convolution2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=bias)
        eps = getattr(config, "batch_norm_eps", 1e-5)  # only ZoeDepth's files name it
        self.batch_norm1 = nn.BatchNorm2d(channels, eps=eps) if normed else nn.Identity()
        self.batch_norm2 = nn.BatchNorm2d(channels, eps=eps) if normed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        y = self.batch_norm1(self.convolution1(F.relu(x)))
        y = self.batch_norm2(self.convolution2(F.relu(y)))
        return x + y


class FusionBlock(nn.Module):
    """Merges a skip map into the running map and doubles its size."""

    def __init__(self, config: NeckConfig) -> None:
        super().__init__()
        channels = config.fusion_hidden_size
        self.projection = nn.Conv2d(channels, channels, kernel_size=1)
        self.residual_layer1 = ResidualConvUnit(config)
        self.residual_layer2 = ResidualConvUnit(config)
        self.grow = GrowBilinear()

    def forward(
        self,
        x: Tensor,
        skip: Tensor | None = None,
        *,
        size: tuple[int, int] | None = None,
        **beside: Tensor | None,
    ) -> Tensor:
        """x, skip: (B, C, h, w) -> (B, C, 2h, 2w), or `size`; another skip is resized to x.

        beside: what a family's own `merge` takes beside the maps.
        """
        return self.projection(self.grow(self.merge(x, skip, **beside), size))

    def merge(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """x, skip: (B, C, h, w) -> (B, C, h, w)."""
        if skip is not None:
            if skip.shape[-2:] != x.shape[-2:]:
                skip = F.interpolate(skip, size=x.shape[-2:], mode="bilinear", align_corners=False)
            x = x + self.residual_layer1(skip)
        return self.residual_layer2(x)


class FusionStage(nn.Module):
    """One fusion block for each map, from the deepest up."""

    block: ClassVar[type[FusionBlock]] = FusionBlock

    def __init__(self, config: NeckConfig) -> None:
        super().__init__()
        self.to_next_map = config.fuses_to_next_map
        self.layers = nn.ModuleList(self.block(config) for _ in config.neck_hidden_sizes)
        if not getattr(
            config, "first_fusion_has_skip", True
        ):  # some files leave out what never runs
            self.layers[0].residual_layer1 = nn.Identity()

    def forward(self, maps: Sequence[Tensor], **beside: Tensor | None) -> list[Tensor]:
        """Maps from shallow to deep -> fused maps from deep to shallow, each twice as large.

        beside: what a family's own blocks take beside the maps.
        """
        deepest, *skips = reversed(maps)
        first, *others = list(self.layers)[: len(maps)]
        fused = [first(deepest, size=self._size_for(skips), **beside)]
        for index, (block, skip) in enumerate(zip(others, skips, strict=True)):
            size = self._size_for(skips[index + 1 :])
            fused.append(block(fused[-1], skip, size=size, **beside))
        return fused

    def _size_for(self, following: Sequence[Tensor]) -> tuple[int, int] | None:
        """The size of the next map, where blocks grow to it and one follows."""
        if not self.to_next_map or not following:
            return None
        return following[0].shape[-2], following[0].shape[-1]


class Neck(nn.Module):
    """Reassemble (where the backbone is not hierarchical), 3×3 convolutions, fusion."""

    def __init__(
        self,
        config: NeckConfig,
        *,
        reassemble_stage: type[ReassembleStage] = ReassembleStage,
        fusion_stage: type[FusionStage] = FusionStage,
    ) -> None:
        super().__init__()
        self.num_maps = len(config.neck_hidden_sizes)
        self.reassemble_stage = reassemble_stage(config) if config.reassembles else None
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, config.fusion_hidden_size, kernel_size=3, padding=1, bias=False)
            for channels in config.neck_hidden_sizes
        )
        self.fusion_stage = fusion_stage(config)

    def forward(
        self, features: Sequence[FeatureMap], *, num_fused: int | None = None
    ) -> list[Tensor]:
        """FeatureMaps from shallow to deep -> fused maps (B, C, ·, ·) from deep to shallow.

        num_fused: how many of them are wanted, the coarse ones first; each costs four times as
        much as the one before.
        """
        return self.fusion_stage(self.project(features, num_fused=num_fused))

    def project(
        self, features: Sequence[FeatureMap], *, num_fused: int | None = None
    ) -> list[Tensor]:
        """FeatureMaps -> maps (B, C, ·, ·) of one width, from shallow to deep, not fused yet.

        num_fused: how many of the deepest.
        Raises ShapeError when the backbone hands out another number of maps.
        """
        if len(features) != self.num_maps:
            raise ShapeError(
                f"the backbone hands out {len(features)} feature maps, but neck_hidden_sizes "
                f"names {self.num_maps}; choose as many stages with out_features"
            )
        first = 0 if num_fused is None else max(0, self.num_maps - num_fused)
        if self.reassemble_stage is None:
            maps = [feature.map for feature in features[first:]]
        else:
            maps = self.reassemble_stage(features[first:], first=first)
        return [conv(x) for conv, x in zip(list(self.convs)[first:], maps, strict=True)]
