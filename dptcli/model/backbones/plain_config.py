"""The configurations of the backbones, and the one place that finds one by its `model_type`."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dptcli.errors import ConfigError
from dptcli.model.backbones.config import BackboneConfig, check_transformer
from dptcli.model.backbones.hierarchical_config import BitConfig, Swinv2Config
from dptcli.model.checks import Activation, grid_of, require_int, require_number


@dataclass(init=False)
class Dinov2Config(BackboneConfig):
    """DINOv2 as a backbone (Oquab et al. 2023): every transformer block is a stage.

    `reshape_hidden_states` and `apply_layernorm` say how feature maps are handed out.
    `position_offset` is ours: what DINOv2's own code adds to the grid when it resizes positions
    (0.1); the reference leaves it out (0). So is `final_layer_norm_eps`, of the norm after the last
    block where it differs from the blocks'.
    """

    model_type: ClassVar[str] = "dinov2"
    position_mode: ClassVar[str] = "bicubic"  # how positions are resized to another grid
    position_antialias: ClassVar[bool] = False  # and whether without aliasing

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
    final_layer_norm_eps: float | None = None

    def __post_init__(self) -> None:
        check_transformer(self)
        require_number("mlp_ratio", self.mlp_ratio, low=0.0)
        require_number("position_offset", self.position_offset, low=0.0, high=0.9)
        if self.final_layer_norm_eps is not None:
            require_number("final_layer_norm_eps", self.final_layer_norm_eps, low=0.0)
        super().__post_init__()

    @property
    def num_stages(self) -> int:
        return self.num_hidden_layers


@dataclass(init=False)
class Dinov2WithRegistersConfig(Dinov2Config):
    """DINOv2 trained with register tokens, which take part in attention but hold no place.

    Without any (0) it still differs from DINOv2: its positions are resized without aliasing.
    """

    model_type: ClassVar[str] = "dinov2_with_registers"
    position_antialias: ClassVar[bool] = True  # trained after DINOv2 had switched it on

    patch_size: int | Sequence[int] = 16
    num_register_tokens: int = 4

    def __post_init__(self) -> None:
        require_int("num_register_tokens", self.num_register_tokens, low=0)
        super().__post_init__()


@dataclass(init=False)
class Dinov2ViewsConfig(Dinov2Config):
    """DINOv2 that sees several views of one scene together (Lin et al. 2025).

    `views_start`: the block from which on queries and keys are normalised and turned, a camera
    token stands for the class token, and every odd block attends across views. `rotary_base`: see
    `rotation_of`.
    """

    model_type: ClassVar[str] = "dinov2_views"

    views_start: int = 4
    rotary_base: float = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("views_start", self.views_start, low=1, high=self.num_hidden_layers - 1)
        require_number("rotary_base", self.rotary_base, low=1.0)
        if self.head_width % 4:
            raise ConfigError(
                f"num_attention_heads: {self.num_attention_heads} make heads of {self.head_width} "
                "channels, which must be a multiple of 4: two directions of pairs"
            )

    @property
    def head_width(self) -> int:
        """The channels of one head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def map_width(self) -> int:
        """The channels of a feature map: within the view, and across views."""
        return 2 * self.hidden_size


@dataclass(init=False)
class Tipsv2VisionConfig(Dinov2WithRegistersConfig):
    """The image encoder of TIPSv2 as a backbone: a DINOv2 with registers.

    Its positions are resized bilinearly, and a register is a second class token.
    """

    model_type: ClassVar[str] = "tipsv2_vision_model"
    position_mode: ClassVar[str] = "bilinear"

    image_size: int | Sequence[int] = 448
    patch_size: int | Sequence[int] = 14
    num_register_tokens: int = 1


@dataclass(init=False)
class DINOv3ViTConfig(BackboneConfig):
    """DINOv3's Vision Transformer as a backbone (Siméoni et al. 2025): every block is a stage.

    Places are rotations of the base `rope_theta`, so that no image size is learned. While training,
    `pos_embed_shift`, `pos_embed_jitter` and `pos_embed_rescale` vary them at random; None does
    not. The last stage is normed even without `apply_layernorm`.
    """

    model_type: ClassVar[str] = "dinov3_vit"

    patch_size: int | Sequence[int] = 16
    hidden_size: int = 384
    intermediate_size: int = 1536
    num_hidden_layers: int = 12
    num_attention_heads: int = 6
    hidden_act: Activation = "gelu"
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    rope_theta: float = 100.0
    image_size: int | Sequence[int] = 224
    num_channels: int = 3
    query_bias: bool = True
    key_bias: bool = False
    value_bias: bool = True
    proj_bias: bool = True
    mlp_bias: bool = True
    layerscale_value: float = 1.0
    drop_path_rate: float = 0.0
    use_gated_mlp: bool = False
    num_register_tokens: int = 0
    pos_embed_shift: float | None = None
    pos_embed_jitter: float | None = None
    pos_embed_rescale: float | None = 2.0
    apply_layernorm: bool = True
    reshape_hidden_states: bool = True

    def __post_init__(self) -> None:
        check_transformer(self, rates=("attention_dropout", "drop_path_rate"))
        require_int("intermediate_size", self.intermediate_size, low=1)
        require_int("num_register_tokens", self.num_register_tokens, low=0)
        require_number("rope_theta", self.rope_theta, low=1.0)
        head_width = self.hidden_size // self.num_attention_heads
        if head_width % 4:
            raise ConfigError(
                f"hidden_size: {self.hidden_size} over num_attention_heads "
                f"{self.num_attention_heads} is {head_width}, which must be a multiple of 4: rows "
                "and columns take pairs of it"
            )
        if self.pos_embed_shift is not None:
            require_number("pos_embed_shift", self.pos_embed_shift, low=0.0)
        for name in ("pos_embed_jitter", "pos_embed_rescale"):
            if getattr(self, name) is not None:
                require_number(name, getattr(self, name), low=1.0)
        super().__post_init__()

    @property
    def num_stages(self) -> int:
        return self.num_hidden_layers


@dataclass(init=False)
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
        check_transformer(self, rates=("dropout_prob", "drop_path_rate"))
        grid_of(self.pretrain_image_size, self.patch_size, name="pretrain_image_size")
        require_number("mlp_ratio", self.mlp_ratio, low=0.0)
        require_int("window_size", self.window_size, low=0)
        for name in ("window_block_indices", "residual_block_indices"):
            for index in getattr(self, name):
                require_int(name, index, low=0, high=self.num_hidden_layers - 1)
        super().__post_init__()

    @property
    def num_stages(self) -> int:
        return self.num_hidden_layers


@dataclass(init=False)
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
        check_transformer(self)
        require_int("intermediate_size", self.intermediate_size, low=1)
        require_number("layer_scale_init_value", self.layer_scale_init_value, low=0.0)
        if self.add_fpn:
            raise ConfigError(
                "add_fpn: True is not supported: DPT's neck makes the pyramid; set it to False"
            )
        super().__post_init__()

    @property
    def grid_hw(self) -> tuple[int, int]:
        """The grid of patches that positions were learned on."""
        return grid_of(self.image_size, self.patch_size)

    @property
    def num_stages(self) -> int:
        return self.num_hidden_layers


BACKBONE_CONFIGS: dict[str, type[BackboneConfig]] = {
    config.model_type: config
    for config in (
        BeitConfig,
        BitConfig,
        Dinov2Config,
        Dinov2ViewsConfig,
        Dinov2WithRegistersConfig,
        DINOv3ViTConfig,
        Swinv2Config,
        Tipsv2VisionConfig,
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
