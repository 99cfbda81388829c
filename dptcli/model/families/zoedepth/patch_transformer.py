"""The small transformer by which a ZoeDepth of several domains tells an image's domain.

B batch, N tokens (an empty one first), D width, C channels and h×w the size of the coarsest map.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.model.families.zoedepth.config import ZoeDepthConfig
from dptcli.model.layers import MultiHead


class DomainClassifier(nn.Module):
    """Two linear layers from the transformer's first token to the domains' scores."""

    def __init__(self, width: int, *, num_domains: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, width)
        self.linear2 = nn.Linear(width, num_domains)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, domains)."""
        return self.linear2(F.relu(self.linear1(x)))


class PatchTransformer(nn.Module):
    """A post-norm transformer over the coarsest map, with an empty first token to gather."""

    def __init__(self, config: ZoeDepthConfig) -> None:
        super().__init__()
        width = config.patch_transformer_hidden_size or 0
        self.transformer_encoder = nn.ModuleList(
            PatchTransformerLayer(config) for _ in range(config.num_patch_transformer_layers or 0)
        )
        self.embedding_convPxP = nn.Conv2d(config.bottleneck_features, width, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 1 + h·w, D)."""
        tokens = self.embedding_convPxP(x).flatten(2)  # (B, D, h·w)
        tokens = F.pad(tokens, (1, 0)).transpose(1, 2)
        tokens = tokens + _sinusoids(tokens)
        for layer in self.transformer_encoder:
            tokens = layer(tokens)
        return tokens


def _sinusoids(tokens: Tensor) -> Tensor:
    """Position encodings (N, D) for tokens (B, N, D): sines, then cosines (Vaswani et al. 2017)."""
    _, num_tokens, width = tokens.shape
    places = torch.arange(num_tokens, dtype=torch.float32, device=tokens.device).unsqueeze(1)
    steps = torch.arange(0, width, 2, dtype=torch.float32, device=tokens.device)
    angles = places * torch.exp(steps * (-math.log(10000.0) / width))
    return torch.cat((angles.sin(), angles.cos()), dim=1).to(tokens.dtype)


class PatchTransformerLayer(nn.Module):
    """One post-norm block with ReLU, as PyTorch's own encoder layer."""

    def __init__(self, config: ZoeDepthConfig, *, dropout: float = 0.1) -> None:
        super().__init__()
        width = config.patch_transformer_hidden_size or 0
        hidden = config.patch_transformer_intermediate_size or 0
        self.self_attn = PatchAttention(
            width, num_heads=config.patch_transformer_num_attention_heads or 1, dropout=dropout
        )
        self.linear1 = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = self.norm1(x + self.dropout(self.self_attn(x)))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class PatchAttention(MultiHead):
    """Multi-head self-attention with its output projection."""

    def __init__(self, width: int, *, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** -0.5
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        context, _ = self.attend(*self.heads(x))
        return self.out_proj(context)
