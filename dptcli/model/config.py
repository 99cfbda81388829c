"""DPTConfig: the whole architecture in one frozen dataclass, checked once.

Names and defaults are those of the hub's `config.json`, so that a file written by the reference
reads here and the other way round. Keys that we do not know are kept and written back.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from dptcli.errors import ConfigError
from dptcli.model.checks import (
    Activation,
    check_neck,
    grid_of,
    require_activation,
    require_bool,
    require_choice,
    require_int,
    require_number,
    require_sequence,
)

READOUT_TYPES = ("ignore", "add", "project")
DEPTH_TYPES = ("relative", "metric")
# What a hybrid is built over when its file names no backbone: BiT-50 cut after its third stage.
HYBRID_BACKBONE = {
    "model_type": "bit",
    "global_padding": "same",
    "layer_type": "bottleneck",
    "depths": [3, 4, 9],
    "out_features": ["stage1", "stage2", "stage3"],
    "embedding_dynamic_padding": True,
}


@dataclass(frozen=True, init=False)
class Config:
    """What every configuration shares: dictionaries, files, unknown keys."""

    model_type: ClassVar[str] = ""
    # Groups of fields of which each follows from any other.
    synonyms: ClassVar[Sequence[Sequence[str]]] = ()

    output_attentions: bool = False
    output_hidden_states: bool = False
    return_dict: bool = True

    def __init__(self, **values: Any) -> None:
        """Set the fields that are given, the defaults for the others, and keep unknown keys.

        Raises ConfigError when a value is wrong.
        """
        given_type = values.pop("model_type", self.model_type)
        if given_type != self.model_type:
            raise ConfigError(
                f"model_type: {given_type!r} is not for {type(self).__name__}; "
                f"it takes {self.model_type!r}"
            )
        for field in dataclasses.fields(self):
            value = values.pop(field.name, field.default)
            if value is None and isinstance(field.default, bool):  # null says nothing
                value = field.default
            object.__setattr__(self, field.name, _freeze(value))
        object.__setattr__(self, "extra", values)
        self.__post_init__()
        for field in dataclasses.fields(self):
            if isinstance(field.default, bool):
                require_bool(field.name, getattr(self, field.name))

    def __post_init__(self) -> None:
        """Derive and check; subclasses extend it."""

    def __getattr__(self, name: str) -> Any:
        """Unknown keys of the file read like attributes."""
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    def _set(self, name: str, value: Any) -> None:
        """Set a derived value during `__post_init__`; afterwards the instance stays frozen."""
        object.__setattr__(self, name, value)

    @property
    def use_return_dict(self) -> bool:
        """Whether models answer with output objects (the default) or tuples."""
        return self.return_dict

    def replace(self, **changes: Any) -> Self:
        """A copy with some values changed, checked again."""
        return self.from_dict(self.to_dict(), **changes)

    def to_dict(self) -> dict[str, Any]:
        """Every value, unknown keys and `model_type` included, as plain lists and dictionaries."""
        known = {field.name: _thaw(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {**self.__dict__["extra"], **known, "model_type": self.model_type}

    def to_json_string(self) -> str:
        """The text of config.json. A function as activation cannot be written: ConfigError."""
        try:
            return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
        except TypeError as error:
            raise ConfigError(
                f"{type(self).__name__} holds a value that JSON cannot say ({error}); "
                "give activations by name to save the configuration"
            ) from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> Self:
        """Build from the dictionary of a config.json; `overrides` win.

        Of fields that say the same thing in several ways, those beside an overridden one are left
        out.
        """
        return cls(**overridden(values, overrides, cls.synonyms))

    @classmethod
    def from_json_file(cls, path: str | Path) -> Self:
        """Build from a JSON file. Raises ConfigError when it is not one."""
        from dptcli.weights.folder import read_json

        return cls.from_dict(read_json(Path(path)))

    @classmethod
    def from_pretrained(cls, source: str | Path, **overrides: Any) -> Self:
        """Build from the config.json of a folder in the hub's layout; `overrides` win.

        source: the folder, or a name that `dpt models` lists, or `owner/name[@revision]`.
        """
        from dptcli.weights.folder import CONFIG_NAME, read_config
        from dptcli.weights.sources import settings_file

        values = read_config(settings_file(source, CONFIG_NAME).parent)
        nested = values.get("backbone_config")
        if values.get("model_type") != cls.model_type and isinstance(nested, Mapping):
            values = dict(nested)  # a backbone's configuration read from a whole model's folder
        return cls.from_dict(values, **overrides)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json into `folder`, which is made when it is missing."""
        from dptcli.results.files import write_text

        write_text(Path(folder) / "config.json", self.to_json_string())


