"""The Mix Transformer (Xie et al. 2021): four stages at falling resolutions, cheap attention.

B batch, N tokens, M tokens of the reduced map, D width, A heads, h×w the map of a stage.
"""

from torch import Tensor, nn

from dptcli.model.block import Block
from dptcli.model.families.glpn.config import GLPNConfig
from dptcli.model.layers import (
    ActivationLayer,
    AttentionOutput,
    as_weight,
    attend,
    check_pixels,
    drop_path,
    drop_path_rates,
    split_heads,
)


class OverlapPatchEmbeddings(nn.Module):
    """Patches that overlap, by one strided convolution, and their norm."""

    def __init__(self, *, num_channels: int, width: int, patch_size: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            num_channels, width, kernel_size=patch_size, stride=stride, padding=patch_size // 2
        )
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, C, H, W) -> (B, h·w, D) and (h, w)."""
        x = self.proj(x)
        hw = (x.shape[-2], x.shape[-1])
        return self.layer_norm(x.flatten(2).transpose(1, 2)), hw


class ReducedAttention(nn.Module):
    """Self-attention whose keys and values are those of a smaller map (Wang et al. 2021)."""

    def __init__(self, *, width: int, num_heads: int, reduction: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** -0.5
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.reduces = reduction > 1
        if self.reduces:
            self.sr = nn.Conv2d(width, width, kernel_size=reduction, stride=reduction)
            self.layer_norm = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, hw: tuple[int, int], *, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(B, h·w, D) -> (B, h·w, D) and, when asked for, the weights (B, A, N, M)."""
        seen = x
        if self.reduces:
            grid = self.sr(x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *hw))
            seen = self.layer_norm(grid.flatten(2).transpose(1, 2))  # (B, D, ·, ·) -> (B, M, D)
        query, key, value = (
            split_heads(part, self.num_heads)
            for part in (self.query(x), self.key(seen), self.value(seen))
        )
        dropout = self.dropout if self.training else 0.0
        return attend(
            query, key, value, scale=self.scale, dropout=dropout, need_weights=need_weights
        )


class StageAttention(nn.Module):
    """Attention and its projection, under the hub's names."""

    def __init__(self, attention: ReducedAttention, *, width: int, dropout: float) -> None:
        super().__init__()
        self.self = attention
        self.output = AttentionOutput(width=width, dropout=dropout)

    def forward(
        self, x: Tensor, hw: tuple[int, int], *, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) -> (B, N, D), and the weights when asked for."""
        context, weights = self.self(x, hw, need_weights=need_weights)
        return self.output(context), weights


class DepthWise(nn.Module):
    """A 3×3 convolution of each channel, which tells the tokens where they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, kernel_size=3, padding=1, groups=width)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, h·w, D) -> (B, h·w, D)."""
        grid = x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *hw)
        return self.dwconv(grid).flatten(2).transpose(1, 2)


class MixMLP(nn.Module):
    """Two linear layers with a depth-wise convolution between them."""

    def __init__(self, config: GLPNConfig, *, width: int, hidden: int) -> None:
        super().__init__()
        self.dense1 = nn.Linear(width, hidden)
        self.dwconv = DepthWise(hidden)
        self.activation = ActivationLayer(config.hidden_act)
        self.dense2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = self.activation(self.dwconv(self.dense1(x), hw))
        return self.dropout(self.dense2(self.dropout(x)))


class MixLayer(Block):
    """One pre-norm block of a stage."""

    def __init__(self, config: GLPNConfig, *, stage: int, drop_rate: float) -> None:
        super().__init__()
        width, dropout = config.hidden_sizes[stage], config.hidden_dropout_prob
        attention = ReducedAttention(
            width=width,
            num_heads=config.num_attention_heads[stage],
            reduction=config.sr_ratios[stage],
            dropout=config.attention_probs_dropout_prob,
        )
        self.drop_rate = drop_rate
        self.layer_norm_1 = nn.LayerNorm(width)
        self.attention = StageAttention(attention, width=width, dropout=dropout)
        self.layer_norm_2 = nn.LayerNorm(width)
        self.mlp = MixMLP(config, width=width, hidden=int(width * config.mlp_ratios[stage]))

    def forward(
        self, x: Tensor, hw: tuple[int, int], *, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) -> (B, N, D), and the attention weights when asked for."""
        attended, weights = self.attention(self.layer_norm_1(x), hw, need_weights=need_weights)
        x = x + self._drop(attended)
        return x + self._drop(self.mlp(self.layer_norm_2(x), hw)), weights

    def _drop(self, branch: Tensor) -> Tensor:
        return drop_path(branch, rate=self.drop_rate, training=self.training)


class MixTransformer(nn.Module):
    """The encoder: a map for each stage."""

    def __init__(self, config: GLPNConfig) -> None:
        super().__init__()
        self.num_channels = config.num_channels
        self.patch_embeddings = nn.ModuleList()
        self.block = nn.ModuleList()
        self.layer_norm = nn.ModuleList()
        rates = iter(drop_path_rates(config.drop_path_rate, sum(config.depths)))
        inputs = config.num_channels
        for stage, (depth, width) in enumerate(
            zip(config.depths, config.hidden_sizes, strict=True)
        ):
            self.patch_embeddings.append(
                OverlapPatchEmbeddings(
                    num_channels=inputs,
                    width=width,
                    patch_size=config.patch_sizes[stage],
                    stride=config.strides[stage],
                )
            )
            layers = (MixLayer(config, stage=stage, drop_rate=next(rates)) for _ in range(depth))
            self.block.append(nn.ModuleList(layers))
            self.layer_norm.append(nn.LayerNorm(width))
            inputs = width
        # The least side that leaves every stage a whole field of its reduced attention.
        side, least = 1, 1
        for stride, reduction in zip(config.strides, config.sr_ratios, strict=True):
            side *= stride
            least = max(least, side * (reduction - 1) + 1)
        self.min_side = least

    def forward(
        self, pixel_values: Tensor, *, need_weights: bool = False
    ) -> tuple[list[Tensor], tuple[Tensor, ...] | None]:
        """(B, C, H, W) -> maps (B, D_i, h_i, w_i) from shallow to deep, and attention weights.

        Raises ShapeError for wrong channels or too few pixels.
        """
        least = (self.min_side, self.min_side)
        check_pixels(pixel_values, num_channels=self.num_channels, min_hw=least)
        # By a norm, which keeps its weight: a packed convolution has none to ask.
        x, maps, weights = as_weight(pixel_values, self.layer_norm[0]), [], []
        stages = zip(self.patch_embeddings, self.block, self.layer_norm, strict=True)
        for embed, layers, norm in stages:
            tokens, hw = embed(x)
            assert isinstance(layers, nn.ModuleList)
            for layer in layers:
                tokens, seen = layer(tokens, hw, need_weights=need_weights)
                weights += [] if seen is None else [seen]
            # (B, h·w, D) -> (B, D, h, w)
            x = norm(tokens).transpose(1, 2).reshape(tokens.shape[0], -1, *hw).contiguous()
            maps.append(x)
        return maps, tuple(weights) if need_weights else None
