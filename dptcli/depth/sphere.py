"""A panorama's depth in space: points around the camera, a mesh that closes behind it.

Axes are glTF's: x right, y up, and the middle of a whole panorama lies along -z.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dptcli.depth.guided import REACH, refine_edges
from dptcli.depth.surface import Surface, places_of
from dptcli.kinds import Kind, near_is_large
from dptcli.panorama.geometry import Extent

if TYPE_CHECKING:
    from dptcli.pipeline import Prediction

Floats = NDArray[np.float32]


def along_rays(kind: Kind) -> str:
    """What a panorama's values are."""
    distance = "distance along the ray"
    return f"inverse of the {distance}" if near_is_large(kind) else distance


def points_around(distance: Floats, extent: Extent, *, stride: int = 1) -> Floats:
    """Return a point for every `stride`-th pixel, float32 (h, w, 3), in the unit of `distance`.

    distance: (H, W) along the rays; NaN stays NaN.
    """
    hw = (distance.shape[0], distance.shape[1])
    return extent.directions(hw, stride=stride) * distance[::stride, ::stride, None]


def shell_of(distance: Floats, extent: Extent, *, stride: int, edge_cut_deg: float) -> Surface:
    """Join neighbours to triangles, but where a surface would be steeper than edge_cut_deg.

    The left border follows the right one. Where the panorama reaches a pole, a point of the mean
    distance of its last row closes it.
    """
    hw = (distance.shape[0], distance.shape[1])
    grid = points_around(distance, extent, stride=stride)
    pixel = np.arange(grid.shape[0] * grid.shape[1]).reshape(grid.shape[:2])
    place = places_of(pixel, hw, stride=stride)
    if extent.is_closed:
        grid, pixel = (np.concatenate([one, one[:, :1]], axis=1) for one in (grid, pixel))
        # The texture goes on beyond its right border, where it begins again.
        place = np.concatenate([place, place[:, :1] + np.array([1, 0], np.float32)], axis=1)
    index = np.arange(pixel.size, dtype=np.uint32).reshape(pixel.shape)
    found = [
        np.stack([index[:-1, :-1], index[1:, :-1], index[:-1, 1:]], axis=-1).reshape(-1, 3),
        np.stack([index[:-1, 1:], index[1:, :-1], index[1:, 1:]], axis=-1).reshape(-1, 3),
    ]
    points, pixels, places = [grid.reshape(-1, 3)], [pixel.ravel()], [place.reshape(-1, 2)]
    num_points = pixel.size
    for row, up, reached in zip((0, -1), (1, -1), extent.has_poles, strict=True):
        if not (reached and extent.is_closed):
            continue
        left, right = (index[row, :-1], index[row, 1:])[::up]
        mean = np.linalg.norm(grid[row], axis=-1).mean()  # NaN, where one of them is
        # A point for each triangle, so that each wears its own column of the picture.
        points.append(np.full((len(left), 3), [0, up * mean, 0], np.float32))
        pixels.append(np.full(len(left), -1))
        middle = place[row, :-1, 0] + (place[row, 1:, 0] - place[row, :-1, 0]) / 2
        places.append(np.stack([middle, np.full_like(middle, (1 - up) / 2)], axis=-1))
        poles = np.arange(num_points, num_points + len(left), dtype=np.uint32)
        found.append(np.stack([poles, left, right], axis=-1))
        num_points += len(left)
    joined = np.concatenate(points)
    triangles = np.concatenate(found)
    # Along a surface at angle a, distance changes from ray to ray by tan(a) times their angle.
    most = math.tan(math.radians(edge_cut_deg)) * stride * extent.height / hw[0]
    far = np.linalg.norm(joined, axis=-1)[triangles]
    nearest, farthest = far.min(-1), far.max(-1)  # NaN wins, and fails the comparison
    kept = triangles[farthest - nearest <= nearest * most]
    return Surface(joined, np.concatenate(places), kept, np.concatenate(pixels))


def refined(
    values: Floats,
    prediction: "Prediction",
    *,
    kind: Kind,
    apart: NDArray[np.bool_] | None = None,
) -> Floats:
    """Return depth, its edges moved to the photograph's; a panorama's goes on at its borders.

    apart: bool (H, W), what keeps its depth and has no say in what is beside it.
    """
    rgb, (height, width) = prediction.rgb, prediction.network_hw
    assert rgb is not None
    # What a resize overshot beside a near edge may be centimetres: its inverse would outweigh all.
    values = values.clip(*prediction.frame_limits)
    if prediction.extent is None or not prediction.extent.is_closed:
        return refine_edges(values, rgb, kind=kind, network_hw=(height, width), apart=apart)
    more = min(values.shape[1], math.ceil(values.shape[1] * REACH / width))
    more_rgb = max(1, round(more * rgb.shape[1] / values.shape[1]))
    wide = refine_edges(
        np.pad(values, ((0, 0), (more, more)), mode="wrap"),
        np.pad(rgb, ((0, 0), (more_rgb, more_rgb), (0, 0)), mode="wrap"),
        kind=kind,
        network_hw=(height, round(width * (1 + 2 * more / values.shape[1]))),
        apart=None if apart is None else np.pad(apart, ((0, 0), (more, more)), mode="wrap"),
    )
    return np.ascontiguousarray(wide[:, more:-more])
