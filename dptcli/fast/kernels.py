"""Products and convolutions with weights packed once for this processor, where that pays.

oneDNN packs a weight into blocks that suit its kernels. PyTorch's own layers pack it anew in every
call (convolutions) or go to another BLAS (linear layers). Which form is the fastest depends on the
processor, so `kernels_for` decides by what it can do, never by a measurement: the same machine
gives the same numbers in every run.

B batch, N tokens, I and O channels in and out, H×W pixels.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.fast.capabilities import multiplies_by_mkl, packs_bfloat16, processor
from dptcli.fast.memory import let_go

# Longer rows fall to a slow kernel of the 1×1 convolution (24 instead of 155 GFLOP/s at 3072).
MAX_ROW = 2048
# Packed weights for all input sizes together may take so much, but those of two sizes always.
PACKED_BYTES = 1 << 29
MAX_SIZES = 8
# Smaller layers are over before a packed weight pays.
MIN_WEIGHTS = 64 * 64
CHANNELS_LAST = torch.channels_last
# oneDNN's ReLU makes 0 of NaN, and nobody would see what went wrong before it. With a slope it
# compares instead, and NaN stays; what was below 0 is then 0 beside any number that matters.
RELU = ("leaky_relu", [1e-30])
PLAIN: tuple[str, list[float]] = ("none", [])
# From below to beyond this many tokens the fused form is ahead: of windows, whose products are
# small, and where a head's scores outgrow the cache (150 tokens 1.02 to 1.13 of its time, with a
# bias; 400 .66 and .73; 1600 .83 and .64; 2500 .93 and .61; 3000 1.32 and 1.22; two Zen 4 cores).
FEW_HEADS_TOKENS = range(257, 2501)


@dataclass(frozen=True)
class Kernels:
    """The forms that suit a device and dtype.

    linear: "plain"; "packed", oneDNN's product; "conv1x1", its 1×1 convolution, the same product by
    another kernel; "mkl", MKL's; "int8", in 8 bits, not the same function (see `int8.py`).
    fuse_gelu: GELU inside the product. conv: whether convolutions are packed. few_heads: attention
    by two batched products for a few heads at a time, in place of the fused form. winograd: 3×3
    convolutions by fewer multiplications, see `winograd.py`. tensor_cores: fewer passes over a
    GPU's memory, see `tensorcores.py`.
    """

    linear: Literal["plain", "packed", "conv1x1", "mkl", "int8"] = "plain"
    fuse_gelu: bool = False
    conv: bool = False
    few_heads: bool = False
    winograd: bool = False
    tensor_cores: bool = False


def kernels_for(device: torch.device, dtype: torch.dtype) -> Kernels:
    """The forms for a device and dtype; plain ones where oneDNN does not help or is absent."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        return Kernels(tensor_cores=has_tensor_cores(device))
    if device.type != "cpu" or not _has_packed_operators():
        return Kernels()
    if dtype is torch.bfloat16 and packs_bfloat16():
        # PyTorch's fused attention has its bfloat16 from AMX: on two Zen 4 cores, without that, 9.7
        # ms, by oneDNN's products 6.6 (12 heads, 577 tokens). On Intel's, with AMX and without, it
        # was ahead of two products for all heads at once.
        few_heads = not processor().intel
        return Kernels(linear="packed", fuse_gelu=True, conv=True, few_heads=few_heads)
    if dtype is not torch.float32:
        return Kernels()
    if multiplies_by_mkl():
        # On a core of a Xeon, from 384 channels on: 141, without packing 130, oneDNN's packed
        # product with 768 channels 82 GFLOP/s.
        return Kernels(linear="mkl", conv=True)
    if processor().has("avx2"):
        # On two Zen 2 cores: Linear 118, packed 130, as a convolution 176 GFLOP/s; GELU inside
        # the convolution costs more than PyTorch's after it.
        return Kernels(linear="conv1x1", conv=True, winograd=not processor().has("avx512"))
    return Kernels()


def has_tensor_cores(device: torch.device) -> bool:
    """Whether an NVIDIA GPU multiplies both half precisions by tensor cores (Ampere and later)."""
    return torch.version.cuda is not None and torch.cuda.get_device_capability(device)[0] >= 8


def _has_packed_operators() -> bool:
    names = ("_linear_pointwise", "_convolution_pointwise", "_reorder_linear_weight")
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in names
    )


