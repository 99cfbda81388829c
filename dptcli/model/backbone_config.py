"""The configurations of the backbones, and the one place that finds one by its `model_type`."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dptcli.errors import ConfigError
from dptcli.model.config import (
    Activation,
    Config,
    pair_of,
    require_activation,
    require_choice,
    require_int,
    require_number,
)


@dataclass(frozen=True, init=False)
class BackboneConfig(Config):
    """Adds the stages of a backbone: which of them it hands out, by name or by index.

    `stage_names` is "stem", "stage1", "stage2", …; `out_features` and `out_indices` say the same
    thing twice, and either one may be given. Without both, the last stage is handed out.
    """

    # Whether stages come at falling resolutions, ready for fusion without reassembling.
    is_hierarchical: ClassVar[bool] = False

    out_features: Sequence[str] | None = None
    out_indices: Sequence[int] | None = None

    def __init__(self, **values: Any) -> None:
        values.pop("stage_names", None)  # follows from the number of stages
        super().__init__(**values)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.stage_names
        features, indices = self.out_features, self.out_indices
        if features is None and indices is None:
            indices = (len(names) - 1,)
        if features is None:
            assert indices is not None
            features = tuple(names[self._stage_index(index)] for index in indices)
        features = tuple(features)
        if any(name not in names for name in features):
            raise ConfigError(f"out_features: {list(features)} must be among {', '.join(names)}")
        if list(features) != [name for name in names if name in features]:
            raise ConfigError(
                f"out_features: {list(features)} must name each stage once, in rising order"
            )
        expected = tuple(names.index(name) for name in features)
        if indices is not None and tuple(map(self._stage_index, indices)) != expected:
            raise ConfigError(
                f"out_indices: {list(indices)} are not the stages of "
                f"out_features {list(features)}; give one of the two"
            )
        self._set("out_features", features)
        self._set("out_indices", expected)

    def _stage_index(self, index: Any) -> int:
        num_stages = len(self.stage_names)
        require_int("out_indices", index, low=-num_stages, high=num_stages - 1)
        return int(index) % num_stages

    @property
    def num_stages(self) -> int:
        """How many stages follow the stem."""
        raise NotImplementedError

    @property
    def stage_names(self) -> list[str]:
        """The names that `out_features` may hold."""
        return ["stem", *(f"stage{index}" for index in range(1, self.num_stages + 1))]

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "stage_names": self.stage_names}


@dataclass(frozen=True, init=False)
class Dinov2Config(BackboneConfig):
    """DINOv2 as a backbone (Oquab et al. 2023): every transformer block is a stage.

    `reshape_hidden_states` and `apply_layernorm` say how feature maps are handed out.
    `position_offset` is ours: what DINOv2's own code adds to the grid when it resizes positions
    (0.1); the reference leaves it out (0).
    """

    model_type: ClassVar[str] = "dinov2"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mlp_ratio: float = 4
    hidden_act: Activation = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-6
    image_size: int | Sequence[int] = 224
    patch_size: int | Sequence[int] = 14
    num_channels: int = 3
    qkv_bias: bool = True
    layerscale_value: float = 1.0
    drop_path_rate: float = 0.0
    use_swiglu_ffn: bool = False
    apply_layernorm: bool = True
    reshape_hidden_states: bool = True
    use_mask_token: bool = True
    position_offset: float = 0.0

    def __post_init__(self) -> None:
        _check_transformer(self)
        require_number("mlp_ratio", self.mlp_ratio, low=0.0)
        require_number("position_offset", self.position_offset, low=0.0, high=0.9)
        super().__post_init__()

    @property
    def num_stages(self) -> int:
        return self.num_hidden_layers


@dataclass(frozen=True, init=False)
class Dinov2WithRegistersConfig(Dinov2Config):
    """DINOv2 trained with register tokens, which take part in attention but hold no place."""

    model_type: ClassVar[str] = "dinov2_with_registers"

    patch_size: int | Sequence[int] = 16
    num_register_tokens: int = 4

    def __post_init__(self) -> None:
        require_int("num_register_tokens", self.num_register_tokens, low=1)
        super().__post_init__()


@dataclass(frozen=True, init=False)
class VitDetConfig(BackboneConfig):
    """ViTDet as a backbone (Li et al. 2022): no class token, every block is a stage.

    Blocks in `window_block_indices` attend within windows of `window_size` patches, those in
    `residual_block_indices` end in a convolution block. `pretrain_image_size` sets the grid of the
    absolute positions, `image_size` that of the relative ones; both are resized for other inputs.
    """

    model_type: ClassVar[str] = "vitdet"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mlp_ratio: float = 4
    hidden_act: Activation = "gelu"
    dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-6
    image_size: int | Sequence[int] = 224
    pretrain_image_size: int | Sequence[int] = 224
    patch_size: int | Sequence[int] = 16
    num_channels: int = 3
    qkv_bias: bool = True
    drop_path_rate: float = 0.0
    window_block_indices: Sequence[int] = ()
    residual_block_indices: Sequence[int] = ()
    use_absolute_position_embeddings: bool = True
    use_relative_position_embeddings: bool = False
    window_size: int = 0

    def __post_init__(self) -> None:
        _check_transformer(self, rates=("dropout_prob", "drop_path_rate"))
        pair_of("pretrain_image_size", self.pretrain_image_size)
        require_number("mlp_ratio", self.mlp_ratio, low=0.0)
        require_int("window_size", self.window_size, low=0)
        for name in ("window_block_indices", "residual_block_indices"):
            for index in getattr(self, name):
                require_int(name, index, low=0, high=self.num_hidden_layers - 1)
        super().__post_init__()

    @property
    def num_stages(self) -> int:
        return self.num_hidden_layers


@dataclass(frozen=True, init=False)
class BeitConfig(BackboneConfig):
    """BEiT as a backbone (Bao et al. 2021): every transformer block is a stage.

    `image_size` sets the grid that the relative positions were learned on; other grids get them
    resized. `layer_scale_init_value` of 0 means no layer scale.
    """

    model_type: ClassVar[str] = "beit"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: Activation = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    image_size: int | Sequence[int] = 224
    patch_size: int | Sequence[int] = 16
    num_channels: int = 3
    use_mask_token: bool = False
    use_absolute_position_embeddings: bool = False
    use_relative_position_bias: bool = False
    use_shared_relative_position_bias: bool = False
    layer_scale_init_value: float = 0.1
    drop_path_rate: float = 0.1
    use_mean_pooling: bool = True
    add_fpn: bool = False
    reshape_hidden_states: bool = True

    def __post_init__(self) -> None:
        _check_transformer(self)
        require_int("intermediate_size", self.intermediate_size, low=1)
        require_number("layer_scale_init_value", self.layer_scale_init_value, low=0.0)
        if self.add_fpn:
            raise ConfigError(
                "add_fpn: True is not supported: DPT's neck makes the pyramid; set it to False"
            )
        height, width = self.grid_hw
        if self.use_absolute_position_embeddings and height != width:
            raise ConfigError(
                f"image_size: {self.image_size!r} must be square, as "
                "use_absolute_position_embeddings is True"
            )
        super().__post_init__()

    @property
    def grid_hw(self) -> tuple[int, int]:
        """The grid of patches that positions were learned on."""
        image_hw = pair_of("image_size", self.image_size)
        patch_hw = pair_of("patch_size", self.patch_size)
        grid_hw = image_hw[0] // patch_hw[0], image_hw[1] // patch_hw[1]
        if min(grid_hw) < 1:
            raise ConfigError(
                f"image_size: {self.image_size!r} is less than one patch of {self.patch_size!r}"
            )
        return grid_hw

    @property
    def num_stages(self) -> int:
        return self.num_hidden_layers


@dataclass(frozen=True, init=False)
class Swinv2Config(BackboneConfig):
    """Swin Transformer V2 as a backbone (Liu et al. 2022): each stage at half the size of the last.

    `window_size` is in patches; `pretrained_window_sizes` are those that the position biases were
    learned with, 0 where it was the same. Positions follow from `image_size`, which the windows
    never exceed.
    """

    model_type: ClassVar[str] = "swinv2"
    is_hierarchical: ClassVar[bool] = True

    image_size: int | Sequence[int] = 224
    patch_size: int | Sequence[int] = 4
    num_channels: int = 3
    embed_dim: int = 96
    depths: Sequence[int] = (2, 2, 6, 2)
    num_heads: Sequence[int] = (3, 6, 12, 24)
    window_size: int = 7
    pretrained_window_sizes: Sequence[int] | None = (0, 0, 0, 0)
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    drop_path_rate: float = 0.1
    hidden_act: Activation = "gelu"
    use_absolute_embeddings: bool = False
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5

    def __init__(self, **values: Any) -> None:
        for derived in ("num_layers", "hidden_size"):  # they follow from depths and embed_dim
            values.pop(derived, None)
        super().__init__(**values)

    def __post_init__(self) -> None:
        require_int("num_channels", self.num_channels, low=1)
        require_int("embed_dim", self.embed_dim, low=1)
        require_int("window_size", self.window_size, low=1)
        require_number("mlp_ratio", self.mlp_ratio, low=0.0)
        require_activation("hidden_act", self.hidden_act)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate"):
            require_number(name, getattr(self, name), low=0.0, high=1.0)
        require_number("layer_norm_eps", self.layer_norm_eps, low=0.0)
        if self.pretrained_window_sizes is None:
            self._set("pretrained_window_sizes", (0,) * len(self.depths))
        self._check_stages()
        super().__post_init__()

    def _check_stages(self) -> None:
        if not self.depths:
            raise ConfigError("depths: () is empty; give the number of blocks of each stage")
        for name, low in (("depths", 1), ("num_heads", 1), ("pretrained_window_sizes", 0)):
            values = getattr(self, name)
            if len(values) < len(self.depths):
                raise ConfigError(
                    f"{name}: {list(values)} must hold one number for each of the "
                    f"{len(self.depths)} stages in depths"
                )
            for value in values:
                require_int(name, value, low=low)
        for stage, num_heads in enumerate(self.num_heads[: self.num_stages]):
            if self.width_of(stage) % num_heads:
                raise ConfigError(
                    f"num_heads: {num_heads} does not divide the width {self.width_of(stage)} of "
                    f"stage {stage + 1}"
                )
        height, width = self.grid_of(0)
        if self.use_absolute_embeddings and height != width:
            raise ConfigError(
                f"image_size: {self.image_size!r} must be square, as "
                "use_absolute_embeddings is True"
            )
        if min(self.grid_of(self.num_stages - 1)) < 1:
            raise ConfigError(
                f"image_size: {self.image_size!r} leaves no patch in stage {self.num_stages}; "
                "make it larger, or depths shorter"
            )

    @property
    def num_stages(self) -> int:
        return len(self.depths)

    @property
    def hidden_size(self) -> int:
        """The width of the last stage."""
        return self.width_of(self.num_stages - 1)

    def width_of(self, stage: int) -> int:
        """The width of a stage, counted from 0."""
        return int(self.embed_dim * 2**stage)

    def grid_of(self, stage: int) -> tuple[int, int]:
        """The patches (h, w) of a stage, counted from 0, for an image of `image_size`."""
        image_hw = pair_of("image_size", self.image_size)
        patch_hw = pair_of("patch_size", self.patch_size)
        return (
            image_hw[0] // patch_hw[0] // 2**stage,
            image_hw[1] // patch_hw[1] // 2**stage,
        )

    def to_dict(self) -> dict[str, Any]:
        derived = {"num_layers": self.num_stages, "hidden_size": self.hidden_size}
        return {**super().to_dict(), **derived}


def _check_transformer(
    config: Any,
    *,
    rates: Sequence[str] = (
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "drop_path_rate",
    ),
) -> None:
    """Refuse wrong values in the fields that all plain transformers have."""
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_channels"):
        require_int(name, getattr(config, name), low=1)
    if config.hidden_size % config.num_attention_heads:
        raise ConfigError(
            f"hidden_size: {config.hidden_size} is not a multiple of "
            f"num_attention_heads {config.num_attention_heads}"
        )
    require_activation("hidden_act", config.hidden_act)
    for name in rates:
        require_number(name, getattr(config, name), low=0.0, high=1.0)
    require_number("layer_norm_eps", config.layer_norm_eps, low=0.0)
    for name in ("image_size", "patch_size"):
        pair_of(name, getattr(config, name))


@dataclass(frozen=True, init=False)
class BitConfig(BackboneConfig):
    """BiT, a ResNet with group norm (Kolesnikov et al. 2020), as a backbone.

    `global_padding` is "SAME" (pad as much as the input needs) or None (half the kernel).
    `embedding_dynamic_padding` pads the stem's max pooling likewise.
    """

    model_type: ClassVar[str] = "bit"
    is_hierarchical: ClassVar[bool] = True

    num_channels: int = 3
    embedding_size: int = 64
    hidden_sizes: Sequence[int] = (256, 512, 1024, 2048)
    depths: Sequence[int] = (3, 4, 6, 3)
    layer_type: str = "preactivation"
    hidden_act: Activation = "relu"
    global_padding: str | None = None
    num_groups: int = 32
    drop_path_rate: float = 0.0
    embedding_dynamic_padding: bool = False
    output_stride: int = 32
    width_factor: int = 1

    def __post_init__(self) -> None:
        for name in ("num_channels", "embedding_size", "num_groups", "output_stride"):
            require_int(name, getattr(self, name), low=1)
        require_int("width_factor", self.width_factor, low=1)
        if not self.depths or len(self.depths) > len(self.hidden_sizes):
            raise ConfigError(
                f"depths: {list(self.depths)} must name one depth for each of "
                f"hidden_sizes {list(self.hidden_sizes)}"
            )
        for name in ("hidden_sizes", "depths"):
            for value in getattr(self, name):
                require_int(name, value, low=1)
        require_choice("layer_type", self.layer_type, ("preactivation", "bottleneck"))
        require_activation("hidden_act", self.hidden_act)
        require_number("drop_path_rate", self.drop_path_rate, low=0.0, high=1.0)
        if self.global_padding is not None:
            self._set("global_padding", str(self.global_padding).upper())
            # "VALID" shrinks a block's map but not its shortcut: no such network can run.
            require_choice("global_padding", self.global_padding, ("SAME",))
        super().__post_init__()

    @property
    def num_stages(self) -> int:
        return len(self.depths)

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """The number of channels of each stage, the stem's first."""
        widths = [width * self.width_factor for width in self.hidden_sizes[: self.num_stages]]
        return (self.embedding_size, *(round_channels(width) for width in widths))


BACKBONE_CONFIGS: dict[str, type[BackboneConfig]] = {
    config.model_type: config
    for config in (
        BeitConfig,
        BitConfig,
        Dinov2Config,
        Dinov2WithRegistersConfig,
        Swinv2Config,
        VitDetConfig,
    )
}


def backbone_config_from(values: Mapping[str, Any]) -> BackboneConfig:
    """The backbone configuration that a dictionary with a `model_type` describes."""
    model_type = str(values.get("model_type"))
    if model_type not in BACKBONE_CONFIGS:
        near = difflib.get_close_matches(model_type, BACKBONE_CONFIGS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"backbone_config: model_type {model_type!r} must be one of "
            f"{', '.join(BACKBONE_CONFIGS)}{hint}"
        )
    return BACKBONE_CONFIGS[model_type].from_dict(values)


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that loses no more than a tenth of the channels."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
