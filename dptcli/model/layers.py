"""What several backbones share: attention, activations, position grids, feature maps.

B batch, N tokens (the class token first), D width, A heads, C channels, H×W pixels, h×w patches.
"""

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.errors import ShapeError
from dptcli.model.activations import BY_NAME
from dptcli.model.checks import Activation
from dptcli.model.cubic import resize_for_graph


class FeatureMap(NamedTuple):
    """What the neck takes from a backbone, whichever it is.

    map: (B, C, h, w). readout: the class token (B, C), None where a backbone has none.
    registers: (B, R, C), tokens that hold no place of the image; the neck leaves them out.
    """

    map: Tensor
    readout: Tensor | None
    registers: Tensor | None = None


class Features(NamedTuple):
    """Feature maps from shallow to deep, with what else was asked for."""

    maps: list[FeatureMap]
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


class ActivationLayer(nn.Module):
    """An activation by its configured name (or the function itself) as a module."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        function_name = getattr(activation, "__name__", repr(activation))
        self.name = activation if isinstance(activation, str) else function_name
        self.function = BY_NAME[activation] if isinstance(activation, str) else activation

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        return self.function(x)

    def extra_repr(self) -> str:
        return self.name


class MultiHead(nn.Module):
    """What attentions share: products of one width for query, key and value, cut into heads.

    products: their names, as the hub's files have them. scale: of the scores. dropout: of the
    weights, in training.
    """

    products: ClassVar[tuple[str, str, str]] = ("query", "key", "value")
    num_heads: int
    scale: float
    dropout: float

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, D) -> query, key and value, (B, A, N, D/A) each."""
        query, key, value = (self.get_submodule(name)(x) for name in self.products)
        return (
            split_heads(query, self.num_heads),
            split_heads(key, self.num_heads),
            split_heads(value, self.num_heads),
        )

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        bias: Tensor | None = None,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Heads (B, A, N, D/A) -> (B, N, D) and the weights when asked for; see `attend`."""
        return attend(
            query,
            key,
            value,
            scale=self.scale,
            bias=bias,
            dropout=self.dropout if self.training else 0.0,
            head_mask=head_mask,
            need_weights=need_weights,
        )


class SelfAttention(MultiHead):
    """Multi-head self-attention without its output projection."""

    def __init__(self, *, width: int, num_heads: int, qkv_bias: bool, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** -0.5
        self.dropout = dropout
        self.query = nn.Linear(width, width, bias=qkv_bias)
        self.key = nn.Linear(width, width, bias=qkv_bias)
        self.value = nn.Linear(width, width, bias=qkv_bias)

    def forward(
        self, x: Tensor, *, head_mask: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Attend among the tokens.

        x: (B, N, D); head_mask: broadcastable to (B, A, N, N), 1 keeps a head and 0 silences it.
        Returns (B, N, D) and, when asked for, the weights after softmax (B, A, N, N).
        """
        return self.attend(*self.heads(x), head_mask=head_mask, need_weights=need_weights)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, D) -> (B, A, N, D/A)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float,
    bias: Tensor | None = None,
    dropout: float = 0.0,
    head_mask: Tensor | None = None,
    need_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention, fused unless somebody needs to see or mask the weights.

    query, key, value: (B, A, N, D/A); bias: added to the scores, broadcastable to (B, A, N, N);
    head_mask: likewise, 1 keeps a head and 0 silences it.
    Returns (B, N, D) and, when asked for, the weights after softmax (B, A, N, N).
    """
    weights = None
    if head_mask is None and not need_weights:
        context = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=dropout, scale=scale
        )
    else:
        # The explicit form: the fused one neither returns its weights nor masks heads.
        scores = query @ key.transpose(-2, -1) * scale
        weights = (scores if bias is None else scores + bias).softmax(dim=-1)
        weights = F.dropout(weights, p=dropout)
        weights = weights if head_mask is None else weights * head_mask
        context = weights @ value
    context = context.transpose(1, 2).flatten(2)  # (B, A, N, D/A) -> (B, N, D)
    return context, weights if need_weights else None


def pairwise_bias(table: Tensor, window_hw: tuple[int, int]) -> Tensor:
    """Spread a bias that depends on the offset between two places over all pairs of places.

    table: (A, 2h - 1, 2w - 1), the offset (0, 0) in its middle. Returns (A, h·w, h·w): entry
    (query, key) is the table's at (query row - key row, query column - key column).
    """
    height, width = window_hw
    if torch.onnx.is_in_onnx_export():  # ONNX has no unfold: the same entries, gathered one by one
        rows = torch.arange(height - 1, 2 * height - 1, device=table.device)[:, None]
        rows = rows - torch.arange(height, device=table.device)
        columns = torch.arange(width - 1, 2 * width - 1, device=table.device)[:, None]
        columns = columns - torch.arange(width, device=table.device)
        gathered = table[:, rows[:, None, :, None], columns[None, :, None, :]]
        return gathered.flatten(3).flatten(1, 2)
    # (A, h, w, h, w): sliding windows of the table; position (i, j) sees offsets from i and j on.
    windows = table.unfold(1, height, 1).unfold(2, width, 1)
    # Offsets fall while keys rise, hence the flip.
    return windows.flip(-2, -1).flatten(3).flatten(1, 2)


def drop_path(branch: Tensor, *, rate: float, training: bool) -> Tensor:
    """Stochastic depth (Huang et al. 2016): drop a sample's branch (B, …) while training."""
    if not training or rate == 0.0:
        return branch
    shape = (len(branch), *(1 for _ in branch.shape[1:]))
    keep = torch.rand(shape, device=branch.device) >= rate
    return branch * keep / (1.0 - rate)


