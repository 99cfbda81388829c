"""DINOv3's Vision Transformer (Siméoni et al. 2025): rotary positions, registers, a gated MLP.

Names follow the hub's files: blocks stand beside the embeddings, patches are a bare convolution.
B batch, N tokens (the class token first, then R registers), D width, A heads, E = D/A, M the MLP's
width, H×W pixels, h×w patches.
"""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from dptcli.model.backbones.base import Backbone
from dptcli.model.backbones.plain_config import DINOv3ViTConfig
from dptcli.model.backbones.vit import ScaledBlock, run_blocks
from dptcli.model.checks import pair_of
from dptcli.model.layers import (
    ActivationLayer,
    FeatureMap,
    Features,
    MultiHead,
    as_weight,
    check_pixels,
    map_from_tokens,
)


class Rotation(NamedTuple):
    """How far each token's queries and keys are turned: cosines and sines (N, E)."""

    cos: Tensor
    sin: Tensor

    def turn(self, x: Tensor) -> Tensor:
        """Queries or keys (B, A, N, E), turned; the first and second half of E are the pairs."""
        first, second = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat((-second, first), dim=-1) * self.sin


class RotaryPositions(nn.Module):
    """Where each patch lies, as angles: rows and columns from -1 to 1 over the image."""

    def __init__(self, config: DINOv3ViTConfig) -> None:
        super().__init__()
        self.head_width = config.hidden_size // config.num_attention_heads
        self.base = config.rope_theta
        self.num_special = 1 + config.num_register_tokens
        self.shift, self.jitter = config.pos_embed_shift, config.pos_embed_jitter
        self.rescale = config.pos_embed_rescale

    def forward(self, grid_hw: tuple[int, int], like: Tensor) -> Rotation:
        """The rotation (1 + R + h·w, E) for a grid, in the dtype and on the device of `like`.

        The class token and the registers lie nowhere: they are not turned.
        """
        rows, columns = (
            2.0 * (torch.arange(side, device=like.device) + 0.5) / side - 1.0 for side in grid_hw
        )
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
        if self.training:
            places = self._varied(places)
        quarter = self.head_width // 4
        shares = torch.arange(quarter, device=like.device) / quarter
        angles = 2 * math.pi * places[:, :, None] / self.base**shares  # (h·w, 2, E/4)
        angles = angles.flatten(1).tile(2)  # -> (h·w, E)
        angles = torch.cat((angles.new_zeros(self.num_special, self.head_width), angles))
        return Rotation(angles.cos().to(like.dtype), angles.sin().to(like.dtype))

    def _varied(self, places: Tensor) -> Tensor:
        """While training, the image is moved and stretched at random, as it was trained."""
        if self.shift is not None:
            places = places + self.shift * (2 * torch.rand(1, 2, device=places.device) - 1)
        for most, num in ((self.jitter, 2), (self.rescale, 1)):
            if most is not None:
                exponent = 2 * torch.rand(1, num, device=places.device) - 1
                places = places * most**exponent
        return places


