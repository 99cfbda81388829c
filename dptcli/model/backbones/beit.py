"""BEiT (Bao et al. 2021): a ViT whose attention adds a bias for the offset between two patches.

Offsets that an image of another size brings along get a resized bias, as in MiDaS 3.1 (Birkl et al.
2023). Names follow the hub's state dict.
B batch, N tokens (the class token first), D width, A heads, h×w patches.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.model.backbones.base import Backbone
from dptcli.model.backbones.plain_config import BeitConfig
from dptcli.model.backbones.vit import Encoder, ViTIntermediate, ViTOutput
from dptcli.model.block import Block
from dptcli.model.checks import pair_of
from dptcli.model.layers import (
    Attention,
    Features,
    MultiHead,
    PatchEmbeddings,
    drop_path,
    map_from_tokens,
    pairwise_bias,
    resize_positions,
)


class BeitEmbeddings(nn.Module):
    """Patch and class embeddings; position embeddings only where the configuration says so."""

    def __init__(self, config: BeitConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if config.use_mask_token:  # only pre-training uses it; files hold it
            self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embeddings = PatchEmbeddings(
            num_channels=config.num_channels,
            width=width,
            patch_hw=pair_of("patch_size", config.patch_size),
        )
        self.position_embeddings: nn.Parameter | None = None
        if config.use_absolute_position_embeddings:
            self.learned_hw = config.grid_hw
            num_tokens = 1 + self.learned_hw[0] * self.learned_hw[1]
            self.position_embeddings = nn.Parameter(torch.zeros(1, num_tokens, width))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, C, H, W) -> tokens (B, 1 + h·w, D) and (h, w)."""
        grid_hw = self.patch_embeddings.grid_hw(pixel_values)
        patches = self.patch_embeddings(pixel_values)
        tokens = torch.cat((self.cls_token.expand(patches.shape[0], -1, -1), patches), dim=1)
        if self.position_embeddings is not None:
            tokens = tokens + resize_positions(
                self.position_embeddings, grid_hw, learned_hw=self.learned_hw, mode="bicubic"
            )
        return self.dropout(tokens), grid_hw


