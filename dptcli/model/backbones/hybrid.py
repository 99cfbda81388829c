"""The hybrid of the DPT paper: a transformer over the maps of a BiT stem.

BiT is a ResNet with group norm (Kolesnikov et al. 2020) and standardised weights (Qiao et al.
2019). Names follow the hub's state dict.
B batch, D transformer width, C channels, H×W pixels, h×w positions of the stem's last map.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.errors import ConfigError
from dptcli.model.backbones.base import Backbone
from dptcli.model.backbones.hierarchical_config import BitConfig, round_channels
from dptcli.model.block import Block
from dptcli.model.checks import grid_of
from dptcli.model.config import DPTConfig
from dptcli.model.layers import (
    ActivationLayer,
    FeatureMap,
    Features,
    as_weight,
    check_pixels,
    drop_path,
    drop_path_rates,
    resize_positions,
)


def pad_same(x: Tensor, *, kernel: int, stride: int, dilation: int = 1) -> Tensor:
    """Zero-pad (B, C, H, W) so that a convolution gives ceil(H / stride) × ceil(W / stride).

    TensorFlow's "SAME": where the padding is odd, the larger part goes to the right and below.
    """

    def needed(side: int) -> int:
        steps = math.ceil(side / stride) - 1
        return max(steps * stride + (kernel - 1) * dilation + 1 - side, 0)

    rows, columns = needed(x.shape[-2]), needed(x.shape[-1])
    if not rows and not columns:
        return x
    left, top = columns // 2, rows // 2
    return F.pad(x, (left, columns - left, top, rows - top))


class StandardizedConv(nn.Conv2d):
    """A convolution whose filters are standardised (zero mean, unit variance) before use."""

    def __init__(
        self,
        config: BitConfig,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        same = config.global_padding is not None
        super().__init__(
            in_channels,
            out_channels,
            kernel_size=kernel,
            stride=stride,
            dilation=dilation,
            padding=0 if same else ((stride - 1) + dilation * (kernel - 1)) // 2,
            bias=False,
        )
        self.same = same
        self.deviation_offset = config.deviation_offset

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, O, H', W')."""
        if self.same:
            x = pad_same(
                x, kernel=self.kernel_size[0], stride=self.stride[0], dilation=self.dilation[0]
            )
        return F.conv2d(x, self.standardized(), None, self.stride, self.padding, self.dilation)

    def standardized(self) -> Tensor:
        """The filters that are used: (O, I, k, k), each of mean 0 and variance 1."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
        if self.deviation_offset:
            return (self.weight - mean) / (variance.sqrt() + self.deviation_offset)
        return (self.weight - mean) * torch.rsqrt(variance + 1e-8)


class GroupNormAct(nn.GroupNorm):
    """Group norm and the activation that follows it, if one does."""

    def __init__(self, config: BitConfig, channels: int, *, activate: bool = True) -> None:
        super().__init__(config.num_groups, channels)
        self.activation = ActivationLayer(config.hidden_act) if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return self.activation(super().forward(x))


class BitEmbeddings(nn.Module):
    """The stem: a 7×7 convolution and a max pooling, each of stride 2."""

    def __init__(self, config: BitConfig) -> None:
        super().__init__()
        self.num_channels = config.num_channels
        self.same = config.global_padding is not None
        self.pool_same = config.embedding_dynamic_padding
        self.convolution = StandardizedConv(
            config, config.num_channels, config.embedding_size, 7, stride=2
        )
        # Pre-activation blocks bring their own first norm.
        bottleneck = config.layer_type == "bottleneck"
        self.norm = GroupNormAct(config, config.embedding_size) if bottleneck else nn.Identity()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H/4, W/4)."""
        check_pixels(pixel_values, num_channels=self.num_channels, min_hw=(1, 1))
        x = self.convolution(as_weight(pixel_values, self.convolution))
        if not self.same:
            x = F.pad(x, (1, 1, 1, 1))
        x = self.norm(x)
        if self.pool_same:
            x = pad_same(x, kernel=3, stride=2)
        return F.max_pool2d(x, kernel_size=3, stride=2)


