"""DepthAnything3Config: the architecture of Depth Anything 3's networks for one photograph."""

from dataclasses import dataclass
from typing import Any, ClassVar

from dptcli.errors import ConfigError
from dptcli.model.checks import require_number
from dptcli.model.families.depth_anything.config import DepthAnythingConfig

REFERENCE_FOCAL_PX = 300.0  # of the published one
LARGE_BACKBONE = {
    "model_type": "dinov2",
    "image_size": 518,
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "out_indices": [5, 12, 18, 24],
    "reshape_hidden_states": False,
    "position_offset": 0.1,
    "final_layer_norm_eps": 1e-5,
}


@dataclass(init=False)
class DepthAnything3Config(DepthAnythingConfig):
    """Depth Anything's backbone, neck and head, with another end; the defaults are the large one's.

    depth_estimation_type: "depth" (without scale) or "metric". reference_focal_px: of a metric
    model, whose output is metres for a camera of this focal length in pixels of the network's
    input, and in proportion for another; None is the published one's. sky_threshold: from where on
    the second map says sky.

    Raises ConfigError naming the field, the value and what is allowed.
    """

    model_type: ClassVar[str] = "depth_anything_3"

    reassemble_hidden_size: int = 1024
    neck_hidden_sizes: tuple[int, ...] = (256, 512, 1024, 1024)
    fusion_hidden_size: int = 256
    depth_estimation_type: str = "depth"
    reference_focal_px: float | None = None
    sky_threshold: float = 0.3

    def __init__(self, **values: Any) -> None:
        if values.get("backbone_config") is None:
            values["backbone_config"] = LARGE_BACKBONE
        super().__init__(**values)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth_estimation_type == "relative":
            raise ConfigError(
                "depth_estimation_type: 'relative' is inverse depth; this network gives depth: "
                "'depth' or 'metric'"
            )
        if self.depth_estimation_type != "metric":
            self._set("reference_focal_px", None)
        elif self.reference_focal_px is None:
            self._set("reference_focal_px", REFERENCE_FOCAL_PX)
        if self.reference_focal_px is not None:
            require_number("reference_focal_px", self.reference_focal_px, low=1.0)
        require_number("sky_threshold", self.sky_threshold, low=0.0)

    def with_max_depth(self, max_depth_m: float) -> "DepthAnything3Config":
        """Raise ConfigError: an exponential has no end."""
        raise ConfigError(f"max_depth {max_depth_m:g}: Depth Anything 3 has no largest depth")
