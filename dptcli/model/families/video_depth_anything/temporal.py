"""Attention along a clip's frames (Chen et al. 2025, section 3.1): each place of a map by itself.

B clips, T frames, N places of a map (h·w), C channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NORM_EPS = 1e-6
_GROWTH = 4  # of the feed-forward layer


class TemporalAttention(nn.Module):
    """Attention from frame to frame, which are told apart by sines and cosines of their number."""

    def __init__(self, channels: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.output = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B·N, T, C) -> (B·N, T, C)."""
        x = x + frame_positions(x.shape[1], x.shape[2], like=x)
        query, key, value = (
            part(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B·N, heads, T, C/heads)
            for part in (self.query, self.key, self.value)
        )
        found = F.scaled_dot_product_attention(query, key, value)
        return self.output(found.transpose(1, 2).flatten(2))


class GatedFeedForward(nn.Module):
    """A feed-forward layer whose one half gates the other (GEGLU, Shazeer 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Linear(channels, 2 * _GROWTH * channels)
        self.outer = nn.Linear(_GROWTH * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) -> (…, C)."""
        values, gate = self.inner(x).chunk(2, dim=-1)
        return self.outer(values * F.gelu(gate))


class TemporalModule(nn.Module):
    """Two attentions along the frames and a feed-forward layer, added to the maps.

    A new one adds nothing: its last layer begins at 0.
    """

    def __init__(self, channels: int, *, num_heads: int, num_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(num_groups, channels, eps=_NORM_EPS)
        self.project_in = nn.Linear(channels, channels)
        self.attentions = nn.ModuleList(
            TemporalAttention(channels, num_heads=num_heads) for _ in range(2)
        )
        self.attention_norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.feed_forward = GatedFeedForward(channels)
        self.feed_forward_norm = nn.LayerNorm(channels)
        self.project_out = nn.Linear(channels, channels)

    def forward(self, maps: Tensor, *, num_frames: int) -> Tensor:
        """(B·T, C, h, w) -> (B·T, C, h, w)."""
        height, width = maps.shape[-2:]
        x = self.norm(maps).unflatten(0, (-1, num_frames)).flatten(3)  # (B, T, C, N)
        x = x.permute(0, 3, 1, 2).flatten(0, 1)  # (B·N, T, C)
        x = self.project_in(x)
        for attention, norm in zip(self.attentions, self.attention_norms, strict=True):
            x = x + attention(norm(x))
        x = x + self.feed_forward(self.feed_forward_norm(x))
        x = self.project_out(x).unflatten(0, (-1, height * width))  # (B, N, T, C)
        x = x.permute(0, 2, 3, 1).unflatten(-1, (height, width))  # (B, T, C, h, w)
        return maps + x.flatten(0, 1)


def frame_positions(num_frames: int, channels: int, *, like: Tensor) -> Tensor:
    """(T, C): the sines (even channels) and cosines of each frame's number, in `like`'s dtype."""
    number = torch.arange(num_frames, dtype=torch.float32, device=like.device)[:, None]
    even = torch.arange(0, channels, 2, dtype=torch.float32, device=like.device)
    angle = number * torch.exp(even * (-math.log(10000.0) / channels))
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :channels].to(like.dtype)
