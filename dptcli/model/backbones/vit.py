"""The plain Vision Transformer of the DPT paper and DINOv2, both with a class token.

Pre-norm blocks (Dosovitskiy et al. 2020; Oquab et al. 2023). Names follow the hub's state dict.
B batch, N tokens (the class token first), D width, M the MLP's, H×W pixels, h×w patches.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.model.backbones.base import Backbone
from dptcli.model.backbones.plain_config import (
    BeitConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ViTConfig,
)
from dptcli.model.block import Block
from dptcli.model.checks import grid_of, pair_of
from dptcli.model.config import DPTConfig
from dptcli.model.layers import (
    ActivationLayer,
    Attention,
    Features,
    MultiHead,
    PatchEmbeddings,
    SelfAttention,
    drop_path,
    map_from_tokens,
    mask_for_layers,
    resize_positions,
)


class ViTEmbeddings(nn.Module):
    """Patch, class and position embeddings, and DINOv2's register tokens.

    `position_mode` is how positions are resized to another grid: bilinear in DPT, bicubic in
    DINOv2, each as it was trained.
    """

    def __init__(
        self, config: DPTConfig | Dinov2Config, *, position_mode: str, mask_token: bool = False
    ) -> None:
        super().__init__()
        patch_hw = pair_of("patch_size", config.patch_size)
        self.learned_hw = grid_of(config.image_size, config.patch_size)
        num_patches = self.learned_hw[0] * self.learned_hw[1]
        width = config.hidden_size
        self.position_mode = position_mode
        self.position_offset = getattr(config, "position_offset", 0.0)
        self.antialias = getattr(config, "position_antialias", False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if mask_token:  # only pre-training uses it; kept so that files hold what the hub's hold
            self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.register_tokens = None
        if isinstance(config, Dinov2WithRegistersConfig):  # of none, too, files hold a tensor
            self.register_tokens = nn.Parameter(torch.zeros(1, config.num_register_tokens, width))
        self.patch_embeddings = PatchEmbeddings(
            num_channels=config.num_channels, width=width, patch_hw=patch_hw
        )
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + num_patches, width))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, C, H, W) -> tokens (B, 1 + R + h·w, D), R registers after the class token; (h, w)."""
        grid_hw = self.patch_embeddings.grid_hw(pixel_values)
        patches = self.patch_embeddings(pixel_values)
        cls_token = self.cls_token.expand(patches.shape[0], -1, -1)
        tokens = torch.cat((cls_token, patches), dim=1)
        tokens = tokens + self.positions(grid_hw)
        if self.register_tokens is not None:
            registers = self.register_tokens.expand(patches.shape[0], -1, -1)
            tokens = torch.cat((tokens[:, :1], registers, tokens[:, 1:]), dim=1)
        return self.dropout(tokens), grid_hw

    def positions(self, grid_hw: tuple[int, int]) -> Tensor:
        """The position embeddings (1, 1 + h·w, D) for a grid of h×w patches."""
        return resize_positions(
            self.position_embeddings,
            grid_hw,
            learned_hw=self.learned_hw,
            mode=self.position_mode,
            antialias=self.antialias,
            offset=self.position_offset,
        )


