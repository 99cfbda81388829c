"""Bicubic resizing as two products, for a graph of any size: exporters take fixed scales alone."""

import torch
from torch import Tensor

_A = -0.75  # of the kernel, as PyTorch and OpenCV have it (Keys 1981 has -0.5)


def resize_for_graph(grid: Tensor, hw: tuple[int, int], *, offset: float) -> Tensor:
    """(1, D, G, K) -> (1, D, h, w), as layers.resize_positions has it with an offset.

    hw: traced sizes. At the learned size the positions are what they are.
    """
    learned_hw = grid.shape[-2], grid.shape[-1]
    pairs = list(zip(hw, learned_hw, strict=True))
    apart = torch.stack([(torch.as_tensor(side) - own).abs() for side, own in pairs]).sum()
    added = offset * (apart > 0)
    rows, columns = ((side + added) / own for side, own in pairs)
    return resize_cubic(grid, hw, scale=(rows, columns))


def resize_cubic(
    grid: Tensor, hw: tuple[int, int], *, scale: tuple[float | Tensor, float | Tensor]
) -> Tensor:
    """(B, C, G, K) -> (B, C, h, w), as F.interpolate(mode="bicubic", scale_factor=scale) gives it.

    Output pixel i lies at (i + 0.5) / scale − 0.5 of the input, whose edges go on beyond it.
    """
    rows = _weights(hw[0], grid.shape[-2], scale[0], grid)
    columns = _weights(hw[1], grid.shape[-1], scale[1], grid)
    return rows @ grid @ columns.transpose(0, 1)


def _weights(size: int, learned: int, scale: float | Tensor, like: Tensor) -> Tensor:
    """What each of the learned places gives to each of `size` ones, (size, learned)."""
    at = (torch.arange(size, device=like.device).to(like.dtype) + 0.5) / scale - 0.5
    first = at.floor()
    places = torch.arange(learned, device=like.device).to(like.dtype)
    weights = []
    for step in (-1, 0, 1, 2):
        near = (first + step).clamp(0, learned - 1)  # beyond an edge is the edge
        given = _kernel((at - first - step).abs())
        weights.append(given[:, None] * (near[:, None] == places).to(like.dtype))
    return torch.stack(weights).sum(dim=0)


def _kernel(distance: Tensor) -> Tensor:
    """The weight of a place so many places away, up to 2."""
    x = distance
    inner = ((_A + 2) * x - (_A + 3)) * x * x + 1
    outer = ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A
    return torch.where(x <= 1, inner, outer)
