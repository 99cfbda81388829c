"""CHMv2Config: DINOv3, a DPT neck and bins of height, with the reference's names and defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from dptcli.errors import ConfigError
from dptcli.model.backbones.plain_config import DINOv3ViTConfig, backbone_config_from
from dptcli.model.base_config import Config
from dptcli.model.bins import SHARES, SPACINGS
from dptcli.model.checks import (
    Activation,
    check_neck,
    require_choice,
    require_int,
    require_number,
)
from dptcli.model.config import READOUT_TYPES

LARGE_BACKBONE = {
    "model_type": "dinov3_vit",
    "image_size": 416,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "num_register_tokens": 4,
    "key_bias": True,
    "out_indices": [6, 12, 18, 24],
    "layer_norm_eps": 1e-6,
    "return_class_token": True,
}
MIXED = "chmv2_mixlog"
FACTORS, WIDTHS = (4, 2, 1, 0.5), (128, 256, 512, 1024)


@dataclass(init=False)
class CHMv2Config(Config):
    """The architecture of a CHMv2 model.

    min_depth, max_depth: the ends of the bins, metres above the ground. bins_strategy: how they are
    spaced, "linear", "log" or "chmv2_mixlog" (from logarithmic to linear, over an eighth of the
    range). norm_strategy: how scores become shares of the bins, "linear", "softmax", "sigmoid" or
    "chmv2_mixlog" (by ReLU; the height is eight times their mean). A single bin is a height itself.

    Raises ConfigError naming the field, the value and what is allowed.
    """

    model_type: ClassVar[str] = "chmv2"
    depth_estimation_type: ClassVar[str] = "height"
    # What the neck asks.
    hidden_act: ClassVar[Activation] = "gelu"
    reassembles: ClassVar[bool] = True
    neck_ignore_stages: ClassVar[Sequence[int]] = ()
    use_batch_norm_in_fusion_residual: ClassVar[bool] = False
    use_bias_in_fusion_residual: ClassVar[bool | None] = True
    fuses_to_next_map: ClassVar[bool] = False
    first_fusion_has_skip: ClassVar[bool] = False
    head_in_index: ClassVar[int] = -1

    backbone_config: Config | Mapping[str, Any] | None = None
    patch_size: int = 16
    initializer_range: float = 0.02
    reassemble_factors: Sequence[float] = FACTORS
    post_process_channels: Sequence[int] = WIDTHS
    fusion_hidden_size: int = 256
    head_hidden_size: int = 128
    number_output_channels: int = 256
    readout_type: str = "project"
    min_depth: float = 0.001
    max_depth: float = 96.0
    bins_strategy: str = MIXED
    norm_strategy: str = MIXED

    def __post_init__(self) -> None:
        super().__post_init__()
        named = LARGE_BACKBONE if self.backbone_config is None else self.backbone_config
        if isinstance(named, Mapping):
            named = backbone_config_from({"model_type": "dinov3_vit", **named})
        if not isinstance(named, DINOv3ViTConfig):
            raise ConfigError(f"backbone_config: {named!r} must be of the type 'dinov3_vit'")
        self._set("backbone_config", named)
        for name, default in (("reassemble_factors", FACTORS), ("post_process_channels", WIDTHS)):
            if getattr(self, name) is None:  # null says nothing
                self._set(name, list(default))
        check_neck(self)
        require_int("head_hidden_size", self.head_hidden_size, low=1)
        require_int("number_output_channels", self.number_output_channels, low=1)
        require_choice("readout_type", self.readout_type, READOUT_TYPES)
        require_choice("bins_strategy", self.bins_strategy, (*SPACINGS, MIXED))
        require_choice("norm_strategy", self.norm_strategy, (*SHARES, MIXED))
        require_number("min_depth", self.min_depth, low=0.0)
        require_number("max_depth", self.max_depth, low=self.min_depth)
        if self.min_depth == 0 and self.bins_strategy != "linear":
            raise ConfigError(
                f"min_depth: 0 has no logarithm, which bins_strategy {self.bins_strategy!r} takes"
            )

    @property
    def neck_hidden_sizes(self) -> Sequence[int]:
        """The widths of the neck's maps, by the name that other families have for them."""
        return list(self.post_process_channels)

    @property
    def backbone_width(self) -> int:
        """The width of the tokens that the neck reassembles."""
        assert isinstance(self.backbone_config, DINOv3ViTConfig)
        return self.backbone_config.hidden_size

    def with_max_depth(self, max_depth_m: float) -> Self:
        """A copy whose heights end at `max_depth_m`."""
        return self.replace(max_depth=max_depth_m)
