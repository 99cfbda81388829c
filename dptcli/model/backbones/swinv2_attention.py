"""Attention within the windows of Swin V2 (Liu et al. 2022, section 3): cosines and position bias.

B batch, W windows, M their side in patches, N = M·M places, D width, A heads, h×w patches.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.model.backbones.hierarchical_config import Swinv2Config
from dptcli.model.layers import AttentionOutput, MultiHead, pairwise_bias

BIAS_HIDDEN_SIZE = 512  # of the network that computes position biases; fixed in the reference
MAX_BIAS = 16.0
MAX_LOG_SCALE = math.log(100.0)  # logits are cosines times at most 100


def windows_of(x: Tensor, side: int) -> Tensor:
    """(B, h, w, D) -> (B·W, M·M, D), row by row."""
    x = x.unflatten(2, (-1, side)).unflatten(1, (-1, side))  # (B, h/M, M, w/M, M, D)
    return x.transpose(2, 3).flatten(0, 2).flatten(1, 2)


def merge_windows(windows: Tensor, side: int, hw: tuple[int, int]) -> Tensor:
    """(B·W, M·M, D) -> (B, h, w, D)."""
    grid = windows.unflatten(1, (side, side)).unflatten(0, (-1, hw[0] // side, hw[1] // side))
    return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # from (B, h/M, w/M, M, M, D)


class WindowAttention(MultiHead):
    """Cosine attention among the places of a window, with a learned scale for each head.

    A small network computes the position bias from offsets, so that it carries over to other
    windows: `learned_side` is the side of the window that offsets count by, 0 for `side` itself.
    """

    def __init__(
        self, config: Swinv2Config, *, width: int, num_heads: int, side: int, learned_side: int
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = 1.0  # each head has its own
        self.dropout = config.attention_probs_dropout_prob
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10.0)))
        self.continuous_position_bias_mlp = nn.Sequential(
            nn.Linear(2, BIAS_HIDDEN_SIZE),
            nn.ReLU(),
            nn.Linear(BIAS_HIDDEN_SIZE, num_heads, bias=False),
        )
        self.side = side
        self.reach = max((learned_side or side) - 1, 1)
        self.query = nn.Linear(width, width, bias=config.qkv_bias)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=config.qkv_bias)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend within windows.

        x: (B·W, N, D), an image's windows together; mask: (W, N, N), added to the scores.
        Returns (B·W, N, D) and, when asked for, the weights (B·W, A, N, N).
        """
        query, key, value = self.heads(x)
        scale = self.logit_scale.clamp(max=MAX_LOG_SCALE).exp()  # (A, 1, 1)
        bias = self._position_bias(x)
        if mask is not None:
            bias = (bias + mask.unsqueeze(1)).repeat(x.shape[0] // len(mask), 1, 1, 1)
        return self.attend(
            F.normalize(query, dim=-1) * scale,
            F.normalize(key, dim=-1),
            value,
            bias=bias,
            need_weights=need_weights,
        )

    def _position_bias(self, like: Tensor) -> Tensor:
        """The bias (1, A, N, N) for all pairs of places in a window."""
        offsets = torch.arange(1 - self.side, self.side, dtype=torch.float32, device=like.device)
        offsets = offsets * 8 / self.reach
        # In the logarithm, a larger window extrapolates less far (paper, equation 4).
        spaced = offsets.sign() * torch.log2(offsets.abs() + 1) / math.log2(8)
        pairs = torch.stack(torch.meshgrid(spaced, spaced, indexing="ij"), dim=-1)
        table = self.continuous_position_bias_mlp(pairs.to(like.dtype))  # (2M - 1, 2M - 1, A)
        bias = pairwise_bias(table.permute(2, 0, 1), (self.side, self.side))
        return MAX_BIAS * bias.sigmoid().unsqueeze(0)


class SwinAttention(nn.Module):
    """Window attention and its projection, under the hub's names."""

    def __init__(self, attention: WindowAttention, *, width: int, dropout: float) -> None:
        super().__init__()
        self.self = attention
        self.output = AttentionOutput(width=width, dropout=dropout)

    def forward(
        self, x: Tensor, *, mask: Tensor | None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B·W, N, D) -> (B·W, N, D) and the weights when asked for."""
        context, weights = self.self(x, mask=mask, need_weights=need_weights)
        return self.output(context), weights