def drop_path_rates(last: float, depth: int) -> list[float]:
    """Rates that rise evenly from 0 at the first block to `last` at the deepest."""
    return [last * index / max(depth - 1, 1) for index in range(depth)]


class AttentionOutput(nn.Module):
    """The projection that follows attention."""

    def __init__(self, *, width: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.dropout(self.dense(x))


class Attention(nn.Module):
    """Self-attention and its projection, under the hub's names."""

    def __init__(self, attention: nn.Module, *, width: int, dropout: float) -> None:
        super().__init__()
        self.attention = attention
        self.output = AttentionOutput(width=width, dropout=dropout)

    def forward(self, x: Tensor, **options: Any) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) -> (B, N, D) and the weights when asked for; options as the attention's."""
        context, weights = self.attention(x, **options)
        return self.output(context), weights


class GrowBilinear(nn.Module):
    """Bilinear growing from corner to corner (align_corners), as the released weights know it."""

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """(B, C, h, w) -> (B, C, 2h, 2w), or `size`."""
        return F.interpolate(x, size=size or twofold(x), mode="bilinear", align_corners=True)


def twofold(x: Tensor) -> tuple[int, int]:
    """Twice the height and width of (B, C, h, w)."""
    return 2 * x.shape[-2], 2 * x.shape[-1]


class PatchEmbeddings(nn.Module):
    """Cuts the image into patches and projects each to the model's width."""

    def __init__(self, *, num_channels: int, width: int, patch_hw: tuple[int, int]) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.patch_hw = patch_hw
        self.projection = nn.Conv2d(num_channels, width, kernel_size=patch_hw, stride=patch_hw)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, h·w, D). Raises ShapeError for wrong channels or too few pixels."""
        return self.projection(as_weight(pixel_values, self.projection)).flatten(2).transpose(1, 2)

    def grid_hw(self, pixel_values: Tensor) -> tuple[int, int]:
        """How many patches fit: (h, w). What does not fill a patch is left out."""
        check_pixels(pixel_values, num_channels=self.num_channels, min_hw=self.patch_hw)
        height, width = pixel_values.shape[-2:]
        return height // self.patch_hw[0], width // self.patch_hw[1]


def as_weight(pixel_values: Tensor, layer: nn.Module) -> Tensor:
    """Pixels in the dtype of the first layer: a half model takes the processor's float32."""
    return pixel_values.to(getattr(layer, "weight", pixel_values).dtype)