class RelativePositionBias(nn.Module):
    """A learned bias for each offset between two patches, and three for the class token."""

    def __init__(self, config: BeitConfig) -> None:
        super().__init__()
        height, width = config.grid_hw
        self.learned_hw = (2 * height - 1, 2 * width - 1)
        # The last three rows: class to patch, patch to class, class to itself.
        num_rows = self.learned_hw[0] * self.learned_hw[1] + 3
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros(num_rows, config.num_attention_heads)
        )

    def forward(self, grid_hw: tuple[int, int]) -> Tensor:
        """The bias (1, A, 1 + h·w, 1 + h·w) for a grid of h×w patches; first axis: the queries."""
        table = self.relative_position_bias_table.t()  # (A, offsets + 3)
        offsets, to_patch, to_class, to_itself = table.split((table.shape[1] - 3, 1, 1, 1), dim=1)
        among_patches = pairwise_bias(self._resized(offsets, grid_hw), grid_hw)
        num_heads, num_patches, _ = among_patches.shape
        from_class = torch.cat((to_itself, to_patch.expand(-1, num_patches)), dim=1)
        from_patches = torch.cat(
            (to_class[:, None].expand(-1, num_patches, 1), among_patches), dim=2
        )
        # (A, 1 + h·w) -> (A, 1, 1 + h·w), the class token's row
        bias = torch.cat((from_class.view(num_heads, 1, -1), from_patches), dim=1)
        return bias.unsqueeze(0)

    def _resized(self, offsets: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """(A, learned offsets) -> (A, 2h - 1, 2w - 1)."""
        height, width = self.learned_hw
        # (width, height) is the reference's order. It only matters for an `image_size` that is not
        # square, which no released model has; equal numbers matter more here than a better guess.
        grid = offsets.unflatten(1, (width, height))
        target_hw = (2 * grid_hw[0] - 1, 2 * grid_hw[1] - 1)
        if grid.shape[1:] == target_hw:
            return grid
        resized = F.interpolate(
            grid.float().unsqueeze(0), size=target_hw, mode="bilinear", align_corners=False
        )
        return resized.squeeze(0).to(offsets.dtype)


class BeitSelfAttention(MultiHead):
    """Multi-head self-attention with a position bias; keys have no bias of their own."""

    def __init__(self, config: BeitConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.scale = (width // self.num_heads) ** -0.5
        self.dropout = config.attention_probs_dropout_prob
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.relative_position_bias = (
            RelativePositionBias(config) if config.use_relative_position_bias else None
        )

    def forward(
        self,
        x: Tensor,
        *,
        grid_hw: tuple[int, int],
        shared_bias: Tensor | None = None,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) -> (B, N, D) and, when asked for, the weights (B, A, N, N)."""
        bias = shared_bias
        if self.relative_position_bias is not None:
            own_bias = self.relative_position_bias(grid_hw)
            bias = own_bias if bias is None else own_bias + bias
        return self.attend(
            *self.heads(x), bias=bias, head_mask=head_mask, need_weights=need_weights
        )


class BeitLayer(Block):
    """One pre-norm block with layer scale and stochastic depth."""

    def __init__(self, config: BeitConfig, *, drop_path_rate: float) -> None:
        super().__init__()
        width = config.hidden_size
        self.drop_path_rate = drop_path_rate
        self.attention = Attention(
            BeitSelfAttention(config), width=width, dropout=config.hidden_dropout_prob
        )
        self.intermediate = ViTIntermediate(config)
        self.output = ViTOutput(config)
        self.layernorm_before = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.layernorm_after = nn.LayerNorm(width, eps=config.layer_norm_eps)
        first = config.layer_scale_init_value
        self.lambda_1 = nn.Parameter(torch.full((width,), first)) if first > 0 else None
        self.lambda_2 = nn.Parameter(torch.full((width,), first)) if first > 0 else None

    def forward(
        self,
        x: Tensor,
        *,
        grid_hw: tuple[int, int],
        shared_bias: Tensor | None = None,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) -> (B, N, D) and the attention weights when asked for."""
        attended, weights = self.attention(
            self.layernorm_before(x),
            grid_hw=grid_hw,
            shared_bias=shared_bias,
            head_mask=head_mask,
            need_weights=need_weights,
        )
        x = x + self._branch(attended, self.lambda_1)
        x = x + self._branch(self.output(self.intermediate(self.layernorm_after(x))), self.lambda_2)
        return x, weights

    def _branch(self, branch: Tensor, layer_scale: Tensor | None) -> Tensor:
        scaled = branch if layer_scale is None else layer_scale * branch
        return drop_path(scaled, rate=self.drop_path_rate, training=self.training)


class BeitBackbone(Backbone):
    """BEiT as a backbone. Any height and width of at least one patch."""

    config_class = BeitConfig
    config: BeitConfig
    # A pooled model's last norm: no feature map passes through it, and old files lack it.
    optional_keys = (r"(backbone\.)?embeddings\.mask_token", r"(backbone\.)?beit\.layernorm\..*")
    old_keys: ClassVar[Mapping[str, str]] = {
        r"^.*\.relative_position_index$": "",  # once saved; it follows from the grid
        # How the reference's 5.x holds it in memory; its files don't.
        r"^(backbone\.)?beit\.embeddings\.": r"\1embeddings.",
        r"^(backbone\.)?beit\.layers\.(\d+)\.mlp\.fc1\.": r"\1encoder.layer.\2.intermediate.dense.",
        r"^(backbone\.)?beit\.layers\.(\d+)\.mlp\.fc2\.": r"\1encoder.layer.\2.output.dense.",
        r"^(backbone\.)?beit\.layers\.(\d+)\.(relative_position_bias\.)": (
            r"\1encoder.layer.\2.attention.attention.\3"
        ),
        r"^(backbone\.)?beit\.layers\.": r"\1encoder.layer.",
        r"^(backbone\.)?beit\.shared_position_bias\.": r"\1beit.encoder.relative_position_bias.",
        # Before 5.x a shared bias stood beside the blocks.
        r"^(backbone\.)?encoder\.(relative_position_bias\.)": r"\1beit.encoder.\2",
    }

    def __init__(self, config: BeitConfig) -> None:
        super().__init__(config)
        self.embeddings = BeitEmbeddings(config)
        last = max(config.num_hidden_layers - 1, 1)
        layers = (
            BeitLayer(config, drop_path_rate=config.drop_path_rate * index / last)
            for index in range(config.num_hidden_layers)
        )
        self.encoder = Encoder(layers, num_heads=config.num_attention_heads)
        # What the hub's files keep under this odd name.
        self.beit = nn.ModuleDict()
        if config.use_shared_relative_position_bias:
            shared = nn.ModuleDict({"relative_position_bias": RelativePositionBias(config)})
            self.beit["encoder"] = shared
        if not config.use_mean_pooling:
            self.beit["layernorm"] = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.initialize()

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
            x,
            taps=taps,
            head_mask=head_mask,
            need_weights=need_weights,
            need_states=need_states,
            grid_hw=grid_hw,
            shared_bias=self._shared_bias(grid_hw),
        )
        maps = [map_from_tokens(tapped[tap], grid_hw) for tap in taps]
        return Features(maps, hidden_states=states, attentions=weights)

    def _shared_bias(self, grid_hw: tuple[int, int]) -> Tensor | None:
        if not self.config.use_shared_relative_position_bias:
            return None
        bias: Tensor = self.get_submodule("beit.encoder.relative_position_bias")(grid_hw)
        return bias
