"""DepthAnything3ViewsConfig: the architecture of Depth Anything 3's networks for any views."""

from dataclasses import dataclass
from typing import Any, ClassVar

from dptcli.errors import ConfigError
from dptcli.model.checks import require_int
from dptcli.model.families.depth_anything.config import DepthAnythingConfig

SMALL_BACKBONE = {
    "model_type": "dinov2_views",
    "image_size": 518,
    "hidden_size": 384,
    "num_attention_heads": 6,
    "num_hidden_layers": 12,
    "views_start": 4,
    "out_indices": [6, 8, 10, 12],
    "reshape_hidden_states": False,
    "use_mask_token": False,
    "position_offset": 0.1,
    "final_layer_norm_eps": 1e-5,
}


@dataclass(init=False)
class DepthAnything3ViewsConfig(DepthAnythingConfig):
    """Depth Anything's parts over a backbone that sees several views; the defaults are the small.

    camera_encoder_layers, camera_encoder_heads: of what reads cameras that are given.

    Raises ConfigError naming the field, the value and what is allowed.
    """

    model_type: ClassVar[str] = "depth_anything_3_views"
    sees_views: ClassVar[bool] = True
    gives_confidence: ClassVar[bool] = True

    reassemble_hidden_size: int = 768
    depth_estimation_type: str = "depth"
    camera_encoder_layers: int = 4
    camera_encoder_heads: int = 16

    def __init__(self, **values: Any) -> None:
        if values.get("backbone_config") is None:
            values["backbone_config"] = SMALL_BACKBONE
        super().__init__(**values)

    def __post_init__(self) -> None:
        super().__post_init__()
        backbone: Any = self.backbone_config
        if backbone.model_type != "dinov2_views":
            raise ConfigError(
                f"backbone_config: model_type {backbone.model_type!r} must be dinov2_views, "
                "which has a camera token"
            )
        if self.depth_estimation_type != "depth":
            raise ConfigError(
                f"depth_estimation_type: {self.depth_estimation_type!r} must be 'depth': this "
                "network gives depth without a scale"
            )
        # Positions are added as sines and cosines in two directions.
        if any(width % 4 for width in self.neck_hidden_sizes):
            raise ConfigError(
                f"neck_hidden_sizes: {self.neck_hidden_sizes!r} must be multiples of 4"
            )
        if self.fusion_hidden_size % 8:
            raise ConfigError(
                f"fusion_hidden_size: {self.fusion_hidden_size!r} must be a multiple of 8"
            )

        require_int("camera_encoder_layers", self.camera_encoder_layers, low=1)
        require_int("camera_encoder_heads", self.camera_encoder_heads, low=1)

    def with_max_depth(self, max_depth_m: float) -> "DepthAnything3ViewsConfig":
        """Raise ConfigError: an exponential has no end."""
        raise ConfigError(f"max_depth {max_depth_m:g}: Depth Anything 3 has no largest depth")
