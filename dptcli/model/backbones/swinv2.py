"""Swin Transformer V2 (Liu et al. 2022): attention within windows, at falling resolutions.

Norms come after the branches. Names follow the hub's state dict.
B batch, W windows, M their side in patches, N = M·M places, D width, A heads, h×w patches.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.errors import ShapeError
from dptcli.model.backbones.base import Backbone
from dptcli.model.backbones.hierarchical_config import Swinv2Config
from dptcli.model.backbones.swinv2_attention import (
    SwinAttention,
    WindowAttention,
    merge_windows,
    windows_of,
)
from dptcli.model.block import Block
from dptcli.model.checks import pair_of
from dptcli.model.layers import (
    ActivationLayer,
    FeatureMap,
    Features,
    PatchEmbeddings,
    check_pixels,
    drop_path,
    resize_positions,
)

# Between places that only the cyclic shift made neighbours. The reference adds -100 twice, which
# shows where a scale near its bound lets cosines reach ±100.
MASKED = -200.0


class SwinEmbeddings(nn.Module):
    """Patch embeddings and their norm; an image that no whole number of patches fills is padded."""

    def __init__(self, config: Swinv2Config) -> None:
        super().__init__()
        width = config.embed_dim
        self.patch_embeddings = PatchEmbeddings(
            num_channels=config.num_channels,
            width=width,
            patch_hw=pair_of("patch_size", config.patch_size),
        )
        self.norm = nn.LayerNorm(width)
        self.position_embeddings: nn.Parameter | None = None
        if config.use_absolute_embeddings:
            self.learned_hw = grid_hw = config.grid_of(0)
            # One more than patches, as in the reference, whose forward then fails; it is not used.
            num_positions = 1 + grid_hw[0] * grid_hw[1]
            self.position_embeddings = nn.Parameter(torch.zeros(1, num_positions, width))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, h, w, D), the last row and column padded with zeros if need be."""
        patches = self.patch_embeddings
        check_pixels(pixel_values, num_channels=patches.num_channels, min_hw=(1, 1))
        (height, width), (step_h, step_w) = pixel_values.shape[-2:], patches.patch_hw
        padded = F.pad(pixel_values, (0, -width % step_w, 0, -height % step_h))
        grid_hw = patches.grid_hw(padded)
        tokens = self.norm(patches(padded))  # (B, h·w, D)
        if self.position_embeddings is not None:
            positions = resize_positions(
                self.position_embeddings, grid_hw, learned_hw=self.learned_hw, mode="bicubic"
            )
            tokens = tokens + positions[:, 1:]
        return self.dropout(tokens).unflatten(1, grid_hw)  # (B, h·w, D) -> (B, h, w, D)


class SwinIntermediate(nn.Module):
    """The first half of a block's MLP."""

    def __init__(self, config: Swinv2Config, *, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, int(config.mlp_ratio * width))
        self.activation = ActivationLayer(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, P), the MLP's width."""
        return self.activation(self.dense(x))


class SwinOutput(nn.Module):
    """The second half of a block's MLP."""

    def __init__(self, config: Swinv2Config, *, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(int(config.mlp_ratio * width), width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, P) -> (B, N, D)."""
        return self.dropout(self.dense(x))


class SwinBlock(Block):
    """A transformer block over windows; every second block shifts them by half a window."""

    def __init__(
        self, config: Swinv2Config, *, stage: int, shifted: bool, drop_path_rate: float
    ) -> None:
        super().__init__()
        width = config.width_of(stage)
        # As in the reference, the height alone decides for both sides.
        height = config.grid_of(stage)[0]
        self.side = min(config.window_size, height)
        self.shift = config.window_size // 2 if shifted and height > self.side else 0
        self.drop_path_rate = drop_path_rate
        attention = WindowAttention(
            config,
            width=width,
            num_heads=config.num_heads[stage],
            side=self.side,
            learned_side=(config.pretrained_window_sizes or ())[stage],
        )
        self.attention = SwinAttention(
            attention, width=width, dropout=config.attention_probs_dropout_prob
        )
        self.layernorm_before = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.intermediate = SwinIntermediate(config, width=width)
        self.output = SwinOutput(config, width=width)
        self.layernorm_after = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, *, need_weights: bool) -> tuple[Tensor, Tensor | None]:
        """(B, h, w, D) -> (B, h, w, D) and the attention weights when asked for."""
        attended, weights = self._attend(x, need_weights=need_weights)
        rate, training = self.drop_path_rate, self.training
        x = x + drop_path(self.layernorm_before(attended), rate=rate, training=training)
        branch = self.layernorm_after(self.output(self.intermediate(x)))
        return x + drop_path(branch, rate=rate, training=training), weights

    def _attend(self, x: Tensor, *, need_weights: bool) -> tuple[Tensor, Tensor | None]:
        """Pad to whole windows, shift, attend within them, and back: (B, h, w, D) -> the same."""
        height, width = x.shape[1:3]
        padded = F.pad(x, (0, 0, 0, -width % self.side, 0, -height % self.side))
        padded_hw = (padded.shape[1], padded.shape[2])
        mask = None
        if self.shift:
            padded = padded.roll((-self.shift, -self.shift), dims=(1, 2))
            mask = self._shift_mask(padded_hw, like=x)
        attended, weights = self.attention(
            windows_of(padded, self.side), mask=mask, need_weights=need_weights
        )
        merged = merge_windows(attended, self.side, padded_hw)
        if self.shift:
            merged = merged.roll((self.shift, self.shift), dims=(1, 2))
        return merged[:, :height, :width], weights

    def _shift_mask(self, padded_hw: tuple[int, int], *, like: Tensor) -> Tensor:
        """(W, N, N): 0 between places that were neighbours before the shift, MASKED elsewhere."""
        # The last window of each axis holds two regions; three numbers tell all apart.
        rows, columns = (
            (places >= length - self.side).long() + (places >= length - self.shift)
            for length in padded_hw
            for places in (torch.arange(length, device=like.device),)
        )
        regions = (rows[:, None] * 3 + columns)[None, :, :, None]
        of_window = windows_of(regions, self.side).squeeze(-1)  # (W, N)
        apart = of_window[:, :, None] != of_window[:, None, :]
        return apart.to(like.dtype) * MASKED


class PatchMerging(nn.Module):
    """Half the resolution, twice the width: four neighbours become one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, ⌈h/2⌉, ⌈w/2⌉, 2D), an odd side padded with zeros."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        neighbours = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.norm(self.reduction(torch.cat(neighbours, dim=-1)))


