"""A batch for the network: arrays of one shape put together, under names."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import ConfigError


class BatchFeature(dict[str, Any]):
    """What `preprocess` gives: a dict whose keys are attributes too, so `model(**inputs)` works."""

    def __init__(
        self, data: Mapping[str, Any] | None = None, tensor_type: Any = None, **values: Any
    ) -> None:
        super().__init__({**(data or {}), **values})
        self.convert_to_tensors(tensor_type)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def data(self) -> dict[str, Any]:
        """The dictionary itself, under the reference's name for it."""
        return self

    def convert_to_tensors(self, tensor_type: Any = None) -> Self:
        """Make one array ("np") or tensor ("pt") of each list of arrays; None changes nothing.

        Raises ConfigError where shapes differ.
        """
        kind = kind_of(tensor_type)
        for name, value in self.items():
            if kind is not None and not isinstance(value, str | Mapping):
                self[name] = _as_kind(name, value, kind)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move its tensors as `Tensor.to` does; labels stay integers, whatever the dtype."""
        for key, value in self.items():
            if isinstance(value, list | tuple):
                self[key] = type(value)(_moved(item, args, kwargs) for item in value)
            else:
                self[key] = _moved(value, args, kwargs)
        return self


def kind_of(tensor_type: Any) -> str | None:
    """ "np", "pt" or None, also as the reference's enum. Raises ConfigError for others."""
    kind = getattr(tensor_type, "value", tensor_type)
    if kind not in (None, "np", "pt"):
        raise ConfigError(
            f"return_tensors is {kind!r}; allowed: None, 'np' or 'pt' (for other frameworks "
            "take 'np' and convert)"
        )
    return None if kind is None else str(kind)


def _moved(value: Any, args: Any, kwargs: Any) -> Any:
    if not hasattr(value, "is_floating_point"):
        return value
    moved = value.to(*args, **kwargs)
    becomes_real = moved.is_floating_point() and not value.is_floating_point()
    return value.to(moved.device) if becomes_real else moved


def _as_kind(name: str, value: Any, kind: str) -> Any:
    """An array, a tensor or a list of these as one array or tensor."""
    whole = not isinstance(value, list | tuple)
    arrays = [np.asarray(item) for item in ([value] if whole else value)]
    batch = stack(name, arrays, kind) if arrays else value
    return batch[0] if whole else batch


def stack(name: str, values: list[NDArray[Any]], kind: str | None) -> Any:
    """`values` as a list (None), one array ("np") or one tensor ("pt"), (B, …).

    Raises ConfigError, naming the shapes, where one batch is asked for and they differ.
    """
    if kind is None:
        return values
    shapes = sorted({value.shape for value in values})
    if len(shapes) > 1:
        raise ConfigError(
            f"return_tensors={kind!r} needs one shape, and {name} has "
            f"{', '.join(map(str, shapes))}; pass images of one shape at a time, or "
            "return_tensors=None"
        )
    batch = np.stack(values)
    if kind == "np":
        return batch
    import torch

    return torch.from_numpy(batch)
