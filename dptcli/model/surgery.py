"""Changing a built model's parts in place."""

from collections.abc import Callable

from torch import nn


def become(module: nn.Module, mixin: type[nn.Module]) -> None:
    """Give a module another behaviour with the parts that it has."""
    kind = type(module)
    if not issubclass(kind, mixin):
        module.__class__ = type(f"{kind.__name__}{mixin.__name__}", (mixin, kind), {})


def replace_modules(model: nn.Module, change: Callable[[nn.Module], nn.Module | None]) -> None:
    """Put another module in the place of each for which `change` has one."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            other = change(child)
            if other is not None:
                setattr(parent, name, other)