def check_pixels(pixel_values: Tensor, *, num_channels: int, min_hw: tuple[int, int]) -> None:
    """Refuse an input that is not (B, C, H, W) with the model's channels and a patch at least."""
    shape = tuple(pixel_values.shape)
    if len(shape) != 4 or shape[1] != num_channels:
        raise ShapeError(
            f"pixel_values: shape {shape} must be (batch, {num_channels}, height, width)"
        )
    if shape[2] < min_hw[0] or shape[3] < min_hw[1]:
        raise ShapeError(
            f"pixel_values: {shape[2]}x{shape[3]} pixels are less than one patch of "
            f"{min_hw[0]}x{min_hw[1]}; resize the image first"
        )


def resize_positions(
    positions: Tensor,
    grid_hw: tuple[int, int],
    *,
    learned_hw: tuple[int, int],
    mode: str,
    antialias: bool = False,
    offset: float = 0.0,
) -> Tensor:
    """Fit learned position embeddings to another patch grid.

    positions: (1, 1 + G·K, D) of a grid `learned_hw` of G×K patches, the class token's first;
    returns (1, 1 + h·w, D). Resized with align_corners=False, as the reference does, whose grids
    are square; float32 inside, because bicubic weights lose too much in half precision. offset:
    added to the wanted grid before the scale is taken, as DINOv2's own code does.
    """
    if grid_hw == learned_hw:
        return positions
    grid = positions[:, 1:].unflatten(1, learned_hw).permute(0, 3, 1, 2)  # (1, D, G, K)
    grid = grid.float()
    if offset and mode == "bicubic" and torch.onnx.is_in_onnx_export():
        resized = resize_for_graph(grid, grid_hw, offset=offset)
    elif offset:
        scale = ((grid_hw[0] + offset) / learned_hw[0], (grid_hw[1] + offset) / learned_hw[1])
        resized = F.interpolate(grid, scale_factor=scale, mode=mode, align_corners=False)
    else:
        resized = F.interpolate(
            grid, size=grid_hw, mode=mode, align_corners=False, antialias=antialias
        )
    resized = resized.to(positions.dtype).flatten(2).transpose(1, 2)  # (1, h·w, D)
    return torch.cat((positions[:, :1], resized), dim=1)


def map_from_tokens(
    tokens: Tensor, grid_hw: tuple[int, int], *, num_registers: int = 0
) -> FeatureMap:
    """(B, 1 + R + h·w, D) tokens with a class token and R registers -> the neck's form."""
    # Slices and a reshape, not split and unflatten: traced for export, those freeze the grid.
    registers = tokens[:, 1 : 1 + num_registers] if num_registers else None
    patches = tokens[:, 1 + num_registers :].transpose(1, 2)
    grid = patches.reshape(*patches.shape[:2], *grid_hw)  # (B, D, h·w) -> (B, D, h, w)
    return FeatureMap(map=grid, readout=tokens[:, 0], registers=registers)


def mask_for_layers(
    head_mask: Tensor | None, num_layers: int, num_heads: int
) -> list[Tensor | None]:
    """Spread a head mask of shape (A,) or (num_layers, A) over the layers as (1, A, 1, 1) each."""
    if head_mask is None:
        return [None] * num_layers
    given = tuple(head_mask.shape)
    if head_mask.dim() == 1:
        head_mask = head_mask.expand(num_layers, -1)
    if tuple(head_mask.shape) != (num_layers, num_heads):
        raise ShapeError(
            f"head_mask: shape {given} must be ({num_heads},) or ({num_layers}, {num_heads})"
        )
    return [mask.view(1, -1, 1, 1) for mask in head_mask]
