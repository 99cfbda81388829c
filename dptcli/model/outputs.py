"""What models answer with: dictionaries that also read by attribute and by position."""

from collections.abc import Iterable
from typing import Any, dataclass_transform

import torch.utils._pytree as pytree
from torch import Tensor

Tensors = tuple[Tensor, ...]


def _entry(name: str) -> property:
    """An attribute that is the dictionary's entry; None stands for an absent one."""

    def read(output: dict[str, Any]) -> Any:
        return output.get(name)

    def write(output: dict[str, Any], value: Any) -> None:
        output[name] = value

    return property(read, write)


@dataclass_transform()
class ModelOutput(dict[str, Any]):
    """Access by attribute, by key and by position; what is None is absent.

    This is how the reference's outputs behave: `out.logits`, `out["logits"]` and `out[0]`
    (the first that is present) are the same tensor. Children annotate their entries, all of which
    may be None; the order is theirs. PyTorch's exporters, tracers and DataParallel see a
    dictionary, which they know how to take apart and put together.
    """

    def __init_subclass__(cls) -> None:
        for name in cls.__annotations__:
            setattr(cls, name, _entry(name))
        pytree.register_pytree_node(
            cls,
            lambda output: (list(output.values()), list(output)),
            lambda values, names: cls(zip(names, values, strict=True)),
            flatten_with_keys_fn=lambda output: (
                [(pytree.MappingKey(name), value) for name, value in output.items()],
                list(output),
            ),
            serialized_type_name=f"{cls.__module__}.{cls.__name__}",
        )

    def __init__(self, *values: Any, **named: Any) -> None:
        """From the entries, by position or name; or from pairs, as dictionaries are made."""
        super().__init__()
        names = list(type(self).__annotations__)
        first = values[0] if len(values) == 1 and not named else None
        if isinstance(first, Iterable) and not isinstance(first, Tensor):
            named, values = dict(first), ()
        for name, value in (*zip(names, values, strict=False), *named.items()):
            self[name] = value

    def to_tuple(self) -> tuple[Any, ...]:
        """What is present, as a tuple."""
        return tuple(self.values())

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __setitem__(self, name: str, value: Any) -> None:
        if value is None:
            self.pop(name, None)
        else:
            super().__setitem__(name, value)

    def __repr__(self) -> str:
        entries = ", ".join(f"{name}={value!r}" for name, value in self.items())
        return f"{type(self).__name__}({entries})"


class BaseModelOutputWithPoolingAndIntermediateActivations(ModelOutput):
    """DPTModel's answer: last_hidden_state (B, N, D), pooler_output (B, P) and what was asked for.

    `intermediate_activations` holds the convolutional maps of a hybrid's stem.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None
    intermediate_activations: Tensors | None = None


class BackboneOutput(ModelOutput):
    """A backbone's answer: one feature map for each stage that `out_features` names."""

    feature_maps: Tensors | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None
    cls_tokens: Tensors | None = None


class DepthEstimatorOutput(ModelOutput):
    """predicted_depth (B, H, W): inverse depth without unit (relative) or metres (metric)."""

    loss: Tensor | None = None
    predicted_depth: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


class DepthAndSkyOutput(ModelOutput):
    """predicted_depth (B, H, W), large is far; sky (B, H, W), large where it is."""

    loss: Tensor | None = None
    predicted_depth: Tensor | None = None
    sky: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


class DepthAndCameraOutput(ModelOutput):
    """predicted_depth (B, H, W), large is far; how sure it is, and the cameras that saw it.

    confidence (B, H, W), 1 or more. intrinsics (B, 3, 3) in pixels of the input, (0, 0) the corner
    of the first one. extrinsics (B, 3, 4): world to camera. (B, S, …) of S views of a scene.
    """

    loss: Tensor | None = None
    predicted_depth: Tensor | None = None
    confidence: Tensor | None = None
    intrinsics: Tensor | None = None
    extrinsics: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


class DensePredictorOutput(ModelOutput):
    """predicted_depth (B, H, W) in metres, normals (B, 3, H, W), segmentation_logits (B, C, H, W).

    Normals have the network's axes, and are not of length 1.
    """

    predicted_depth: Tensor | None = None
    normals: Tensor | None = None
    segmentation_logits: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


class DepthAndNormalsOutput(ModelOutput):
    """predicted_depth (B, H, W), or (B, 1 + C, H, W) with the logits of classes behind it.

    normal_x, normal_y, normal_z (B, H, W): the network's axes, not of length 1.
    """

    loss: Tensor | None = None
    predicted_depth: Tensor | None = None
    normal_x: Tensor | None = None
    normal_y: Tensor | None = None
    normal_z: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


class NormalEstimatorOutput(ModelOutput):
    """normals (B, 3, H, W), the network's axes, not of length 1."""

    normals: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


class ZoeDepthDepthEstimatorOutput(ModelOutput):
    """predicted_depth (B, H, W) in metres; domain_logits (B, domains) with several domains."""

    loss: Tensor | None = None
    predicted_depth: Tensor | None = None
    domain_logits: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


class SemanticSegmenterOutput(ModelOutput):
    """logits (B, num_labels, H, W), in general smaller than the input."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None