@dataclass(frozen=True, init=False)
class LabelledConfig(Config):
    """Adds the class names of a task: id2label, label2id and num_labels agree with each other."""

    synonyms: ClassVar[Sequence[Sequence[str]]] = (("num_labels", "id2label", "label2id"),)

    id2label: Mapping[int, str] | None = None
    label2id: Mapping[str, int] | None = None

    def __init__(self, **values: Any) -> None:
        num_labels = values.pop("num_labels", None)
        super().__init__(**values)
        self._set_labels(num_labels)

    def _set_labels(self, num_labels: int | None) -> None:
        for name in ("id2label", "label2id"):
            if not isinstance(getattr(self, name), Mapping | None):
                raise ConfigError(f"{name}: {getattr(self, name)!r} must be a dictionary")
        names: Mapping[Any, Any] | None = self.id2label
        if names is None and self.label2id is not None:
            names = {index: name for name, index in self.label2id.items()}
        if names is None:
            if num_labels is not None:
                require_int("num_labels", num_labels, low=1)
            names = {index: f"LABEL_{index}" for index in range(num_labels or 2)}
        try:
            id2label = {int(index): str(name) for index, name in names.items()}
        except (TypeError, ValueError):
            raise ConfigError(f"id2label: {list(names)[:5]} must be whole numbers") from None
        if sorted(id2label) != list(range(len(id2label))):
            raise ConfigError(
                f"id2label: ids {sorted(id2label)[:5]}… must count from 0 to {len(id2label) - 1}"
            )
        if num_labels is not None and num_labels != len(id2label):
            raise ConfigError(
                f"num_labels: {num_labels} does not fit the {len(id2label)} names of id2label; "
                "give one of the two"
            )
        self._set("id2label", id2label)
        if self.label2id is None:
            self._set("label2id", {name: index for index, name in id2label.items()})

    @property
    def num_labels(self) -> int:
        """How many classes there are."""
        assert self.id2label is not None
        return len(self.id2label)


