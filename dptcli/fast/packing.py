"""The step of `optimize` that packs weights for the processor's fastest kernels.

B batch, N tokens, D width.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.fast.int8 import Int8Linear, fits_int8
from dptcli.fast.kernels import (
    MIN_WEIGHTS,
    ConvLinear,
    JoinedLinear,
    Kernels,
    MklLinear,
    PackedConv2d,
    PackedLinear,
    share_memory,
)
from dptcli.fast.memory import let_go
from dptcli.fast.precision import ToFloat32, WideningConv2d
from dptcli.fast.surgery import become, linear_of, replace_modules
from dptcli.model.backbones.vit import Dinov2Layer, ViTLayer
from dptcli.model.layers import ActivationLayer
from dptcli.model.neck import ResidualConvUnit

_SUMMING = (ConvLinear, MklLinear)  # take what is added to their product


def pack(model: nn.Module, kernels: Kernels) -> None:
    """Weights in the form of the processor's fastest kernels, activations inside them."""
    if kernels.conv:
        replace_convs(model, _is_packable, PackedConv2d.of)
    if kernels.linear != "plain":
        fuse_gelu(
            model,
            lambda linear: linear.weight.numel() >= MIN_WEIGHTS,
            lambda linear: _packed_linear([linear.weight], linear.bias, kernels, gelu=True),
        )
    replace_modules(model, lambda module: _packed(module, kernels))
    for module in model.modules():
        if isinstance(module, ViTLayer) and _both_sum(module.attention, module.output.dense):
            become(module, _SummedViT)
        elif isinstance(module, Dinov2Layer) and _ends_packed(module):
            become(module, _SummedDinov2)
    share_memory(model)


def replace_convs(
    model: nn.Module, fits: Callable[[Any], bool], make: Callable[..., nn.Module]
) -> None:
    """Put `make(conv)` in the place of convolutions that `fits` takes.

    Where ReLU or a sum follows, it goes inside: `make(conv, relu=True)`, `made(x, added=y)`.
    """
    for module in model.modules():
        if isinstance(module, ResidualConvUnit):
            _replace_in_unit(module, fits, make)
        elif isinstance(module, nn.Sequential):
            _replace_before_relus(module, fits, make)
    replace_modules(model, lambda module: make(module) if fits(module) else None)


def _replace_in_unit(
    unit: Any, fits: Callable[[Any], bool], make: Callable[..., nn.Module]
) -> None:
    folded = isinstance(unit.batch_norm1, nn.Identity) and isinstance(unit.batch_norm2, nn.Identity)
    if folded and fits(unit.convolution1) and fits(unit.convolution2):
        unit.convolution1 = make(unit.convolution1, relu=True)
        unit.convolution2 = make(unit.convolution2)
        become(unit, _SummedUnit)


class _SummedUnit(ResidualConvUnit):
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return self.convolution2(self.convolution1(F.relu(x)), added=x)


def _replace_before_relus(
    sequence: nn.Sequential, fits: Callable[[Any], bool], make: Callable[..., nn.Module]
) -> None:
    """A convolution and the ReLU that follows it, with nothing between, in one.

    Not after a small one, which ends a network: its zeros are to be zeros, see `kernels.RELU`.
    """
    kept = [index for index, part in enumerate(sequence) if not isinstance(part, nn.Identity)]
    for index, following in pairwise(kept):
        conv: Any = sequence[index]
        fuses = fits(conv) and conv.weight.numel() >= MIN_WEIGHTS
        if fuses and isinstance(sequence[following], nn.ReLU):
            sequence[index] = make(conv, relu=True)
            sequence[following] = nn.Identity()


class _SummedViT(ViTLayer):
    """Sums inside the products that end the branches."""

    def forward(
        self, x: Tensor, *, head_mask: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) -> (B, N, D) and the attention weights when asked for."""
        context, weights = self.attention.attention(
            self.layernorm_before(x), head_mask=head_mask, need_weights=need_weights
        )
        x = self.attention.output.dense(context, added=x)
        return self.output.dense(self.intermediate(self.layernorm_after(x)), added=x), weights


class _SummedDinov2(Dinov2Layer):
    """The same; layer scale is folded into the products already."""

    def forward(
        self,
        x: Tensor,
        *,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
        **shared: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) -> (B, N, D) and the attention weights when asked for."""
        context, weights = self.attention.attention(
            self.norm1(x), head_mask=head_mask, need_weights=need_weights, **shared
        )
        x = self.attention.output.dense(context, added=x)
        mlp: Any = self.mlp
        return mlp.fc2(mlp.activation(mlp.fc1(self.norm2(x))), added=x), weights


def _ends_packed(block: Dinov2Layer) -> bool:
    folded = isinstance(block.layer_scale1, nn.Identity)
    return folded and _both_sum(block.attention, getattr(block.mlp, "fc2", None))


def _both_sum(attention: Any, last: nn.Module | None) -> bool:
    """Whether the products that end a block's branches are packed; a narrow block's first isn't."""
    return isinstance(attention.output.dense, _SUMMING) and isinstance(last, _SUMMING)


def fuse_gelu(
    model: nn.Module, fits: Callable[[nn.Linear], bool], make: Callable[[nn.Linear], nn.Module]
) -> None:
    """Put `make(linear)`, which ends in GELU, in the place of an MLP's first product and GELU."""
    for module in model.modules():
        activation = getattr(module, "activation", None)
        if not isinstance(activation, ActivationLayer) or activation.function is not F.gelu:
            continue
        names = ("dense", "fc1", "gate_proj", "up_proj")  # where there is a gate, it is activated
        name = next((name for name in names if getattr(module, name, None) is not None), "")
        linear = getattr(module, name, None)
        if type(linear) is nn.Linear and fits(linear):
            setattr(module, name, make(linear))
            module.activation = nn.Identity()


def _packed(module: Any, kernels: Kernels) -> nn.Module | None:
    if kernels.conv and isinstance(module, WideningConv2d):
        return nn.Sequential(PackedConv2d.of(module), ToFloat32())
    if isinstance(module, JoinedLinear):
        return _packed_linear(module.weights, module.bias, kernels)
    if kernels.linear == "plain":
        return None
    if type(module) is nn.Linear and module.weight.numel() >= MIN_WEIGHTS:
        return _packed_linear([module.weight], module.bias, kernels)
    return None


def _packed_linear(
    weights: Sequence[Tensor], bias: Tensor | None, kernels: Kernels, *, gelu: bool = False
) -> nn.Module:
    if kernels.linear == "int8" and fits_int8(weights):
        linear = Int8Linear(weights, bias)
        return nn.Sequential(linear, nn.GELU()) if gelu else linear
    if kernels.linear == "conv1x1":
        return ConvLinear(weights, bias, gelu=gelu)
    if kernels.linear == "mkl":
        return MklLinear(weights, bias, gelu=gelu)
    if kernels.linear == "plain":
        return _joined_once(weights, bias)
    if kernels.fuse_gelu or not gelu:
        return PackedLinear(weights, bias, fuse_gelu=gelu)
    return nn.Sequential(PackedLinear(weights, bias), nn.GELU())


def _joined_once(weights: Sequence[Tensor], bias: Tensor | None) -> nn.Linear:
    """Several layers' weights below each other for good, not anew in every call."""
    joined = torch.cat([weight.detach() for weight in weights])
    for weight in weights:
        let_go(weight)
    return linear_of(joined, bias)


def _is_packable(module: Any) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        # PyTorch takes another kernel for a 1×1 convolution when it has one thread alone.
        and (module.weight.numel() >= MIN_WEIGHTS or tuple(module.kernel_size) == (1, 1))
    )