class Downsample(nn.Module):
    """The shortcut of a stage's first block, where the number of channels changes."""

    def __init__(
        self, config: BitConfig, in_channels: int, out_channels: int, *, stride: int, norm: bool
    ) -> None:
        super().__init__()
        self.conv = StandardizedConv(config, in_channels, out_channels, 1, stride=stride)
        self.norm = GroupNormAct(config, out_channels, activate=False) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, O, H', W'), each side divided by the stride."""
        return self.norm(self.conv(x))


class BitBlock(Block):
    """Three convolutions 1×1, 3×3, 1×1 around a shortcut.

    "preactivation" normalises before each convolution (He et al. 2016, ResNet v2), "bottleneck"
    after it (v1.5, the hybrid's).
    """

    def __init__(
        self,
        config: BitConfig,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        dilation: int,
        drop_path_rate: float,
        is_first: bool,
    ) -> None:
        super().__init__()
        self.preactivation = config.layer_type == "preactivation"
        self.drop_path_rate = drop_path_rate
        middle = round_channels(out_channels / 4)
        self.downsample = None
        if is_first:
            self.downsample = Downsample(
                config, in_channels, out_channels, stride=stride, norm=not self.preactivation
            )
        self.conv1 = StandardizedConv(config, in_channels, middle, 1)
        # The reference leaves the dilation out of pre-activation blocks.
        dilation = 1 if self.preactivation else dilation
        self.conv2 = StandardizedConv(config, middle, middle, 3, stride=stride, dilation=dilation)
        self.conv3 = StandardizedConv(config, middle, out_channels, 1)
        if self.preactivation:
            self.norm1 = GroupNormAct(config, in_channels)
            self.norm2 = GroupNormAct(config, middle)
            self.norm3 = GroupNormAct(config, middle)
        else:
            self.norm1 = GroupNormAct(config, middle)
            self.norm2 = GroupNormAct(config, middle)
            self.norm3 = GroupNormAct(config, out_channels, activate=False)
            self.activation = ActivationLayer(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/stride, W/stride)."""
        if self.preactivation:
            return self._preactivated(x)
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.norm1(self.conv1(x))
        y = self.norm2(self.conv2(y))
        y = self.norm3(self.conv3(y))
        return self.activation(self._drop(y) + shortcut)

    def _preactivated(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        shortcut = x if self.downsample is None else self.downsample(y)
        y = self.conv1(y)
        y = self.conv2(self.norm2(y))
        y = self.conv3(self.norm3(y))
        return self._drop(y) + shortcut

    def _drop(self, branch: Tensor) -> Tensor:
        return drop_path(branch, rate=self.drop_path_rate, training=self.training)


class BitStage(nn.Module):
    """Blocks of one resolution, under the hub's name `layers`."""

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, O, H', W'), each side divided by the stride."""
        return self.layers(x)


class BitEncoder(nn.Module):
    """The stages, each of half the resolution until `output_stride`, dilated after it."""

    def __init__(self, config: BitConfig) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        widths = config.stage_widths
        rates = iter(drop_path_rates(config.drop_path_rate, sum(config.depths)))
        reached, dilation = 4, 1  # the stem's stride
        for index, depth in enumerate(config.depths):
            stride = 1 if index == 0 else 2
            if reached >= config.output_stride:
                stride, dilation = 1, dilation * stride
            reached *= stride
            first_dilation = 1 if dilation in (1, 2) else 2
            self.stages.append(
                BitStage(
                    BitBlock(
                        config,
                        widths[index] if block == 0 else widths[index + 1],
                        widths[index + 1],
                        stride=stride if block == 0 else 1,
                        dilation=first_dilation if block == 0 else dilation,
                        drop_path_rate=next(rates),
                        is_first=block == 0,
                    )
                    for block in range(depth)
                )
            )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H/4, W/4) -> that map and the one after each stage."""
        maps = [x]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


class BitModel(nn.Module):
    """Stem and stages. The final norm serves the classifier only; files hold it."""

    def __init__(self, config: BitConfig) -> None:
        super().__init__()
        self.embedder = BitEmbeddings(config)
        self.encoder = BitEncoder(config)
        preactivation = config.layer_type == "preactivation"
        # As wide as the reference makes it, without the width factor.
        self.norm = GroupNormAct(config, config.hidden_sizes[-1]) if preactivation else None

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the stem's map (B, C, H/4, W/4) and one after each stage."""
        return self.encoder(self.embedder(pixel_values))


class BitBackbone(Backbone):
    """BiT as a backbone: maps at falling resolution, without a class token. Any input size."""

    config_class = BitConfig
    config: BitConfig

    def __init__(self, config: BitConfig) -> None:
        super().__init__(config)
        self.bit = BitModel(config)
        self.initialize()

    @property
    def channels(self) -> list[int]:
        return [self.config.stage_widths[index] for index in self.config.out_indices or ()]

    def features(
        self,
        pixel_values: Tensor,
        *,
        head_mask: Tensor | None = None,  # noqa: ARG002 - there are no heads
        need_weights: bool = False,  # noqa: ARG002 - nor attention
        need_states: bool = False,
    ) -> Features:
        states = self.bit(pixel_values)
        maps = [FeatureMap(states[index], None) for index in self.config.out_indices or ()]
        return Features(maps, tuple(states) if need_states else None, attentions=None)


class HybridEmbeddings(nn.Module):
    """Tokens from the last map of a convolutional stem, with class token and positions."""

    def __init__(self, config: DPTConfig, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        channels = backbone.channels
        if len(channels) != 3:
            raise ConfigError(
                f"backbone_config: out_features {list(backbone.out_features)} must be three "
                "stages: two maps for the neck and one for the transformer"
            )
        expected = (config.backbone_featmap_shape or (1, channels[-1]))[1]
        if expected != channels[-1]:
            raise ConfigError(
                f"backbone_featmap_shape: {expected} channels do not fit the backbone, whose "
                f"last stage has {channels[-1]}; give (1, {channels[-1]}, height, width)"
            )
        self.learned_hw = grid_of(config.image_size, config.patch_size)
        num_patches = self.learned_hw[0] * self.learned_hw[1]
        width = config.hidden_size
        self.projection = nn.Conv2d(channels[-1], width, kernel_size=1)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + num_patches, width))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int], list[FeatureMap]]:
        """(B, C, H, W) -> tokens (B, 1 + h·w, D), (h, w), and the two maps for the neck.

        The grid is that of the stem's last map, so any input size will do.
        """
        first, second, last = self.backbone.features(pixel_values).maps
        grid_hw = (last.map.shape[-2], last.map.shape[-1])
        patches = self.projection(last.map).flatten(2).transpose(1, 2)  # -> (B, h·w, D)
        tokens = torch.cat((self.cls_token.expand(patches.shape[0], -1, -1), patches), dim=1)
        tokens = tokens + resize_positions(
            self.position_embeddings, grid_hw, learned_hw=self.learned_hw, mode="bilinear"
        )
        return tokens, grid_hw, [first, second]
