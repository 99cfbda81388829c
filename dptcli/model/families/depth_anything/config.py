"""DepthAnythingConfig: Depth Anything's architecture, with the reference's names and defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dptcli.errors import ConfigError
from dptcli.kinds import DEPTH_TYPES
from dptcli.model.backbones.plain_config import backbone_config_from
from dptcli.model.base_config import Config
from dptcli.model.checks import (
    Activation,
    check_neck,
    require_choice,
    require_int,
    require_number,
)

# The small model's backbone, which a file without one means.
SMALL_BACKBONE = {
    "model_type": "dinov2",
    "image_size": 518,
    "hidden_size": 384,
    "num_attention_heads": 6,
    "out_indices": [9, 10, 11, 12],
    "reshape_hidden_states": False,
}


@dataclass(init=False)
class DepthAnythingConfig(Config):
    """The architecture of a Depth Anything model, with the reference's names and defaults.

    max_depth: metres that the head's 1 stands for in a metric model; the reference scales
    relative models by it too (1 by default), and so do we. None means 1.

    Raises ConfigError naming the field, the value and what is allowed.
    """

    model_type: ClassVar[str] = "depth_anything"
    # What the neck asks: no class token, plain fusion blocks, each as large as the next map.
    readout_type: ClassVar[str] = "ignore"
    neck_ignore_stages: ClassVar[Sequence[int]] = ()
    reassembles: ClassVar[bool] = True
    hidden_act: ClassVar[Activation] = "gelu"
    use_batch_norm_in_fusion_residual: ClassVar[bool] = False
    use_bias_in_fusion_residual: ClassVar[bool | None] = True
    fuses_to_next_map: ClassVar[bool] = True

    backbone_config: Config | Mapping[str, Any] | None = None
    patch_size: int | Sequence[int] = 14
    initializer_range: float = 0.02
    reassemble_hidden_size: int = 384
    reassemble_factors: Sequence[float] = (4, 2, 1, 0.5)
    neck_hidden_sizes: Sequence[int] = (48, 96, 192, 384)
    fusion_hidden_size: int = 64
    head_in_index: int = -1
    head_hidden_size: int = 32
    depth_estimation_type: str = "relative"
    max_depth: float | None = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        named = SMALL_BACKBONE if self.backbone_config is None else self.backbone_config
        if isinstance(named, Mapping):
            named = backbone_config_from({"model_type": "dinov2", **named})
        if not isinstance(named, Config):
            raise ConfigError(
                f"backbone_config: {named!r} must be a backbone configuration or its dictionary"
            )
        self._set("backbone_config", named)
        # A backbone whose maps are wider than its tokens says so.
        width = "map_width" if hasattr(named, "map_width") else "hidden_size"
        for name, theirs in (("patch_size", "patch_size"), ("reassemble_hidden_size", width)):
            expected = getattr(named, theirs, None)
            if expected is not None and expected != getattr(self, name):
                raise ConfigError(
                    f"{name}: {getattr(self, name)!r} must be the backbone's {theirs} {expected!r}"
                )
        check_neck(self)
        require_int("head_hidden_size", self.head_hidden_size, low=1)
        require_choice("depth_estimation_type", self.depth_estimation_type, DEPTH_TYPES)
        if self.max_depth is not None:
            require_number("max_depth", self.max_depth, low=0.0)

    def with_max_depth(self, max_depth_m: float) -> "DepthAnythingConfig":
        """A copy whose metres end at `max_depth_m`; ConfigError for a relative model."""
        if self.depth_estimation_type != "metric":
            return super().with_max_depth(max_depth_m)
        return self.replace(max_depth=max_depth_m)

    @property
    def backbone_width(self) -> int:
        """The width of the tokens that the neck reassembles."""
        return self.reassemble_hidden_size
