"""3×3 convolutions with a quarter of the multiplications (Winograd; Lavin and Gray 2015).

A tile of 4×4 outputs needs 6×6 inputs. Both are values of polynomials: y = Aᵀ [(G g) ⊙ (Bᵀ d)] in
one dimension, so 36 products for each pair of channels do the work of 144. What is saved has to
pay for the transforms Bᵀ and Aᵀ, which grow with the channels and not with their product.

B batch, I and O channels in and out, H×W pixels, T tiles.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.fast.kernels import CHANNELS_LAST, Kernels, PackedBySize, PackedConv2d
from dptcli.fast.packing import replace_convs

TILE, WINDOW = 4, 6  # pixels along a side: out and in
POSITIONS = WINDOW * WINDOW
# Saved multiplications for each one of the transforms, which run at half the rate or less: 5 is
# 128 channels to 128 (1.6 times as fast on two Zen 3 cores; 256 to 256 2.1 times), while 64 to 64
# loses (0.8).
MIN_SAVED = 5.0
# Fewer tiles are not worth weights of four times the size.
MIN_TILES = 64
# The tiles of a band, so that it stays in the processor's cache between the transforms.
BAND_BYTES = 4 << 20

# Points 0, ±√½, ±√2, ∞: in float32 a fifth of the largest error of the usual 0, ±1, ±2, ∞.
_A, _B = math.sqrt(0.5), math.sqrt(2.0)
INPUT: list[list[float]] = [
    [1, 0, -2.5, 0, 1, 0],
    [0, -2 * _A, -2, _A, 1, 0],
    [0, 2 * _A, -2, -_A, 1, 0],
    [0, -_B / 2, -0.5, _B, 1, 0],
    [0, _B / 2, -0.5, -_B, 1, 0],
    [0, 1, 0, -2.5, 0, 1],
]
"""Bᵀ: the coefficients of ∏(x - other points)."""
FILTER: list[list[float]] = [
    [1, 0, 0],
    [-1 / 1.5, -_A / 1.5, -0.5 / 1.5],
    [-1 / 1.5, _A / 1.5, -0.5 / 1.5],
    [1 / 6, _B / 6, 2 / 6],
    [1 / 6, -_B / 6, 2 / 6],
    [0, 0, 1],
]
"""G: the filter's polynomial at each point, by ∏(point - other points)."""
OUTPUT: list[list[float]] = [
    [1, 1, 1, 1, 1, 0],
    [0, _A, -_A, _B, -_B, 0],
    [0, 0.5, 0.5, 2, 2, 0],
    [0, 0.5 * _A, -0.5 * _A, 2 * _B, -2 * _B, 1],
]
"""Aᵀ: powers of the points."""


def winograd(model: nn.Module, kernels: Kernels) -> None:
    """3×3 convolutions of many channels by Winograd's products."""
    if kernels.winograd:
        replace_convs(model, is_worth_it, WinogradConv2d)


def is_worth_it(conv: Any) -> bool:
    """Whether a module is such a convolution and has the channels that pay for the transforms."""
    if type(conv) is not nn.Conv2d or conv.weight.dtype is not torch.float32:
        return False
    geometry = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    if geometry != ((3, 3), (1, 1), (1, 1), (1, 1), 1) or conv.padding_mode != "zeros":
        return False
    num_in, num_out = conv.in_channels, conv.out_channels
    saved = (9 * TILE**2 - POSITIONS) * num_in * num_out
    transforms = POSITIONS * (POSITIONS * num_in + TILE**2 * num_out)
    return saved >= MIN_SAVED * transforms


