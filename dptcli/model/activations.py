"""The activations that configurations name, as functions of any tensor; no parameters of their own.

Names are the reference's (its ACT2FN), which has several for one function.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dptcli.model.checks import ACTIVATIONS


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of GELU (Hendrycks and Gimpel 2016)."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """The sigmoid approximation of GELU (Hendrycks and Gimpel 2016)."""
    return x * torch.sigmoid(1.702 * x)


def clipped_gelu(x: Tensor) -> Tensor:
    """GELU kept within ±10, for 8 bits (Wu et al. 2020)."""
    return F.gelu(x).clamp(-10, 10)


def relu_squared(x: Tensor) -> Tensor:
    """The square of ReLU (So et al. 2021)."""
    return F.relu(x).square()


def laplace(x: Tensor) -> Tensor:
    """The normal distribution that is nearest to relu_squared (Ma et al. 2022)."""
    mean, deviation = 0.707107, 0.282095
    return 0.5 * (1 + torch.erf((x - mean) / (deviation * math.sqrt(2))))


def sqrt_softplus(x: Tensor) -> Tensor:
    """The root of softplus."""
    return F.softplus(x).sqrt()


def identity(x: Tensor) -> Tensor:
    """The tensor as it is."""
    return x


BY_NAME: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_10": clipped_gelu,
    "gelu_accurate": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_python": F.gelu,
    "gelu_python_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "hardswish": F.hardswish,
    "laplace": laplace,
    "leaky_relu": F.leaky_relu,
    "linear": identity,
    "mish": F.mish,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "relu2": relu_squared,
    "relu6": F.relu6,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "sqrtsoftplus": sqrt_softplus,
    "swish": F.silu,
    "tanh": torch.tanh,
}
assert tuple(BY_NAME) == ACTIVATIONS  # which configurations check without torch
