"""Checks of a configuration's values: each names the field, the value and what is allowed."""

from collections.abc import Callable, Sequence
from typing import Any

from dptcli.errors import ConfigError

Activation = str | Callable[..., Any]

# What activations.py has, which loads torch.
ACTIVATIONS = (
    "gelu",
    "gelu_10",
    "gelu_accurate",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_python_tanh",
    "gelu_pytorch_tanh",
    "hardswish",
    "laplace",
    "leaky_relu",
    "linear",
    "mish",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "sqrtsoftplus",
    "swish",
    "tanh",
)


def check_neck(config: Any) -> None:
    """Refuse wrong values in the fields that every family's neck has."""
    for name in ("neck_hidden_sizes", "reassemble_factors"):
        require_sequence(name, getattr(config, name))
    if not config.neck_hidden_sizes:
        raise ConfigError("neck_hidden_sizes: () is empty; give one width for each tap")
    for size in config.neck_hidden_sizes:
        require_int("neck_hidden_sizes", size, low=1)
    require_int("fusion_hidden_size", config.fusion_hidden_size, low=2)
    num_stages = len(config.neck_hidden_sizes)
    if len(config.reassemble_factors) < num_stages:
        raise ConfigError(
            f"reassemble_factors: {list(config.reassemble_factors)} must hold one factor for "
            f"each of the {num_stages} neck_hidden_sizes"
        )
    for factor in config.reassemble_factors:
        _check_factor(factor)
    require_int("head_in_index", config.head_in_index, low=-num_stages, high=num_stages - 1)


def require_int(name: str, value: Any, *, low: int, high: int | None = None) -> None:
    """Refuse what is not a whole number from `low` to `high`."""
    bound = f"of at least {low}" if high is None else f"from {low} to {high}"
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if not is_int or value < low or (high is not None and value > high):
        raise ConfigError(f"{name}: {value!r} must be a whole number {bound}")


def require_number(name: str, value: Any, *, low: float, high: float | None = None) -> None:
    """Refuse what is not a number from `low` to `high`."""
    bound = f"of at least {low:g}" if high is None else f"from {low:g} to {high:g}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not value >= low or (high is not None and value > high):
        raise ConfigError(f"{name}: {value!r} must be a number {bound}")


def require_bool(name: str, value: Any) -> None:
    """Refuse what is neither true nor false: "false" in quotes would count as true."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name}: {value!r} must be true or false")


def require_sequence(name: str, value: Any) -> None:
    """Refuse what is no list."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(f"{name}: {value!r} must be a list")


def require_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Refuse what is not one of the allowed words."""
    if value not in allowed:
        raise ConfigError(f"{name}: {value!r} must be one of {', '.join(allowed)}")


def require_activation(name: str, value: Any) -> None:
    """Refuse what is neither a function nor the name of a known activation."""
    if not callable(value):
        require_choice(name, value, ACTIVATIONS)


def pair_of(name: str, value: Any) -> tuple[int, int]:
    """(height, width) from one number or a pair; ConfigError otherwise."""
    pair = (value, value) if isinstance(value, int) else value
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        raise ConfigError(f"{name}: {value!r} must be one number or (height, width)")
    for side in pair:
        require_int(name, side, low=1)
    return pair[0], pair[1]


def grid_of(image_size: Any, patch_size: Any, *, name: str = "image_size") -> tuple[int, int]:
    """(h, w): the whole patches in an image of the size of the field `name`. ConfigError for 0."""
    image_hw, patch_hw = pair_of(name, image_size), pair_of("patch_size", patch_size)
    grid_hw = image_hw[0] // patch_hw[0], image_hw[1] // patch_hw[1]
    if min(grid_hw) < 1:
        raise ConfigError(f"{name}: {image_size!r} is less than one patch of {patch_size!r}")
    return grid_hw


def _check_factor(factor: Any) -> None:
    require_number("reassemble_factors", factor, low=0.0)
    grows = factor >= 1 and float(factor).is_integer()
    shrinks = 0 < factor < 1 and float(1 / factor).is_integer()
    if not (grows or shrinks):
        raise ConfigError(
            f"reassemble_factors: {factor!r} must be a whole number or one over a whole number"
        )
