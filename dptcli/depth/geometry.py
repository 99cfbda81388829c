"""From depth to space: points, triangles that stop at depth jumps, surface normals.

Coordinates are those of glTF: x right, y up, the camera at the origin looking along -z. A focal
length is in pixels of the map, (across, down), and so is its centre, where the optical axis meets
it: None is its middle, and (0, 0) the corner of its first pixel.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Focal = tuple[float, float]
Centre = tuple[float, float] | None

# A surface seen at a steeper angle than this is taken for the step between two things.
EDGE_CUT_DEG = 84.0


def points_from(
    distance: NDArray[np.float32], *, focal_px: Focal, centre_px: Centre = None, stride: int = 1
) -> NDArray[np.float32]:
    """Return a point for every `stride`-th pixel, float32 (h, w, 3), in the unit of `distance`.

    distance: (H, W) along the optical axis; NaN stays NaN.
    """
    x, y = _rays(distance.shape, focal_px, centre_px)
    z = distance[::stride, ::stride]
    return np.stack([x[::stride] * z, -y[::stride, None] * z, -z], axis=-1).astype(np.float32)


def _rays(
    hw: tuple[int, ...], focal_px: Focal, centre_px: Centre
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how far right (W,) and how far down (H,) the rays go in a unit of distance."""
    height, width = hw
    across, down = centre_px or (width / 2, height / 2)
    x = (np.arange(width, dtype=np.float32) - np.float32(across - 0.5)) / np.float32(focal_px[0])
    y = (np.arange(height, dtype=np.float32) - np.float32(down - 0.5)) / np.float32(focal_px[1])
    return x, y


def stride_for(hw: tuple[int, int], max_points: int) -> int:
    """Return the step between pixels that leaves at most `max_points` of them."""
    stride = 1
    while math.ceil(hw[0] / stride) * math.ceil(hw[1] / stride) > max_points:
        stride += 1
    return stride


def triangles_of(
    points: NDArray[np.float32],
    *,
    focal_px: Focal,
    stride: int = 1,
    edge_cut_deg: float = EDGE_CUT_DEG,
) -> NDArray[np.uint32]:
    """Join neighbouring points to triangles, uint32 (num, 3), indices into the flattened points.

    No triangle crosses a depth jump: one whose surface would be steeper than edge_cut_deg, which is
    90 for a mesh in one piece.
    """
    height, width = points.shape[:2]
    index = np.arange(height * width, dtype=np.uint32).reshape(height, width)
    z = -points[..., 2]
    corners = (
        (slice(None, -1), slice(None, -1)),  # upper left
        (slice(1, None), slice(None, -1)),  # lower left
        (slice(None, -1), slice(1, None)),  # upper right
        (slice(1, None), slice(1, None)),  # lower right
    )
    # Along a surface at angle a, depth changes from pixel to pixel by tan(a) times its angle.
    most = math.tan(math.radians(edge_cut_deg)) * stride / min(focal_px)
    found = []
    for triangle in ((0, 1, 2), (2, 1, 3)):  # counter-clockwise: they face the camera
        depths = np.stack([z[corners[corner]] for corner in triangle])
        nearest, farthest = depths.min(0), depths.max(0)  # NaN wins, and fails the comparison
        whole = farthest - nearest <= nearest * most
        found.append(np.stack([index[corners[corner]][whole] for corner in triangle], axis=-1))
    return np.concatenate(found)


def normals_of(
    distance: NDArray[np.float32], *, focal_px: Focal, centre_px: Centre = None, reach: int = 1
) -> NDArray[np.float32]:
    """Return the unit normal of every pixel's surface, float32 (H, W, 3), towards the camera.

    reach: slopes are taken over so many pixels to each side, and their mean over as many across.
    Zero where the depth is unknown, or the image is a line of pixels.
    """
    height, width = distance.shape
    if min(height, width) < 2:
        return np.zeros((height, width, 3), np.float32)
    # On a plane inverse depth is linear in the picture, so that a wide slope is exact:
    # with n · point = 1 along the ray (x, y, 1), 1 / z = n · (x, y, 1).
    near = (1 / distance).astype(np.float32)
    right = focal_px[0] * _slope(near, axis=1, reach=reach)
    down = focal_px[1] * _slope(near, axis=0, reach=reach)
    x, y = _rays(distance.shape, focal_px, centre_px)
    normal = np.stack([-right, down, near - right * x - down * y[:, None]], axis=-1)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(normal / length, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)


def _slope(values: NDArray[np.float32], *, axis: int, reach: int) -> NDArray[np.float32]:
    """Return the change from pixel to pixel along an axis; NaN where it is unknown."""
    first, last = _around(values.shape[axis], reach)
    slope = (values.take(last, axis) - values.take(first, axis)) / _along(last - first, axis)
    known = np.isfinite(slope)
    across = 1 - axis
    first, last = _around(values.shape[across], reach)

    def window_sum(terms: NDArray[Any]) -> NDArray[np.float64]:
        summed = np.insert(np.cumsum(terms, axis=across, dtype=np.float64), 0, 0, axis=across)
        return summed.take(last + 1, across) - summed.take(first, across)

    if known.all():
        return (window_sum(slope) / _along(last + 1 - first, across)).astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = window_sum(np.where(known, slope, 0)) / window_sum(known)
    return np.where(np.isfinite(values), mean, np.nan).astype(np.float32)


def _around(length: int, reach: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first and the last index of the window around each of `length` places."""
    place = np.arange(length)
    return np.maximum(place - reach, 0), np.minimum(place + reach, length - 1)


def _along(counts: NDArray[np.intp], axis: int) -> NDArray[np.float32]:
    """Stand a row of numbers along an axis of (H, W)."""
    column = counts.astype(np.float32)[:, None]
    return column if axis == 0 else column.T
