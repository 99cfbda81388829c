"""Changing a built model's parts in place."""

from collections.abc import Callable

from torch import Tensor, nn

_mixed: dict[tuple[type[nn.Module], type[nn.Module]], type[nn.Module]] = {}


def become(module: nn.Module, mixin: type[nn.Module]) -> None:
    """Give a module another behaviour with the parts that it has."""
    kind = type(module)
    if isinstance(module, mixin):
        return
    # Two modules that became the same are of one type, as they were before.
    if (kind, mixin) not in _mixed:
        _mixed[kind, mixin] = type(f"{kind.__name__}{mixin.__name__}", (mixin, kind), {})
    module.__class__ = _mixed[kind, mixin]


def replace_modules(model: nn.Module, change: Callable[[nn.Module], nn.Module | None]) -> None:
    """Put another module in the place of each for which `change` has one."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            other = change(child)
            if other is not None:
                setattr(parent, name, other)


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer of a weight (O, I) and a bias (O,)."""
    rows, columns = weight.shape
    # Not nn.utils.skip_init: it imports sympy, a fifth of a second.
    linear = nn.Linear(columns, rows, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight)
    if bias is not None:
        linear.bias = nn.Parameter(bias)
    return linear
