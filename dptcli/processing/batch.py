"""A batch for the network: arrays of one shape put together, under names."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import ConfigError


class BatchFeature(dict[str, Any]):
    """What `preprocess` gives: a dict whose keys are attributes too, so `model(**inputs)` works."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move its tensors as `Tensor.to` does; labels stay integers, whatever the dtype."""
        for key, value in self.items():
            if hasattr(value, "is_floating_point"):
                moved = value.to(*args, **kwargs)
                labels = moved.is_floating_point() and not value.is_floating_point()
                self[key] = value.to(moved.device) if labels else moved
        return self


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
