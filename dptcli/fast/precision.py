"""Which dtype a device computes in by itself, and what stays float32 whatever the model's dtype.

Pixels come and depth or logits go in float32, so that a caller need not ask for the dtype.
bfloat16 holds 8 significant bits. A depth map made of such numbers shows bands: 128 levels between
1 and 2. So the layers behind the last narrow convolution compute in float32.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dptcli.fast.capabilities import processor
from dptcli.fast.kernels import has_tensor_cores
from dptcli.fast.surgery import become
from dptcli.model.backbones.base import Backbone
from dptcli.model.dpt import DPTModel
from dptcli.model.heads import Head
from dptcli.model.layers import Features
from dptcli.model.pretrained import Pretrained


def native_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor or GPU multiplies it natively, else float32."""
    if device.type == "cuda":
        native = has_tensor_cores(device)
    else:
        native = device.type == "cpu" and processor().has("bfloat16")
    return torch.bfloat16 if native else torch.float32


class WideningConv2d(nn.Conv2d):
    """A convolution in a narrow dtype whose result is float32."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> float32 (B, O, H', W')."""
        return super().forward(x).float()


class _WidenedInputs(nn.Module):
    """Mixed in: whatever tensors the module is given become float32 first."""

    def forward(self, *inputs: object) -> object:
        """Any tensors; what the module makes of them."""
        return super().forward(*(_widened(value) for value in inputs))


class ToFloat32(nn.Module):
    """Widens what passes."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x.float()


def _widened(value: object) -> object:
    if isinstance(value, Tensor):
        return value.float()
    return [_widened(part) for part in value] if isinstance(value, list | tuple) else value


def take_float32(model: nn.Module) -> None:
    """Let a narrow model's backbone narrow the pixels itself, in place."""
    for module in model.modules():
        if isinstance(module, Backbone | DPTModel):
            setattr(module, "pixel_dtype", module.dtype)  # noqa: B010 - of this class alone
            become(module, _NarrowsPixels)


class _NarrowsPixels(Pretrained):
    """Mixed in: pixels of any dtype become the model's."""

    pixel_dtype: torch.dtype

    def features(self, pixel_values: Tensor, **wanted: Any) -> Features:
        """(B, C, H, W) -> the backbone's feature maps."""
        parent: Any = super()
        return parent.features(pixel_values.to(self.pixel_dtype), **wanted)


def keep_tail_float32(model: nn.Module) -> None:
    """Make a narrow model's last layers float32, in place: from the last growing of the map on."""
    for module in model.modules():
        if not isinstance(module, Head):
            continue
        last_narrow, behind = module.tail()
        if last_narrow is None:
            become(module.float(), _WidenedInputs)
            continue
        _widen(last_narrow)
        for part in behind:
            part.float()


def _widen(conv: nn.Module) -> None:
    assert type(conv) is nn.Conv2d
    conv.__class__ = WideningConv2d