@dataclass(frozen=True, init=False)
class DPTConfig(LabelledConfig):
    """The architecture of a DPT model, with the reference document's names and defaults.

    Sizes are in pixels, factors are ratios, indices count from 0. Where a `backbone_config`
    replaces the plain ViT, the ViT's own fields may be None in the file and keep their defaults.

    `depth_estimation_type` is ours: "relative" (inverse depth, large is near) or "metric"
    (metres, large is far); it chooses the loss and the polarity of what is written. So are
    `metric_scale` and `metric_shift`, for a head whose inverse depth x is known up to them: its
    depth is 1 / (scale · x + shift) metres.

    Raises ConfigError naming the field, the value and what is allowed.
    """

    model_type: ClassVar[str] = "dpt"
    fuses_to_next_map: ClassVar[bool] = False  # fusion doubles the size

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: Activation = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    image_size: int | Sequence[int] = 384
    patch_size: int | Sequence[int] = 16
    num_channels: int = 3
    is_hybrid: bool = False
    qkv_bias: bool = True
    backbone_out_indices: Sequence[int] = (2, 5, 8, 11)
    readout_type: str = "project"
    reassemble_factors: Sequence[float] = (4, 2, 1, 0.5)
    neck_hidden_sizes: Sequence[int] = (96, 192, 384, 768)
    fusion_hidden_size: int = 256
    head_in_index: int = -1
    use_batch_norm_in_fusion_residual: bool = False
    use_bias_in_fusion_residual: bool | None = None
    add_projection: bool = False
    use_auxiliary_head: bool = True
    auxiliary_loss_weight: float = 0.4
    semantic_loss_ignore_index: int = 255
    semantic_classifier_dropout: float = 0.1
    backbone_featmap_shape: Sequence[int] | None = (1, 1024, 24, 24)
    neck_ignore_stages: Sequence[int] = (0, 1)
    backbone_config: Config | Mapping[str, Any] | None = None
    pooler_output_size: int | None = None
    pooler_act: Activation = "tanh"
    depth_estimation_type: str = "relative"
    metric_scale: float | None = None
    metric_shift: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._take_backbone()
        self._check_vit()
        self._check_neck()

    @property
    def backbone_width(self) -> int:
        """The width of the tokens that the neck reassembles."""
        if self.backbone_config is None or self.is_hybrid:
            return self.hidden_size
        return int(getattr(self.backbone_config, "hidden_size", self.hidden_size))

    @property
    def reassembles(self) -> bool:
        """Whether the neck reassembles tokens; a hierarchical backbone hands out maps as is."""
        return self.is_hybrid or not getattr(self.backbone_config, "is_hierarchical", False)

    def _take_backbone(self) -> None:
        from dptcli.model.backbones.plain_config import backbone_config_from

        if self.is_hybrid and self.readout_type != "project":
            raise ConfigError(
                f"readout_type: {self.readout_type!r} does not fit is_hybrid; use 'project'"
            )
        named = self.backbone_config
        if self.is_hybrid:
            named = HYBRID_BACKBONE if named is None else named
            if isinstance(named, Mapping):  # old files leave the type out
                named = {"model_type": "bit", **named}
        else:
            self._set("backbone_featmap_shape", None)
            self._set("neck_ignore_stages", ())
        shape = self.backbone_featmap_shape
        if shape is not None and (not isinstance(shape, Sequence) or len(shape) != 4):
            raise ConfigError(
                f"backbone_featmap_shape: {shape!r} must be (batch, channels, height, width)"
            )
        if named is not None and not isinstance(named, Config | Mapping):
            to_dict = getattr(named, "to_dict", None)  # the reference's own configurations have it
            named = to_dict() if callable(to_dict) else named
        if isinstance(named, Mapping):
            named = backbone_config_from(named)
        elif named is not None and not isinstance(named, Config):
            raise ConfigError(
                f"backbone_config: {named!r} must be a backbone configuration or its dictionary"
            )
        self._set("backbone_config", named)
        # The reference writes null for the ViT's fields where another backbone stands in.
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is None and field.default is not None:
                keeps_null = field.name == "backbone_featmap_shape"
                self._set(field.name, None if keeps_null else field.default)

    def _check_vit(self) -> None:
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_channels"):
            require_int(name, getattr(self, name), low=1)
        require_int("intermediate_size", self.intermediate_size, low=1)
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size: {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        require_activation("hidden_act", self.hidden_act)
        require_activation("pooler_act", self.pooler_act, also=("tanh",))
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            require_number(name, getattr(self, name), low=0.0, high=1.0)
        require_number("initializer_range", self.initializer_range, low=0.0)
        require_number("layer_norm_eps", self.layer_norm_eps, low=0.0)
        grid_of(self.image_size, self.patch_size)

    def _check_neck(self) -> None:
        require_choice("readout_type", self.readout_type, READOUT_TYPES)
        require_choice("depth_estimation_type", self.depth_estimation_type, DEPTH_TYPES)
        if self.is_hybrid and sorted(self.neck_ignore_stages) != [0, 1]:
            raise ConfigError(
                f"neck_ignore_stages: {list(self.neck_ignore_stages)} must be [0, 1] for a "
                "hybrid, whose first two maps come from the convolutional stem"
            )
        for name in ("metric_scale", "metric_shift"):
            if getattr(self, name) is not None:
                require_number(name, getattr(self, name), low=0.0)
        one_alone = (self.metric_scale is None) != (self.metric_shift is None)
        is_metric = self.depth_estimation_type == "metric"
        if one_alone or (self.metric_scale is not None and not is_metric):
            raise ConfigError(
                f"metric_scale: {self.metric_scale!r} needs metric_shift and "
                "depth_estimation_type 'metric'"
            )
        check_neck(self)
        if self.use_bias_in_fusion_residual is not None:
            require_bool("use_bias_in_fusion_residual", self.use_bias_in_fusion_residual)
        require_int("semantic_loss_ignore_index", self.semantic_loss_ignore_index, low=-(2**31))
        require_number("auxiliary_loss_weight", self.auxiliary_loss_weight, low=0.0)
        require_number(
            "semantic_classifier_dropout", self.semantic_classifier_dropout, low=0.0, high=1.0
        )
        if self.backbone_config is None or self.is_hybrid:
            self._check_taps(len(self.neck_hidden_sizes))

    def _check_taps(self, num_stages: int) -> None:
        require_sequence("backbone_out_indices", self.backbone_out_indices)
        taps = list(self.backbone_out_indices)
        in_range = all(
            isinstance(tap, int) and 0 <= tap < self.num_hidden_layers
            for tap in (taps[2:] if self.is_hybrid else taps)
        )
        if len(taps) != num_stages or len(set(taps)) != num_stages or not in_range:
            raise ConfigError(
                f"backbone_out_indices: {taps} must be {num_stages} different layers "
                f"from 0 to {self.num_hidden_layers - 1}, one for each of neck_hidden_sizes"
            )


def overridden(
    values: Mapping[str, Any], overrides: Mapping[str, Any], synonyms: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """The values with the overrides, without synonyms of what is overridden."""
    stale = {
        name for group in synonyms if any(other in overrides for other in group) for name in group
    }
    return {**{name: v for name, v in values.items() if name not in stale}, **overrides}


def _freeze(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
