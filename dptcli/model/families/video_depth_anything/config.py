"""VideoDepthAnythingConfig: Depth Anything's fields, and how the network goes through a clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from dptcli.errors import ConfigError
from dptcli.kinds import kind_of
from dptcli.model.base_config import Config
from dptcli.model.checks import require_int
from dptcli.model.clip_window import ClipWindow
from dptcli.model.families.depth_anything.config import DepthAnythingConfig


@dataclass(init=False)
class VideoDepthAnythingConfig(DepthAnythingConfig):
    """The architecture of a Video Depth Anything model; the defaults are the small one's.

    depth_estimation_type: both kinds end in a ReLU; "metric" gives metres as they are, so that
    max_depth says nothing. num_frames, keyframes, num_blended: see ClipWindow.
    num_temporal_heads: of the attention along the frames. num_norm_groups: of the norm before it.

    Raises ConfigError naming the field, the value and what is allowed.
    """

    model_type: ClassVar[str] = "video_depth_anything"

    num_frames: int = 32
    keyframes: Sequence[int] = (0, 12, 24, 25, 26, 27, 28, 29, 30, 31)
    num_blended: int = 8
    num_temporal_heads: int = 8
    num_norm_groups: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_frames", "num_blended", "num_temporal_heads", "num_norm_groups"):
            require_int(name, getattr(self, name), low=1)
        _ = self.clip_window  # refuses what cannot be
        if len(self.neck_hidden_sizes) != 4:
            raise ConfigError(
                f"neck_hidden_sizes: {list(self.neck_hidden_sizes)} must be 4, two of them with "
                "temporal attention"
            )
        for channels in self.temporal_widths:
            if channels % self.num_temporal_heads or channels % self.num_norm_groups:
                raise ConfigError(
                    f"neck_hidden_sizes, fusion_hidden_size: {channels} must be a multiple of "
                    f"num_temporal_heads {self.num_temporal_heads} and of num_norm_groups "
                    f"{self.num_norm_groups}"
                )

    @property
    def temporal_widths(self) -> tuple[int, int, int, int]:
        """The channels of the maps that are compared along the frames, in their order."""
        *_, third, fourth = self.neck_hidden_sizes
        return third, fourth, self.fusion_hidden_size, self.fusion_hidden_size

    @property
    def clip_window(self) -> ClipWindow:
        """How the network goes through a clip."""
        return ClipWindow(
            num_frames=self.num_frames,
            keyframes=tuple(self.keyframes),
            num_blended=self.num_blended,
            fits=kind_of(self) != "depth_m",
        )

    def with_max_depth(self, max_depth_m: float) -> Self:
        """Raise ConfigError: the metres have no end."""
        return Config.with_max_depth(self, max_depth_m)
