"""What models answer with: dataclasses that also read like a dictionary and like a tuple."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Tensors = tuple[Tensor, ...]


class ModelOutput:
    """Access by attribute, by key and by position; what is None counts as absent.

    This is how the reference's outputs behave: `out.logits`, `out["logits"]` and `out[0]`
    (the first that is present) are the same tensor.
    """

    def keys(self) -> list[str]:
        """The names that are present, in order."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]  # every child is a dataclass
        return [field.name for field in fields if getattr(self, field.name) is not None]

    def values(self) -> list[Any]:
        """The values that are present, in order."""
        return [getattr(self, name) for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """(name, value) of what is present, in order."""
        return list(zip(self.keys(), self.values(), strict=True))

    def get(self, name: str, default: Any = None) -> Any:
        """The value by name, or `default` where it is absent."""
        return getattr(self, name) if name in self.keys() else default

    def to_tuple(self) -> tuple[Any, ...]:
        """What is present, as a tuple."""
        return tuple(self.values())

    def __getitem__(self, key: str | int | slice) -> Any:
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self.keys():
            raise KeyError(key)
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())


@dataclass
class BaseModelOutputWithPoolingAndIntermediateActivations(ModelOutput):
    """DPTModel's answer: last_hidden_state (B, N, D), pooler_output (B, P) and what was asked for.

    `intermediate_activations` holds the convolutional maps of a hybrid's stem.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None
    intermediate_activations: Tensors | None = None


@dataclass
class BackboneOutput(ModelOutput):
    """A backbone's answer: one feature map for each stage that `out_features` names."""

    feature_maps: Tensors | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass
class DepthEstimatorOutput(ModelOutput):
    """predicted_depth (B, H, W): inverse depth without unit (relative) or metres (metric)."""

    loss: Tensor | None = None
    predicted_depth: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass
class ZoeDepthDepthEstimatorOutput(ModelOutput):
    """predicted_depth (B, H, W) in metres; domain_logits (B, domains) with several domains."""

    loss: Tensor | None = None
    predicted_depth: Tensor | None = None
    domain_logits: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


@dataclass
class SemanticSegmenterOutput(ModelOutput):
    """logits (B, num_labels, H, W), in general smaller than the input."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None