class WinogradConv2d(PackedBySize):
    """A 3×3 convolution in tiles; the plain form where an input has few of them.

    ReLU after it and a sum with another map are done while a band of tiles is in the cache. Each
    image is done by itself in bands of one shape, so its result does not depend on the batch.
    """

    def __init__(self, conv: nn.Conv2d, *, relu: bool = False) -> None:
        super().__init__()
        self.direct = PackedConv2d.of(conv, relu=relu)
        self.relu = relu
        bias = conv.bias
        self.bias = torch.zeros(conv.out_channels) if bias is None else bias.detach()
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.input, self.output = _squared(INPUT).float(), _squared(OUTPUT).float()

    @property
    def sources(self) -> list[Tensor]:
        """As PackedBySize's."""
        return self.direct.sources

    def forward(self, x: Tensor, *, added: Tensor | None = None) -> Tensor:
        """(B, I, H, W) -> (B, O, H, W), plus `added`, then ReLU if it has one."""
        height, width = x.shape[-2:]
        if -(-height // TILE) * -(-width // TILE) < MIN_TILES:
            return self.direct(x, added=added)
        missing = (0, -width % TILE, 0, -height % TILE)
        if any(missing):
            x, added = F.pad(x, missing), None if added is None else F.pad(added, missing)
        x = x.contiguous(memory_format=CHANNELS_LAST).permute(0, 2, 3, 1)
        if added is not None:
            added = added.contiguous(memory_format=CHANNELS_LAST).permute(0, 2, 3, 1)
        y = x.new_empty(*x.shape[:3], self.out_channels)
        for index in range(len(x)):
            self._convolve(x[index], None if added is None else added[index], y[index])
        y = y.permute(0, 3, 1, 2)
        return y[..., :height, :width].contiguous(memory_format=CHANNELS_LAST)

    def _convolve(self, x: Tensor, added: Tensor | None, y: Tensor) -> None:
        """x: (H, W, I); added, y: (H, W, O), y is written; sides are multiples of 4."""
        height, width, num_in = x.shape
        rows, columns = height // TILE, width // TILE
        most = max(1, BAND_BYTES // (x.element_size() * POSITIONS * num_in * columns))
        band_rows = -(-rows // -(-rows // most))  # bands of even height
        num_tiles = band_rows * columns
        weight = self.packed_for(num_tiles)
        band = x.new_zeros(TILE * band_rows + 2, width + 2, num_in)
        step, next_pixel, _ = band.stride()
        windows = band.as_strided(
            (band_rows, columns, WINDOW, WINDOW, num_in),
            (TILE * step, TILE * next_pixel, step, next_pixel, 1),
        )
        cut = x.new_empty(num_tiles, POSITIONS, num_in)
        values = torch.empty_like(cut)
        tiles = x.new_empty(num_tiles, TILE * TILE, self.out_channels)
        shape = (rows, TILE, columns, TILE, self.out_channels)
        target, summand = y.view(shape), None if added is None else added.view(shape)
        for top in range(0, rows, band_rows):
            first = min(top, rows - band_rows)  # the last band overlaps the one before
            _fill(band, x, TILE * first - 1)
            cut.view(windows.shape).copy_(windows)
            torch.bmm(self.input.expand(num_tiles, -1, -1), cut, out=values)
            found = self._products(values, weight)
            torch.baddbmm(self.bias, self.output.expand(num_tiles, -1, -1), found, out=tiles)
            piece = tiles.view(band_rows, columns, TILE, TILE, -1).transpose(1, 2)
            place = target[first : first + band_rows]
            if summand is not None:
                torch.add(piece, summand[first : first + band_rows], out=place)
                piece = place
            if self.relu:
                torch.clamp_min(piece, 0.0, out=place)
            elif summand is None:
                place.copy_(piece)

    def _products(self, values: Tensor, weight: Tensor) -> Tensor:
        """(T, 36, I) -> (T, 36, O): a 1×1 convolution in 36 groups over a row of T pixels."""
        pixels = values.view(1, len(values), 1, -1).permute(0, 3, 1, 2)
        found = torch.ops.mkldnn._convolution_pointwise(
            pixels, weight, None, [0, 0], [1, 1], [1, 1], POSITIONS, "none", [], ""
        )
        return found.permute(0, 2, 3, 1).reshape(len(values), POSITIONS, self.out_channels)

    def pack(self, size: Any) -> Tensor:
        """The filters' transform G g Gᵀ, computed in float64, for `size` tiles."""
        [weight] = self.sources
        filters = weight.double().flatten(2).permute(2, 0, 1).flatten(1)  # -> (9, O·I)
        filters = (_squared(FILTER) @ filters).float()  # (36, O·I)
        return torch.ops.mkldnn._reorder_convolution_weight(
            filters.view(-1, self.in_channels, 1, 1),
            [0, 0],
            [1, 1],
            [1, 1],
            POSITIONS,
            [1, POSITIONS * self.in_channels, size, 1],
        )


def _squared(matrix: list[list[float]]) -> Tensor:
    """The transform of a square, row by row, from that of a side; float64."""
    side = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(side, side)


def _fill(band: Tensor, x: Tensor, top: int) -> None:
    """Rows of x (H, W, I) from `top` on into a band with a margin of 1; zeros outside of x."""
    low, high = max(top, 0), min(top + len(band), len(x))
    band[: low - top].zero_()
    band[high - top :].zero_()
    band[low - top : high - top, 1:-1].copy_(x[low:high])