class RotaryAttention(MultiHead):
    """Multi-head self-attention whose queries and keys are turned by their patch's place."""

    products: ClassVar[tuple[str, str, str]] = ("q_proj", "k_proj", "v_proj")

    def __init__(self, config: DINOv3ViTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.scale = (width // self.num_heads) ** -0.5
        self.dropout = config.attention_dropout
        self.q_proj = nn.Linear(width, width, bias=config.query_bias)
        self.k_proj = nn.Linear(width, width, bias=config.key_bias)
        self.v_proj = nn.Linear(width, width, bias=config.value_bias)
        self.o_proj = nn.Linear(width, width, bias=config.proj_bias)

    def forward(
        self,
        x: Tensor,
        *,
        rotation: Rotation,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) -> (B, N, D) and the weights (B, A, N, N) when asked for; see `attend`."""
        query, key, value = self.heads(x)
        context, weights = self.attend(
            rotation.turn(query),
            rotation.turn(key),
            value,
            head_mask=head_mask,
            need_weights=need_weights,
        )
        return self.o_proj(context), weights


class DINOv3MLP(nn.Module):
    """The MLP of a block, gated where the configuration says so (Shazeer 2020)."""

    def __init__(self, config: DINOv3ViTConfig) -> None:
        super().__init__()
        width, hidden = config.hidden_size, config.intermediate_size
        self.gate_proj = None
        if config.use_gated_mlp:
            self.gate_proj = nn.Linear(width, hidden, bias=config.mlp_bias)
        self.up_proj = nn.Linear(width, hidden, bias=config.mlp_bias)
        self.activation = ActivationLayer(config.hidden_act)
        self.down_proj = nn.Linear(hidden, width, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        if self.gate_proj is None:
            return self.down_proj(self.activation(self.up_proj(x)))
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


class DINOv3Layer(ScaledBlock):
    """One DINOv3 block."""

    def __init__(self, config: DINOv3ViTConfig) -> None:
        super().__init__(config, attention=RotaryAttention(config), mlp=DINOv3MLP(config))

    def branch_ends(self) -> tuple[nn.Module, nn.Module]:
        return self.attention.o_proj, self.mlp.down_proj


class DINOv3Embeddings(nn.Module):
    """Patches with a class token and registers; places come later, by rotation."""

    def __init__(self, config: DINOv3ViTConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.patch_hw = pair_of("patch_size", config.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        # Only pre-training uses it; kept so that files hold what the hub's hold.
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.num_register_tokens, width))
        self.patch_embeddings = nn.Conv2d(
            config.num_channels, width, kernel_size=self.patch_hw, stride=self.patch_hw
        )

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, C, H, W) -> tokens (B, 1 + R + h·w, D), and (h, w). Raises ShapeError."""
        conv = self.patch_embeddings
        check_pixels(pixel_values, num_channels=conv.in_channels, min_hw=self.patch_hw)
        patches = conv(as_weight(pixel_values, conv))
        grid_hw = patches.shape[-2], patches.shape[-1]
        special = torch.cat((self.cls_token, self.register_tokens), dim=1)
        special = special.expand(patches.shape[0], -1, -1)
        return torch.cat((special, patches.flatten(2).transpose(1, 2)), dim=1), grid_hw


class DINOv3ViTBackbone(Backbone):
    """DINOv3 as a backbone. Any height and width of at least one patch."""

    config_class = DINOv3ViTConfig
    config: DINOv3ViTConfig
    optional_keys = (r"(backbone\.)?embeddings\.mask_token",)
    # How the reference's 5.x holds the blocks in memory; its files don't.
    old_keys: ClassVar[dict[str, str]] = {r"^((?:.*\.)?)model\.(layer\.\d+\.)": r"\1\2"}

    def __init__(self, config: DINOv3ViTConfig) -> None:
        super().__init__(config)
        self.embeddings = DINOv3Embeddings(config)
        self.positions = RotaryPositions(config)
        self.layer = nn.ModuleList(DINOv3Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.initialize()

    def features(
        self,
        pixel_values: Tensor,
        *,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
        need_states: bool = False,
    ) -> Features:
        config = self.config
        x, grid_hw = self.embeddings(pixel_values)
        taps = self.taps
        tapped, _, states, weights = run_blocks(
            self.layer,
            x,
            num_heads=config.num_attention_heads,
            taps=taps,
            head_mask=head_mask,
            need_weights=need_weights,
            need_states=need_states,
            rotation=self.positions(grid_hw, x),
        )
        # The last stage is normed whatever the configuration says, as in the reference.
        normed = (tap for tap in taps if config.apply_layernorm or tap == config.num_stages - 1)
        tapped |= {tap: self.norm(tapped[tap]) for tap in normed}
        maps = [
            map_from_tokens(tapped[tap], grid_hw, num_registers=config.num_register_tokens)
            for tap in taps
        ]
        return Features(maps, hidden_states=states, attentions=weights)

    @staticmethod
    def tokens_of(feature: FeatureMap) -> Tensor:
        """The patches alone, (B, h·w, D)."""
        return feature.map.flatten(2).transpose(1, 2)
