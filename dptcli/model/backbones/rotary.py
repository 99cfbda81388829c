"""Rotary positions on a grid of patches (Su et al. 2021, Heo et al. 2024), and attention by them.

Half of a head's channels turn by the row, half by the column; products of queries and keys then
depend on how far two patches are apart.
B batch, N tokens, D width, A heads, d = D/A.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dptcli.model.layers import MultiHead


class GridRotation(NamedTuple):
    """What turns each token: cosines and sines (N, d)."""

    cos: Tensor
    sin: Tensor

    def repeated(self, times: int) -> "GridRotation":
        """The same for so many groups of tokens, one after the other."""
        return GridRotation(self.cos.repeat(times, 1), self.sin.repeat(times, 1))

    def turn(self, x: Tensor) -> Tensor:
        """(B, A, N, d) -> the same, turned in x's dtype."""
        # (…, d) -> (…, row or column, first or second of a pair, d/4)
        first, second = x.unflatten(-1, (2, 2, -1)).unbind(-2)
        across = torch.stack((-second, first), dim=-2).flatten(-3)
        return x * self.cos.to(x.dtype) + across * self.sin.to(x.dtype)


def rotation_of(places: Tensor, *, head_width: int, base: float) -> GridRotation:
    """Places (N, 2), row and column each -> how far each token turns.

    head_width: d, a multiple of 4. base: the slowest of a direction's d/4 pairs turns nearly so
    many times slower than the fastest, which turns by one radian from place to place.
    """
    half = head_width // 2
    powers = torch.arange(0, half, 2, device=places.device, dtype=torch.float32) / half
    angles = places.float()[..., None] / base**powers  # (N, 2, d/4)
    angles = torch.cat((angles, angles), dim=-1).flatten(1)  # (N, d): both of a pair turn alike
    return GridRotation(angles.cos(), angles.sin())


class NormedRotaryAttention(MultiHead):
    """Self-attention whose queries and keys are normalised for each head, then turned."""

    def __init__(self, *, width: int, num_heads: int, qkv_bias: bool, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_width = width // num_heads
        self.scale = head_width**-0.5
        self.dropout = dropout
        self.query = nn.Linear(width, width, bias=qkv_bias)
        self.key = nn.Linear(width, width, bias=qkv_bias)
        self.value = nn.Linear(width, width, bias=qkv_bias)
        self.query_norm = nn.LayerNorm(head_width)
        self.key_norm = nn.LayerNorm(head_width)

    def forward(
        self,
        x: Tensor,
        *,
        rotation: GridRotation,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As SelfAttention's, with each token's rotation (N, d)."""
        query, key, value = self.heads(x)
        return self.attend(
            rotation.turn(self.query_norm(query)),
            rotation.turn(self.key_norm(key)),
            value,
            head_mask=head_mask,
            need_weights=need_weights,
        )
