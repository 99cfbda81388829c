"""One photograph's depth on its way to files: the values, what they mean, the photograph."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptcli.depth.lens import Lens
from dptcli.inputs.geotiff import Place
from dptcli.kinds import Kind, near_is_large
from dptcli.panorama.geometry import Extent

# For a shape in space relative depth needs a scale and a shift that nobody knows: the nearest point
# is put at 1 and the farthest at this many times it, which suits rooms and streets alike.
RELATIVE_FAR = 10.0

_FARTHEST_M = 1e6  # where depth ends that is not finite or not positive


@dataclass(frozen=True)
class SparseFit:
    """What a COLMAP model's points say of a map: 1 / depth in its unit = factor · inverse + shift.

    image: as the model calls it. first, last: of 1 / depth over the whole map. median_error: of the
    points' depths, relative. warning: why there is no fit; then factor and shift change nothing.
    """

    image: str
    factor: float
    shift: float
    first: float
    last: float
    num_points: int
    num_outliers: int
    median_error: float | None
    warning: str | None


class HasLimits:
    """What has a smallest and a largest value: limits to draw in, or a clip's, and then its own."""

    limits: tuple[float, float]
    own_limits: tuple[float, float] | None

    @property
    def frame_limits(self) -> tuple[float, float]:
        """The frame's own, whatever it is drawn in."""
        return self.limits if self.own_limits is None else self.own_limits


@dataclass(frozen=True)
class DepthMap(HasLimits):
    """values: float32 (H, W), inverse depth (large is near, no unit), or depth (large is far), in
    metres or without a scale.

    limits: the network's own smallest and largest value, before bicubic resizing overshot them, or
    those of a whole clip; then own_limits are the frame's.
    rgb: the photograph, uint8 (H', W', 3), where a format needs it. lens: the camera in pixels of
    `values`, where a format needs it or it is known; extrinsics: its place in the world, world to
    camera, (3, 4), float64 where it was given. confidence: float32 (H, W), large is sure. normals:
    float32 (H, W, 3) of length 1, in the network's own axes, where it knows them. facts: what to
    say of the image. place: where the photograph lies on the ground, if its file says so.
    sparse_fit: to the points of a COLMAP model, where one is given. extent: what a panorama shows
    of the sphere; its values are along the rays.
    """

    values: NDArray[np.float32]
    kind: Kind
    limits: tuple[float, float]
    rgb: NDArray[np.uint8] | None = None
    lens: Lens | None = None
    extrinsics: NDArray[np.floating] | None = None
    confidence: NDArray[np.float32] | None = None
    normals: NDArray[np.float32] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    place: Place | None = None
    sparse_fit: SparseFit | None = None
    extent: Extent | None = None
    own_limits: tuple[float, float] | None = None

    @property
    def pinhole(self) -> dict[str, tuple[float, float]]:
        """The focal length and the centre as geometry takes them."""
        assert self.lens is not None
        return {"focal_px": self.lens.focal_px, "centre_px": (self.lens.cx, self.lens.cy)}

    @property
    def near_is_large(self) -> bool:
        """Whether a larger value is nearer."""
        return near_is_large(self.kind)

    def distance(self) -> NDArray[np.float32]:
        """Return distance along the optical axis, float32 (H, W), positive: metres, or arbitrary.

        Of a panorama: along the rays.

        Depth is taken as it is. Inverse depth spans 1 … RELATIVE_FAR: right in order, only
        plausible in shape. What is not finite or not positive comes back as NaN.
        """
        values = self.within_limits()
        if self.near_is_large:
            lo, hi = self.limits
            span = hi - lo
            near = (values - lo) / span if span > 1e-30 else np.ones_like(values)
            return np.asarray(1 / (near * (1 - 1 / RELATIVE_FAR) + 1 / RELATIVE_FAR), np.float32)
        good = (values > 0) & (values < _FARTHEST_M)
        return np.where(good, values, np.float32(np.nan)).astype(np.float32)

    def within_limits(self) -> NDArray[np.float32]:
        """Return the values (H, W) without what a resize overshot; NaN stays NaN.

        A clip's range leaves out rare extremes: to end them there suits inverse depth, which is
        drawn and has no unit, and would put what is farthest on a wall where a depth is one.
        """
        return np.clip(self.values, *(self.limits if self.near_is_large else self.frame_limits))
