"""DPTConfig: the whole architecture in one dataclass, checked as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from dptcli.errors import ConfigError
from dptcli.kinds import DEPTH_TYPES
from dptcli.model.backbones.config import BackboneConfig
from dptcli.model.backbones.plain_config import backbone_config_from
from dptcli.model.base_config import Config, LabelledConfig, overridden
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

# How a backbone can be named instead of described, and what to do about what is not supported.
BY_NAME = {
    "backbone": "",
    "backbone_kwargs": "",
    "use_timm_backbone": "timm's networks have other files; name a transformers backbone",
    "use_pretrained_backbone": (
        "build the model, then model.backbone = AutoBackbone.from_pretrained(name)"
    ),
}
READOUT_TYPES = ("ignore", "add", "project")
# What a hybrid is built over when its file names no backbone: BiT-50 cut after its third stage.
HYBRID_BACKBONE = {
    "model_type": "bit",
    "global_padding": "same",
    "layer_type": "bottleneck",
    "depths": [3, 4, 9],
    "out_features": ["stage1", "stage2", "stage3"],
    "embedding_dynamic_padding": True,
}


@dataclass(init=False)
class DPTConfig(LabelledConfig):
    """The architecture of a DPT model, with the reference document's names and defaults.

    Sizes are in pixels, factors are ratios, indices count from 0. Where a `backbone_config`
    replaces the plain ViT, the ViT's own fields may be None in the file and keep their defaults.

    `depth_estimation_type` is ours: "relative" (inverse depth, large is near), "depth" (large is
    far, without scale) or "metric" (metres, large is far); it chooses the loss and the polarity of
    what is written. So are
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

    @property
    def _num_stem_maps(self) -> int:
        return 2 if self.is_hybrid else 0

    @property
    def taps(self) -> list[int]:
        """The ViT's layers whose tokens the neck takes: those of `backbone_out_indices` that exist.

        Each counts once, from shallow to deep, as in the reference; a hybrid's first two entries
        stand for its stem's maps.
        """
        named = set(self.backbone_out_indices[self._num_stem_maps :])
        return sorted(named.intersection(range(self.num_hidden_layers)))

    def _take_backbone(self) -> None:
        if self.is_hybrid and self.readout_type != "project":
            raise ConfigError(
                f"readout_type: {self.readout_type!r} does not fit is_hybrid; use 'project'"
            )
        named = self._named_backbone() if self.backbone_config is None else self.backbone_config
        if self.is_hybrid:
            named = HYBRID_BACKBONE if named is None else named
            if isinstance(named, Mapping):  # old files leave the type out
                named = {"model_type": "bit", **named}
        else:
            self._set("backbone_featmap_shape", None)
            self._set("neck_ignore_stages", [])
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
        for field in fields(self):
            if getattr(self, field.name) is None and field.default is not None:
                keeps_null = field.name == "backbone_featmap_shape"
                default = field.default
                default = list(default) if isinstance(default, tuple) else default
                self._set(field.name, None if keeps_null else default)

    def _named_backbone(self) -> Mapping[str, Any] | None:
        """The configuration of the backbone that is given by its name on the hub, or a folder."""
        given = {name: self.extra.pop(name, None) for name in BY_NAME}
        if given["backbone"] is None:
            return None
        for name, remedy in BY_NAME.items():
            if remedy and given[name]:
                raise ConfigError(f"{name}: {given[name]!r} is not supported; {remedy}")
        from dptcli.weights.folder import CONFIG_NAME, read_config
        from dptcli.weights.sources import settings_file

        folder = settings_file(given["backbone"], CONFIG_NAME).parent
        changes = given["backbone_kwargs"] or {}
        return overridden(read_config(folder), changes, BackboneConfig.synonyms)

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
        require_activation("pooler_act", self.pooler_act)
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
        for index in self.backbone_out_indices[self._num_stem_maps :]:
            require_int("backbone_out_indices", index, low=0)
        if len(self.taps) != num_stages - self._num_stem_maps:
            raise ConfigError(
                f"backbone_out_indices: {list(self.backbone_out_indices)} must be {num_stages} "
                f"different layers from 0 to {self.num_hidden_layers - 1}, one for each of "
                "neck_hidden_sizes"
            )
