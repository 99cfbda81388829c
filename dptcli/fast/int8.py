"""Linear layers in 8 bits, for processors: a quarter of the memory, and the faster product.

Weights are rounded once, row by row; inputs for every call by their own range (dynamic
quantisation), so that no calibration is needed. Convolutions, attention and sums stay float32.
Other than the steps of `optimize`, this changes the result: by .7 % of its range on the sample
photographs with the built-in model; `dpt bench --dtype int8` says how much for yours.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dptcli.fast.capabilities import processor
from dptcli.fast.memory import let_go

# oneDNN's kernels are ahead of FBGEMM's (229 to 210 GFLOP/s on two Zen 3 cores), but it holds every
# weight twice (300 MB more for DPT-large). QNNPACK is ARM's.
_ENGINES = ("fbgemm", "x86", "qnnpack")
# Short rows or few outputs (the position bias of Swin V2) are cheap, and lose the most.
_MIN_SIDE = 64
_SMALLEST = 1e-30  # a row of zeros stays one


def int8_engine() -> str | None:
    """The library that multiplies 8-bit numbers on this processor; None where there is none."""
    if not hasattr(torch, "_make_per_channel_quantized_tensor"):
        return None
    supported = torch.backends.quantized.supported_engines
    return next((name for name in _ENGINES if name in supported), None)


def fits_int8(weights: Sequence[Tensor]) -> bool:
    """Whether layers of these weights (O, I), one below the other, gain by 8 bits."""
    return min(sum(len(weight) for weight in weights), weights[0].shape[1]) >= _MIN_SIDE


class Int8Linear(nn.Module):
    """x W^T + b with W in 8 bits and x rounded to 8 bits by its own range; float32 in and out."""

    def __init__(self, weights: Sequence[Tensor], bias: Tensor | None) -> None:
        """weights: (O, I) each, float32, one below the other; bias: (O of all,) or None."""
        super().__init__()
        self.out_features = sum(len(weight) for weight in weights)
        self.in_features = weights[0].shape[1]
        rounded = [_rounded(weight.detach()) for weight in weights]
        for weight in weights:
            let_go(weight)
        scales = torch.cat([scale for _, scale in rounded])
        values = torch.cat([values for values, _ in rounded])
        self.packed = _packed(values, scales, None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) -> (…, O)."""
        return torch.ops.quantized.linear_dynamic(x, self.packed, False)  # all 8 bits for x


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(O, I) -> int8 (O, I) and the rows' scales (O,), so that weight ≈ int8 × scale."""
    scale = weight.abs().amax(dim=1).clamp_min(_SMALLEST) / largest_weight()
    return torch.round(weight / scale[:, None]).to(torch.int8), scale.double()


def _packed(values: Tensor, scales: Tensor, bias: Tensor | None) -> Any:
    before = torch.backends.quantized.engine
    engine = int8_engine()
    assert engine is not None
    torch.backends.quantized.engine = engine
    try:
        with warnings.catch_warnings():
            # Quantised tensors are to go from PyTorch, but what takes plain ones
            # (onednn.qlinear_pointwise) has no kernel below AVX512.
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
            weight = torch._make_per_channel_quantized_tensor(
                values, scales, torch.zeros(len(scales), dtype=torch.long), 0
            )
        return torch.ops.quantized.linear_prepack(weight, bias)
    finally:
        torch.backends.quantized.engine = before


def largest_weight() -> int:
    """Weights go from minus this to this.

    x86 without VNNI sums two products in 16 bits, and 2 × 255 × 64 is the most that fits. The bit
    is taken from the weights: inputs, whose few large values set the range, need theirs more
    (a mean error of .6 instead of 1.4 % of the range with the built-in model).
    """
    return 127 if processor().wide_sums else 64
