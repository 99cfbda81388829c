"""DepthProConfig: the architecture of a Depth Pro, with the reference's names and defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dptcli.errors import ConfigError
from dptcli.model.backbones.plain_config import Dinov2Config, backbone_config_from
from dptcli.model.base_config import Config
from dptcli.model.checks import require_int, require_number, require_sequence

_ENCODERS = ("image_model_config", "patch_model_config", "fov_model_config")
_LEVELS = ("scaled_images_overlap_ratios", "scaled_images_feature_dims")


@dataclass(init=False)
class DepthProConfig(Config):
    """The architecture of a Depth Pro.

    patch_size: the side of the patches that the encoders see. scaled_images_ratios: the pyramid,
    small to large; …_overlap_ratios: of the patches of each level, …_feature_dims: channels of its
    map. intermediate_hook_ids: blocks whose tokens are taken too, from deep to shallow, with
    intermediate_feature_dims channels. merge_padding_value: what patches lose at each inner edge,
    in tokens of the largest level. use_fov_model: a third encoder estimates the field of view.

    Raises ConfigError naming the field, the value and what is allowed.
    """

    model_type: ClassVar[str] = "depth_pro"
    depth_estimation_type: ClassVar[str] = "metric"
    # predicted_depth is 1 / metres for a camera whose focal length is the picture's width.
    gives_canonical_inverse: ClassVar[bool] = True
    not_for_onnx: ClassVar[str] = (
        "its patches are cut and joined in Python, by the size of the batch, and its 3.8 GB of "
        "weights are more than the 2 GB that an ONNX file holds"
    )

    fusion_hidden_size: int = 256
    patch_size: int = 384
    initializer_range: float = 0.02
    intermediate_hook_ids: Sequence[int] = (11, 5)
    intermediate_feature_dims: Sequence[int] = (256, 256)
    scaled_images_ratios: Sequence[float] = (0.25, 0.5, 1)
    scaled_images_overlap_ratios: Sequence[float] = (0.0, 0.5, 0.25)
    scaled_images_feature_dims: Sequence[int] = (1024, 1024, 512)
    merge_padding_value: int = 3
    use_batch_norm_in_fusion_residual: bool = False
    use_bias_in_fusion_residual: bool = True
    use_fov_model: bool = False
    num_fov_head_layers: int = 2
    image_model_config: Config | Mapping[str, Any] | None = None
    patch_model_config: Config | Mapping[str, Any] | None = None
    fov_model_config: Config | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.patch_size, list):  # the reference takes a pair too
            self._set("patch_size", self.patch_size[0])
        require_int("patch_size", self.patch_size, low=2)
        for name in _ENCODERS:
            self._set(name, self._encoder(name))
        require_int("fusion_hidden_size", self.fusion_hidden_size, low=2)
        require_int("num_fov_head_layers", self.num_fov_head_layers, low=1)
        if not self.fusion_hidden_size >> self.num_fov_head_layers:
            raise ConfigError(
                f"num_fov_head_layers: {self.num_fov_head_layers} is too many for "
                f"fusion_hidden_size {self.fusion_hidden_size}, which each of them halves"
            )
        require_int("merge_padding_value", self.merge_padding_value, low=0)
        self._check_levels()
        self._check_hooks()

    def _encoder(self, name: str) -> Dinov2Config:
        """One of the encoders' configurations; all of them see the patches' size."""
        given: Any = getattr(self, name) or {}
        values = dict(given) if isinstance(given, Mapping) else given.to_dict()
        values = {"model_type": "dinov2", **values, "image_size": self.patch_size}
        found = backbone_config_from(values)
        if not isinstance(found, Dinov2Config):
            raise ConfigError(f"{name}: model_type {found.model_type!r} must be dinov2")
        if isinstance(found.patch_size, int) and self.patch_size % found.patch_size:
            raise ConfigError(
                f"{name}: patch_size {found.patch_size} does not divide the {self.patch_size} "
                "pixels of a patch of the image"
            )
        return found

    def _check_levels(self) -> None:
        ratios = self.scaled_images_ratios
        require_sequence("scaled_images_ratios", ratios)
        for ratio in ratios:
            require_number("scaled_images_ratios", ratio, low=1e-3, high=1.0)
        if not ratios or list(ratios) != sorted(ratios):
            raise ConfigError(f"scaled_images_ratios: {list(ratios)} must rise")
        for name in _LEVELS:
            _check_length(name, getattr(self, name), "scaled_images_ratios", len(ratios))
        for overlap in self.scaled_images_overlap_ratios:
            require_number("scaled_images_overlap_ratios", overlap, low=0.0, high=0.95)
        for channels in self.scaled_images_feature_dims:
            require_int("scaled_images_feature_dims", channels, low=1)

    def _check_hooks(self) -> None:
        hooks, encoder = self.intermediate_hook_ids, self.patch_model_config
        require_sequence("intermediate_hook_ids", hooks)
        assert isinstance(encoder, Dinov2Config)
        for hook in hooks:
            require_int("intermediate_hook_ids", hook, low=0, high=encoder.num_hidden_layers - 1)
        dims = self.intermediate_feature_dims
        _check_length("intermediate_feature_dims", dims, "intermediate_hook_ids", len(hooks))
        for channels in dims:
            require_int("intermediate_feature_dims", channels, low=1)

    @property
    def gives_camera(self) -> bool:
        """Whether the network estimates the field of view."""
        return self.use_fov_model

    @property
    def grid(self) -> int:
        """How many tokens a patch has along a side."""
        encoder = self.image_model_config
        assert isinstance(encoder, Dinov2Config)
        assert isinstance(encoder.patch_size, int)
        return self.patch_size // encoder.patch_size

    @property
    def min_side(self) -> int:
        """The least side of the input: the smallest level is one patch then."""
        return round(self.patch_size / min(self.scaled_images_ratios))


def _check_length(name: str, values: Any, other: str, wanted: int) -> None:
    require_sequence(name, values)
    if len(values) != wanted:
        raise ConfigError(f"{name}: {list(values)} must hold {wanted} values, as {other} does")
