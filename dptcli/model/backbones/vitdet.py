"""ViTDet's plain transformer (Li et al. 2022): windowed and global blocks, relative positions.

Tokens keep their places on the grid, so a state is a map. There is no class token: in a DPT the
neck reads each map as with `readout_type` "ignore" (the reference builds this and cannot run it).
Names follow the hub's state dict.
B batch (and windows), A heads, D width, H×W pixels, h×w patches, s the side of a window.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.model.backbones.base import Backbone
from dptcli.model.backbones.plain_config import VitDetConfig
from dptcli.model.backbones.vit import Encoder
from dptcli.model.block import Block
from dptcli.model.checks import grid_of, pair_of
from dptcli.model.layers import (
    ActivationLayer,
    FeatureMap,
    Features,
    as_weight,
    attend,
    check_pixels,
    drop_path,
    drop_path_rates,
    resize_positions,
    split_heads,
)


class VitDetEmbeddings(nn.Module):
    """Patches, and absolute positions resized bicubically where there are any."""

    def __init__(self, config: VitDetConfig) -> None:
        super().__init__()
        self.num_channels = config.num_channels
        self.patch_hw = pair_of("patch_size", config.patch_size)
        self.learned_hw = grid_of(
            config.pretrain_image_size, config.patch_size, name="pretrain_image_size"
        )
        num_patches = self.learned_hw[0] * self.learned_hw[1]
        width = config.hidden_size
        self.position_embeddings = None
        if config.use_absolute_position_embeddings:
            # Files keep the position of a class token that nothing uses.
            self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + num_patches, width))
        self.projection = nn.Conv2d(
            config.num_channels, width, kernel_size=self.patch_hw, stride=self.patch_hw
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, h, w). Raises ShapeError for less than a patch."""
        check_pixels(pixel_values, num_channels=self.num_channels, min_hw=self.patch_hw)
        x: Tensor = self.projection(as_weight(pixel_values, self.projection))
        if self.position_embeddings is None:
            return x
        grid_hw = (x.shape[-2], x.shape[-1])
        positions = resize_positions(
            self.position_embeddings, grid_hw, learned_hw=self.learned_hw, mode="bicubic"
        )
        # (1, h·w, D) -> (1, D, h, w)
        return x + positions[:, 1:].transpose(1, 2).unflatten(2, grid_hw)


class VitDetAttention(nn.Module):
    """Self-attention on a grid; the query weighs learned offsets along each axis (MViTv2)."""

    def __init__(self, config: VitDetConfig, *, grid_hw: tuple[int, int]) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        head_width = width // self.num_heads
        self.scale = head_width**-0.5
        self.qkv = nn.Linear(width, 3 * width, bias=config.qkv_bias)
        self.proj = nn.Linear(width, width)
        self.relative = config.use_relative_position_embeddings
        if self.relative:
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * grid_hw[0] - 1, head_width))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * grid_hw[1] - 1, head_width))

    def forward(
        self, x: Tensor, *, head_mask: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, h, w, D) -> (B, h, w, D) and, when asked for, the weights (B, A, h·w, h·w)."""
        height, width = x.shape[1:3]
        tokens = self.qkv(x.flatten(1, 2))  # (B, h·w, 3D)
        query, key, value = (split_heads(part, self.num_heads) for part in tokens.chunk(3, dim=-1))
        bias = self._position_bias(query, (height, width)) if self.relative else None
        context, weights = attend(
            query,
            key,
            value,
            scale=self.scale,
            bias=bias,
            head_mask=head_mask,
            need_weights=need_weights,
        )
        # (B, h·w, D) -> (B, h, w, D)
        return self.proj(context).unflatten(1, (height, width)), weights

    def _position_bias(self, query: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """(B, A, h·w, D/A) -> (B, A, h·w, h·w): the row's score and the column's, added."""
        grid = query.unflatten(2, grid_hw)
        by_row = torch.einsum("bahwc,hkc->bahwk", grid, offsets(self.rel_pos_h, grid_hw[0]))
        by_column = torch.einsum("bahwc,wkc->bahwk", grid, offsets(self.rel_pos_w, grid_hw[1]))
        return (by_row.unsqueeze(-1) + by_column.unsqueeze(-2)).flatten(4).flatten(2, 3)


def offsets(table: Tensor, length: int) -> Tensor:
    """Learned offsets (2m - 1, C) for every (query, key) pair of an axis: (length, length, C).

    A table of another length is resized linearly.
    """
    if len(table) != 2 * length - 1:
        resized = F.interpolate(table.t().unsqueeze(0), size=2 * length - 1, mode="linear")
        table = resized[0].t()
    places = torch.arange(length, device=table.device)
    return table[places[:, None] - places[None, :] + length - 1]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map (B, D, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h, w)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """A convolution block 1×1, 3×3, 1×1 of half the width, added to its input."""

    def __init__(self, config: VitDetConfig) -> None:
        super().__init__()
        width, middle = config.hidden_size, config.hidden_size // 2
        self.conv1 = nn.Conv2d(width, middle, kernel_size=1, bias=False)
        self.norm1 = ChannelNorm(middle, eps=1e-6)
        self.conv2 = nn.Conv2d(middle, middle, kernel_size=3, padding=1, bias=False)
        self.norm2 = ChannelNorm(middle, eps=1e-6)
        self.conv3 = nn.Conv2d(middle, width, kernel_size=1, bias=False)
        self.norm3 = ChannelNorm(width, eps=1e-6)
        self.activation = ActivationLayer(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h, w)."""
        y = self.activation(self.norm1(self.conv1(x)))
        y = self.activation(self.norm2(self.conv2(y)))
        return x + self.norm3(self.conv3(y))