class ViTIntermediate(nn.Module):
    """The first half of a block's MLP."""

    def __init__(self, config: DPTConfig | BeitConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ActivationLayer(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, M)."""
        return self.activation(self.dense(x))


class ViTOutput(nn.Module):
    """The second half of a block's MLP."""

    def __init__(self, config: DPTConfig | BeitConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, M) -> (B, N, D)."""
        return self.dropout(self.dense(x))


class ViTLayer(Block):
    """One pre-norm transformer block."""

    def __init__(self, config: DPTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        attention = SelfAttention(
            width=width,
            num_heads=config.num_attention_heads,
            qkv_bias=config.qkv_bias,
            dropout=config.attention_probs_dropout_prob,
        )
        self.attention = Attention(attention, width=width, dropout=config.hidden_dropout_prob)
        self.intermediate = ViTIntermediate(config)
        self.output = ViTOutput(config)
        self.layernorm_before = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.layernorm_after = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(
        self, x: Tensor, *, head_mask: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) -> (B, N, D) and the attention weights when asked for."""
        attended, weights = self.attention(
            self.layernorm_before(x), head_mask=head_mask, need_weights=need_weights
        )
        x = x + attended
        x = x + self.output(self.intermediate(self.layernorm_after(x)))
        return x, weights


class Encoder(nn.Module):
    """A stack of transformer blocks, tapped where the neck wants feature maps."""

    def __init__(self, layers: Iterable[nn.Module], *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.layer = nn.ModuleList(layers)

    def forward(self, x: Tensor, **options: Any) -> "Passed":
        """Run the blocks on tokens x (B, N, D); see run_blocks."""
        return run_blocks(self.layer, x, num_heads=self.num_heads, **options)


Passed = tuple[dict[int, Tensor], Tensor, tuple[Tensor, ...] | None, tuple[Tensor, ...] | None]
"""{tap: (B, N, D)}, the last state, all states and all weights where they were asked for."""


def run_blocks(
    blocks: nn.ModuleList,
    x: Tensor,
    *,
    num_heads: int,
    taps: Sequence[int],
    head_mask: Tensor | None = None,
    need_weights: bool = False,
    need_states: bool = False,
    **shared: Any,
) -> Passed:
    """Run blocks on tokens x (B, N, D).

    taps: 0-based block indices whose output is kept, -1 the embeddings themselves.
    shared: what every block gets besides (BEiT's blocks: the grid and a position bias).
    Returns {tap: (B, N, D)}, the last state, all states from the embeddings on (when asked
    for) and all attention weights (when asked for).
    """
    masks = mask_for_layers(head_mask, len(blocks), num_heads)
    tapped = {-1: x} if -1 in taps else {}
    states, weights = [x], []
    for index, block in enumerate(blocks):
        x, block_weights = block(x, head_mask=masks[index], need_weights=need_weights, **shared)
        if index in taps:
            tapped[index] = x
        if need_states:
            states.append(x)
        if block_weights is not None:
            weights.append(block_weights)
    all_states = tuple(states) if need_states else None
    return tapped, x, all_states, tuple(weights) if need_weights else None


class LayerScale(nn.Module):
    """A learned factor for each channel of a residual branch (Touvron et al. 2021)."""

    def __init__(self, config: Dinov2Config | DINOv3ViTConfig) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.full((config.hidden_size,), config.layerscale_value))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return x * self.lambda1


class Dinov2MLP(nn.Module):
    """The MLP of a DINOv2 block."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        hidden = int(config.hidden_size * config.mlp_ratio)
        self.fc1 = nn.Linear(config.hidden_size, hidden)
        self.activation = ActivationLayer(config.hidden_act)
        self.fc2 = nn.Linear(hidden, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.fc2(self.activation(self.fc1(x)))


class Dinov2SwiGLU(nn.Module):
    """The gated MLP of DINOv2 giant (Shazeer 2020); gate and value share one product."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        # Two thirds of the plain MLP's width, up to a multiple of 8: as it was trained.
        hidden = (int(int(config.hidden_size * config.mlp_ratio) * 2 / 3) + 7) // 8 * 8
        self.weights_in = nn.Linear(config.hidden_size, 2 * hidden)
        self.weights_out = nn.Linear(hidden, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        gate, value = self.weights_in(x).chunk(2, dim=-1)
        return self.weights_out(F.silu(gate) * value)


class ScaledBlock(Block):
    """A pre-norm block with layer scale and stochastic depth: DINOv2's, and DINOv3's."""

    attention: Any
    mlp: Any

    def __init__(
        self, config: Dinov2Config | DINOv3ViTConfig, *, attention: nn.Module, mlp: nn.Module
    ) -> None:
        super().__init__()
        width = config.hidden_size
        self.drop_path_rate = config.drop_path_rate
        self.norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = attention
        self.layer_scale1 = LayerScale(config)
        self.norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = mlp
        self.layer_scale2 = LayerScale(config)

    def branch_ends(self) -> tuple[nn.Module, nn.Module]:
        """The linear layers that end the attention's branch and the MLP's."""
        raise NotImplementedError

    def forward(
        self,
        x: Tensor,
        *,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
        **shared: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) -> (B, N, D) and the attention weights when asked for.

        shared: what the attention takes besides.
        """
        attended, weights = self.attention(
            self.norm1(x), head_mask=head_mask, need_weights=need_weights, **shared
        )
        rate, training = self.drop_path_rate, self.training
        x = x + drop_path(self.layer_scale1(attended), rate=rate, training=training)
        branch = self.layer_scale2(self.mlp(self.norm2(x)))
        x = x + drop_path(branch, rate=rate, training=training)
        return x, weights


class Dinov2Layer(ScaledBlock):
    """One DINOv2 block."""

    def __init__(self, config: Dinov2Config, *, attention: MultiHead | None = None) -> None:
        """attention: in the place of plain self-attention."""
        width = config.hidden_size
        attention = attention or SelfAttention(
            width=width,
            num_heads=config.num_attention_heads,
            qkv_bias=config.qkv_bias,
            dropout=config.attention_probs_dropout_prob,
        )
        super().__init__(
            config,
            attention=Attention(attention, width=width, dropout=config.hidden_dropout_prob),
            mlp=Dinov2SwiGLU(config) if config.use_swiglu_ffn else Dinov2MLP(config),
        )

    def branch_ends(self) -> tuple[nn.Module, nn.Module]:
        mlp = self.mlp
        return self.attention.output.dense, mlp.fc2 if hasattr(mlp, "fc2") else mlp.weights_out


class Dinov2Backbone(Backbone):
    """DINOv2 as a backbone. Any height and width of at least one patch."""

    config_class = Dinov2Config
    config: Dinov2Config
    optional_keys = (r"(backbone\.)?embeddings\.mask_token",)

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__(config)
        self.num_registers = getattr(config, "num_register_tokens", 0)
        self.embeddings = ViTEmbeddings(
            config, position_mode=config.position_mode, mask_token=config.use_mask_token
        )
        self.encoder = self.build_encoder(config)
        eps = config.final_layer_norm_eps
        self.layernorm = nn.LayerNorm(
            config.hidden_size, eps=config.layer_norm_eps if eps is None else eps
        )
        self.initialize()

    def build_encoder(self, config: Dinov2Config) -> Encoder:
        """The blocks, which children may lay otherwise."""
        layers = (Dinov2Layer(config) for _ in range(config.num_hidden_layers))
        return Encoder(layers, num_heads=config.num_attention_heads)

    def features(
        self,
        pixel_values: Tensor,
        *,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
        need_states: bool = False,
    ) -> Features:
        x, grid_hw = self.embeddings(pixel_values)
        taps = self.taps
        tapped, _, states, weights = self.encoder(
            x, taps=taps, head_mask=head_mask, need_weights=need_weights, need_states=need_states
        )
        if self.config.apply_layernorm:
            tapped = {tap: self.layernorm(state) for tap, state in tapped.items()}
        maps = [
            map_from_tokens(tapped[tap], grid_hw, num_registers=self.num_registers) for tap in taps
        ]
        return Features(maps, hidden_states=states, attentions=weights)


class Dinov2WithRegistersBackbone(Dinov2Backbone):
    """DINOv2 with register tokens (Darcet et al. 2023), which its feature maps leave out."""

    config_class = Dinov2WithRegistersConfig
    config: Dinov2WithRegistersConfig