class JoinedLinear(nn.Module):
    """Several linear layers of one input as one product: their outputs side by side."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.linears = nn.ModuleList(linears)
        self.bias = _joined_bias(linears)

    @property
    def weights(self) -> list[Tensor]:
        """The layers' weights, (O, I) each."""
        return [cast("nn.Linear", linear).weight for linear in self.linears]

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) -> (…, O of all)."""
        return F.linear(x, torch.cat(self.weights), self.bias)


def _joined_bias(linears: Sequence[nn.Linear]) -> Tensor | None:
    if all(linear.bias is None for linear in linears):
        return None
    return torch.cat(
        [
            linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
            for linear in linears
        ]
    ).detach()


class PackedLinear(nn.Module):
    """x W^T + b, and GELU after it when asked for, with a weight that only oneDNN can read."""

    def __init__(
        self, weights: Sequence[Tensor], bias: Tensor | None, *, fuse_gelu: bool = False
    ) -> None:
        """weights: (O, I) each, one below the other; bias: (O of all,) or None."""
        super().__init__()
        weight = _below([part.detach() for part in weights])
        self.out_features, self.in_features = weight.shape
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        for part in weights:
            let_go(part)
        self.bias = None if bias is None else bias.detach()
        self.activation = ("gelu", "none") if fuse_gelu else ("none", "")

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) -> (…, O)."""
        name, form = self.activation
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, name, [], form)


class ConvLinear(nn.Module):
    """x W^T + b as a 1×1 convolution over a row of pixels that are the tokens."""

    def __init__(
        self, weights: Sequence[Tensor], bias: Tensor | None, *, gelu: bool = False
    ) -> None:
        """weights: (O, I) each, one below the other; bias: (O of all,). gelu: at the end."""
        super().__init__()
        self.out_features = sum(len(weight) for weight in weights)
        self.in_features = weights[0].shape[1]
        self.gelu = gelu
        num_parts = -(-self.in_features // MAX_ROW)
        columns = zip(*(weight.chunk(num_parts, dim=1) for weight in weights), strict=True)
        self.parts = nn.ModuleList(
            PackedConv2d(
                [weight[:, :, None, None] for weight in part], bias if index == 0 else None
            )
            for index, part in enumerate(columns)
        )

    def forward(self, x: Tensor, *, added: Tensor | None = None) -> Tensor:
        """(…, I) -> (…, O), plus `added` (…, O)."""
        # (…, I) -> (1, I, 1, …) with the channels last in memory, as they are already: no copy.
        pixels = _as_pixels(x)
        first, *others = (cast("PackedConv2d", part) for part in self.parts)
        start = first.in_channels
        y = first(
            pixels if not others else pixels[:, :start],
            added=None if added is None else _as_pixels(added),
        )
        for part in others:
            y = part(pixels[:, start : start + part.in_channels], added=y)
            start += part.in_channels
        y = y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)
        return torch.ops.aten.gelu_(y) if self.gelu else y


def _below(weights: Sequence[Tensor]) -> Tensor:
    """One below the other; a single one as it is, without a copy."""
    return weights[0] if len(weights) == 1 else torch.cat(list(weights))


def _as_pixels(x: Tensor) -> Tensor:
    return x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)


class PackedBySize(nn.Module):
    """A module whose weight is packed for each size of input, and kept for the last few.

    The best packing depends on the input's size, and a kernel that meets another one unpacks it
    slowly.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_sizes = 2
        self._packed: OrderedDict[Any, Tensor] = OrderedDict()

    @property
    def sources(self) -> list[Tensor]:
        """The weights as the file has them."""
        raise NotImplementedError

    def pack(self, size: Any) -> Tensor:
        """The packed weight for one size of input."""
        raise NotImplementedError

    def packed_for(self, size: Any) -> Tensor:
        """The same, made when it is not at hand."""
        packed = self._packed.pop(size, None)
        if packed is None:
            packed = self.pack(size)
            if self.num_sizes < MAX_SIZES:  # a large model: better not held twice
                for weight in self.sources:
                    let_go(weight)
            if len(self._packed) == self.num_sizes:
                self._packed.popitem(last=False)
        self._packed[size] = packed  # the last in order is the last that was used
        return packed


class MklLinear(PackedBySize):
    """x W^T + b with a weight packed for MKL, which PyTorch's own product packs in every call."""

    def __init__(
        self, weights: Sequence[Tensor], bias: Tensor | None, *, gelu: bool = False
    ) -> None:
        """weights: (O, I) each, one below the other; bias: (O of all,). gelu: at the end."""
        super().__init__()
        self.weights = [weight.detach() for weight in weights]
        self.bias = None if bias is None else bias.detach()
        self.gelu = gelu
        self.out_features = sum(len(weight) for weight in weights)
        self.in_features = weights[0].shape[1]
        # What the operator reads where nothing is packed for an input; of this one the shape alone.
        self.unread = torch.full((1, 1), torch.nan).expand(self.out_features, self.in_features)

    def forward(self, x: Tensor, *, added: Tensor | None = None) -> Tensor:
        """(…, I) -> (…, O), plus `added` (…, O)."""
        num_rows = x.numel() // self.in_features
        weight = self.packed_for(num_rows)
        y = torch.ops.mkl._mkl_linear(x, weight, self.unread, self.bias, num_rows)
        if added is not None:
            y += added
        return torch.ops.aten.gelu_(y) if self.gelu else y

    @property
    def sources(self) -> list[Tensor]:
        """As PackedBySize's."""
        return self.weights

    def pack(self, size: Any) -> Tensor:
        """For `size` rows."""
        weight = _below(self.weights).contiguous()
        return torch.ops.mkl._mkl_reorder_linear_weight(weight, size)


