"""DepthAnything3NestedConfig: the two networks of Depth Anything 3 nested."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dptcli.errors import ConfigError
from dptcli.model.base_config import Config
from dptcli.model.checks import require_number
from dptcli.model.families.depth_anything_3.config import DepthAnything3Config
from dptcli.model.families.depth_anything_3_views.config import DepthAnything3ViewsConfig

GIANT_VIEWS = {
    "backbone_config": {
        "model_type": "dinov2_views",
        "image_size": 518,
        "hidden_size": 1536,
        "num_attention_heads": 24,
        "num_hidden_layers": 40,
        "use_swiglu_ffn": True,
        "views_start": 13,
        "out_indices": [20, 28, 34, 40],
        "reshape_hidden_states": False,
        "use_mask_token": False,
        "position_offset": 0.1,
        "final_layer_norm_eps": 1e-5,
    },
    "reassemble_hidden_size": 3072,
    "neck_hidden_sizes": [256, 512, 1024, 1024],
    "fusion_hidden_size": 256,
}


@dataclass(init=False)
class DepthAnything3NestedConfig(Config):
    """A network for any views and a metric one; the defaults are the published two.

    views_config: of the first, see DepthAnything3ViewsConfig. metric_config: of the second, a
    metric DepthAnything3Config, in whose camera's pixels the first one's focal length counts.
    max_sky_m: the sky is no farther than that.

    Raises ConfigError naming the field, the value and what is allowed.
    """

    model_type: ClassVar[str] = "depth_anything_3_nested"
    sees_views: ClassVar[bool] = True
    gives_confidence: ClassVar[bool] = True
    gives_camera: ClassVar[bool] = True
    # Its metres are in proportion to the focal length that it estimates.
    metres_by_own_camera: ClassVar[bool] = True
    not_for_onnx: ClassVar[str] = (
        "what joins its two networks is found anew for each scene, and its weights are more than "
        "the 2 GB that an ONNX file holds"
    )

    views_config: Config | Mapping[str, Any] | None = None
    metric_config: Config | Mapping[str, Any] | None = None
    depth_estimation_type: str = "metric"
    max_sky_m: float = 200.0

    def __post_init__(self) -> None:
        super().__post_init__()
        views: Any = GIANT_VIEWS if self.views_config is None else self.views_config
        metric: Any = self.metric_config or {}
        if isinstance(views, Mapping):
            views = DepthAnything3ViewsConfig(**views)
        if isinstance(metric, Mapping):
            metric = DepthAnything3Config(**{"depth_estimation_type": "metric", **metric})
        for name, found, wanted in (
            ("views_config", views, DepthAnything3ViewsConfig),
            ("metric_config", metric, DepthAnything3Config),
        ):
            if not isinstance(found, wanted):
                raise ConfigError(
                    f"{name}: {found!r} must be a {wanted.__name__} or its dictionary"
                )
            self._set(name, found)
        for name, found in (("", self), ("metric_config: ", metric)):
            if found.depth_estimation_type != "metric":
                raise ConfigError(
                    f"{name}depth_estimation_type: {found.depth_estimation_type!r} must be "
                    "'metric': this network gives metres"
                )
        if views.patch_size != metric.patch_size:
            raise ConfigError(
                f"views_config, metric_config: patch_size {views.patch_size} and "
                f"{metric.patch_size} must be the same: their maps are compared"
            )
        require_number("max_sky_m", self.max_sky_m, low=0.0)

    @property
    def backbone_config(self) -> Any:
        """That of the network for any views, which is the larger one."""
        return self.views.backbone_config

    @property
    def fusion_hidden_size(self) -> int:
        """That of the network for any views."""
        return self.views.fusion_hidden_size

    @property
    def sky_threshold(self) -> float:
        """From where on the sky's map says sky."""
        return self.metric.sky_threshold

    @property
    def views(self) -> DepthAnything3ViewsConfig:
        """The first network's."""
        assert isinstance(self.views_config, DepthAnything3ViewsConfig)
        return self.views_config

    @property
    def metric(self) -> DepthAnything3Config:
        """The second network's."""
        assert isinstance(self.metric_config, DepthAnything3Config)
        return self.metric_config