class VitDetMLP(nn.Module):
    """The MLP of a block."""

    def __init__(self, config: VitDetConfig) -> None:
        super().__init__()
        hidden = int(config.hidden_size * config.mlp_ratio)
        self.fc1 = nn.Linear(config.hidden_size, hidden)
        self.activation = ActivationLayer(config.hidden_act)
        self.fc2 = nn.Linear(hidden, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, h, w, D)."""
        return self.dropout(self.fc2(self.dropout(self.activation(self.fc1(x)))))


class VitDetLayer(Block):
    """One pre-norm block; window_size 0 attends over the whole map."""

    def __init__(
        self, config: VitDetConfig, *, drop_path_rate: float, window_size: int, residual: bool
    ) -> None:
        super().__init__()
        width = config.hidden_size
        grid_hw = grid_of(config.image_size, config.patch_size)
        self.window_size = window_size
        self.drop_path_rate = drop_path_rate
        self.norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = VitDetAttention(
            config, grid_hw=(window_size, window_size) if window_size else grid_hw
        )
        self.norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = VitDetMLP(config)
        self.residual = ResidualBlock(config) if residual else None

    def forward(
        self, x: Tensor, *, head_mask: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, D, h, w) -> (B, D, h, w) and the attention weights when asked for."""
        x = x.permute(0, 2, 3, 1)
        y = self.norm1(x)
        windows = cut_windows(y, self.window_size) if self.window_size else y
        attended, weights = self.attention(windows, head_mask=head_mask, need_weights=need_weights)
        if self.window_size:
            attended = join_windows(attended, self.window_size, x.shape[1:3])
        x = x + self._drop(attended)
        x = x + self._drop(self.mlp(self.norm2(x)))
        x = x.permute(0, 3, 1, 2)
        return x if self.residual is None else self.residual(x), weights

    def _drop(self, branch: Tensor) -> Tensor:
        return drop_path(branch, rate=self.drop_path_rate, training=self.training)


def cut_windows(x: Tensor, side: int) -> Tensor:
    """(B, h, w, D) -> (B · windows, s, s, D); zeros fill the last windows of a row and column."""
    x = F.pad(x, (0, 0, 0, -x.shape[2] % side, 0, -x.shape[1] % side))
    x = x.unflatten(1, (-1, side)).unflatten(3, (-1, side))  # -> (B, h/s, s, w/s, s, D)
    return x.transpose(2, 3).flatten(0, 2)


def join_windows(windows: Tensor, side: int, grid_hw: Sequence[int]) -> Tensor:
    """Undo `cut_windows`: (B · windows, s, s, D) -> (B, h, w, D)."""
    height, width = grid_hw
    rows, columns = -(-height // side), -(-width // side)
    x = windows.unflatten(0, (-1, rows, columns)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)[:, :height, :width]


class VitDetBackbone(Backbone):
    """ViTDet as a backbone. Any height and width of at least one patch."""

    config_class = VitDetConfig
    config: VitDetConfig

    def __init__(self, config: VitDetConfig) -> None:
        super().__init__(config)
        self.embeddings = VitDetEmbeddings(config)
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        layers = (
            VitDetLayer(
                config,
                drop_path_rate=rate,
                window_size=config.window_size if index in config.window_block_indices else 0,
                residual=index in config.residual_block_indices,
            )
            for index, rate in enumerate(rates)
        )
        self.encoder = Encoder(layers, num_heads=config.num_attention_heads)
        self.initialize()

    def features(
        self,
        pixel_values: Tensor,
        *,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
        need_states: bool = False,
    ) -> Features:
        taps = self.taps
        tapped, _, states, weights = self.encoder(
            self.embeddings(pixel_values),
            taps=taps,
            head_mask=head_mask,
            need_weights=need_weights,
            need_states=need_states,
        )
        maps = [FeatureMap(tapped[tap], None) for tap in taps]
        return Features(maps, hidden_states=states, attentions=weights)
