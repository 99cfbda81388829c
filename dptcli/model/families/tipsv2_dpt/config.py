"""Tipsv2DptConfig: TIPSv2's encoder under DPT's necks, with the reference's names and defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from dptcli.errors import ConfigError
from dptcli.model.backbones.plain_config import Tipsv2VisionConfig, backbone_config_from
from dptcli.model.base_config import Config, LabelledConfig
from dptcli.model.checks import (
    Activation,
    check_neck,
    require_activation,
    require_int,
    require_number,
)

BASE_BACKBONE = {
    "model_type": "tipsv2_vision_model",
    "out_indices": [3, 6, 9, 12],
    "reshape_hidden_states": False,
}
FACTORS, WIDTHS = (4, 2, 1, 0.5), (96, 192, 384, 768)


@dataclass(init=False)
class Tipsv2DptConfig(LabelledConfig):
    """The architecture of a TIPSv2-DPT; its three necks are alike.

    min_depth, max_depth: the ends of the `num_depth_bins` bins, in metres. readout_activation:
    behind the projection of patch and class token. depth_decoder_activation: in the depth head.

    Raises ConfigError naming the field, the value and what is allowed.
    """

    model_type: ClassVar[str] = "tipsv2_dpt"
    depth_estimation_type: ClassVar[str] = "metric"
    # What the neck asks.
    readout_type: ClassVar[str] = "project"
    reassembles: ClassVar[bool] = True
    neck_ignore_stages: ClassVar[Sequence[int]] = ()
    use_batch_norm_in_fusion_residual: ClassVar[bool] = False
    use_bias_in_fusion_residual: ClassVar[bool | None] = False
    fuses_to_next_map: ClassVar[bool] = False
    first_fusion_has_skip: ClassVar[bool] = False
    head_in_index: ClassVar[int] = -1

    backbone_config: Config | Mapping[str, Any] | None = None
    neck_hidden_sizes: Sequence[int] = WIDTHS
    fusion_hidden_size: int = 256
    reassemble_factors: Sequence[float] = FACTORS
    readout_activation: Activation = "gelu_pytorch_tanh"
    num_depth_bins: int = 256
    min_depth: float = 0.001
    max_depth: float = 10.0
    depth_decoder_activation: Activation = "relu"
    semantic_loss_ignore_index: int = 255

    def __post_init__(self) -> None:
        super().__post_init__()
        if "backbone_repo" in self.extra:
            raise ConfigError(
                f"backbone_repo: {self.extra['backbone_repo']!r} keeps the encoder in another "
                "repository, in an older layout; take a revision whose config.json has "
                "backbone_config"
            )
        named = BASE_BACKBONE if self.backbone_config is None else self.backbone_config
        if isinstance(named, Mapping):
            named = backbone_config_from({"model_type": "tipsv2_vision_model", **named})
        if not isinstance(named, Tipsv2VisionConfig):
            raise ConfigError(f"backbone_config: {named!r} must be a 'tipsv2_vision_model'")
        self._set("backbone_config", named)
        for name, default in (("reassemble_factors", FACTORS), ("neck_hidden_sizes", WIDTHS)):
            if getattr(self, name) is None:  # null says nothing
                self._set(name, list(default))
        check_neck(self)
        require_activation("readout_activation", self.readout_activation)
        require_activation("depth_decoder_activation", self.depth_decoder_activation)
        require_int("num_depth_bins", self.num_depth_bins, low=1)
        require_number("min_depth", self.min_depth, low=0.0)
        require_number("max_depth", self.max_depth, low=self.min_depth)
        require_int("semantic_loss_ignore_index", self.semantic_loss_ignore_index, low=-(2**31))

    @property
    def hidden_act(self) -> Activation:
        """What the neck has behind the projection of its readouts."""
        return self.readout_activation

    @property
    def backbone_width(self) -> int:
        """The width of the tokens that the necks reassemble."""
        assert isinstance(self.backbone_config, Tipsv2VisionConfig)
        return self.backbone_config.hidden_size

    def with_max_depth(self, max_depth_m: float) -> Self:
        """A copy whose metres end at `max_depth_m`."""
        return self.replace(max_depth=max_depth_m)