class PackedConv2d(PackedBySize):
    """A convolution with a packed weight; ReLU after it and a sum with another map are free."""

    bias: Tensor | None

    def __init__(
        self,
        weights: Sequence[Tensor],
        bias: Tensor | None,
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        relu: bool = False,
    ) -> None:
        """weights: (O, I, k, k) each, one below the other; bias: (O of all,) or None."""
        super().__init__()
        self.in_channels = weights[0].shape[1]
        self.stride, self.padding, self.dilation = list(stride), list(padding), list(dilation)
        self.activation = RELU if relu else PLAIN
        self.register_buffer("bias", None if bias is None else bias.detach(), persistent=False)
        self.weights = [weight.detach() for weight in weights]

    @classmethod
    def of(cls, conv: nn.Conv2d, *, relu: bool = False) -> "PackedConv2d":
        """Pack a convolution without groups and with zero padding in numbers."""
        assert not isinstance(conv.padding, str)
        return cls(
            [conv.weight],
            conv.bias,
            stride=_pair(conv.stride),
            padding=_pair(conv.padding),
            dilation=_pair(conv.dilation),
            relu=relu,
        )

    def forward(self, x: Tensor, *, added: Tensor | None = None) -> Tensor:
        """(B, I, H, W) -> (B, O, H', W'), plus `added`, then ReLU if it has one."""
        x = x.contiguous(memory_format=CHANNELS_LAST)
        weight = self.packed_for(x.shape)
        geometry = (self.padding, self.stride, self.dilation, 1)
        name, numbers = self.activation
        if added is None:
            return torch.ops.mkldnn._convolution_pointwise(
                x, weight, self.bias, *geometry, name, numbers, ""
            )
        after_sum = None if self.activation is PLAIN else name
        added = added.contiguous(memory_format=CHANNELS_LAST)
        return torch.ops.mkldnn._convolution_pointwise(
            x, added, weight, self.bias, *geometry, "add", None, after_sum, numbers, None
        )

    @property
    def sources(self) -> list[Tensor]:
        """As PackedBySize's."""
        return self.weights

    def pack(self, size: Any) -> Tensor:
        """For an input of shape `size`."""
        return torch.ops.mkldnn._reorder_convolution_weight(
            _below(self.weights).contiguous(memory_format=CHANNELS_LAST),
            self.padding,
            self.stride,
            self.dilation,
            1,
            list(size),
        )


def share_memory(model: nn.Module) -> None:
    """Tell packed weights for how many sizes a model of their weight may keep them ready."""
    packed = [module for module in model.modules() if isinstance(module, PackedBySize)]
    num_bytes = sum(weight.nbytes for module in packed for weight in module.sources)
    num_sizes = PACKED_BYTES // max(num_bytes, 1)
    for module in packed:
        module.num_sizes = min(max(num_sizes, 2), MAX_SIZES)


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    first, second = value
    return first, second


def attend_few_heads(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float, bias: Tensor | None = None
) -> Tensor:
    """Attention with as many heads at a time as threads: (B, A, N, d) each -> (B, N, A d).

    So the scores of a head, N² of 2 bytes, are still in its core's cache when they are summed.
    bias: added to the scores, (1 or B, A, N, N).
    """
    query, context = query * scale, value.new_empty(value.shape)
    step = torch.get_num_threads()
    for image, heads in enumerate(context):
        own_bias = None if bias is None else bias[image % len(bias)]
        for first in range(0, len(heads), step):
            few = slice(first, first + step)
            scores = query[image, few] @ key[image, few].transpose(1, 2)
            if own_bias is not None:
                scores += own_bias[few]
            torch.bmm(F.softmax(scores, dim=-1), value[image, few], out=heads[few])
    return context.transpose(1, 2).flatten(2)