class SwinStage(nn.Module):
    """Blocks at one resolution, then the step to the next (none after the last stage)."""

    def __init__(self, config: Swinv2Config, *, stage: int) -> None:
        super().__init__()
        before = sum(config.depths[:stage])
        last = max(sum(config.depths) - 1, 1)
        self.blocks = nn.ModuleList(
            SwinBlock(
                config,
                stage=stage,
                shifted=index % 2 == 1,
                drop_path_rate=config.drop_path_rate * (before + index) / last,
            )
            for index in range(config.depths[stage])
        )
        self.downsample: PatchMerging | None = None
        if stage < config.num_stages - 1:
            self.downsample = PatchMerging(config.width_of(stage))

    def forward(self, x: Tensor, *, need_weights: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """(B, h, w, D) -> the same shape, the next stage's input, and the last block's weights."""
        weights = None
        for block in self.blocks:
            x, weights = block(x, need_weights=need_weights)
        return x, x if self.downsample is None else self.downsample(x), weights


class SwinEncoder(nn.Module):
    """The stages, from fine to coarse."""

    def __init__(self, config: Swinv2Config) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SwinStage(config, stage=stage) for stage in range(config.num_stages)
        )

    def forward(
        self, x: Tensor, *, need_weights: bool
    ) -> tuple[list[Tensor], tuple[Tensor, ...] | None]:
        """(B, h, w, D) -> the input and each stage's output, and each stage's last weights."""
        states, weights = [x], []
        for stage in self.layers:
            state, x, stage_weights = stage(x, need_weights=need_weights)
            states.append(state)
            weights.append(stage_weights)
        return states, tuple(weights) if need_weights else None


class Swinv2Backbone(Backbone):
    """Swin V2 as a backbone. Any height and width; what fills no window is padded.

    Maps come at 1/4, 1/8, 1/16, … of the image (for patches of 4), before the step to the next
    stage. `hidden_states` are those of the stages, `attentions` of each stage's last block.
    """

    config_class = Swinv2Config
    config: Swinv2Config

    def __init__(self, config: Swinv2Config) -> None:
        super().__init__(config)
        self.embeddings = SwinEmbeddings(config)
        self.encoder = SwinEncoder(config)
        self.initialize()

    @property
    def channels(self) -> list[int]:
        stages = self.config.out_indices or ()
        return [self.config.width_of(max(stage - 1, 0)) for stage in stages]

    def features(
        self,
        pixel_values: Tensor,
        *,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
        need_states: bool = False,
    ) -> Features:
        if head_mask is not None:
            raise ShapeError(
                "head_mask: Swin V2 takes none, as the number of heads differs between its stages"
            )
        x = self.embeddings(pixel_values)
        states, weights = self.encoder(x, need_weights=need_weights)
        maps = [
            FeatureMap(states[stage].permute(0, 3, 1, 2), readout=None)
            for stage in self.config.out_indices or ()
        ]
        tokens = tuple(state.flatten(1, 2) for state in states)  # (B, h, w, D) -> (B, h·w, D)
        return Features(
            maps,
            hidden_states=tokens if need_states else None,
            attentions=weights,
        )
