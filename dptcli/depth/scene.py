"""One scene from several photographs: its points, as a PLY and in COLMAP's text files.

The world's axes are COLMAP's and OpenCV's: x right, y down, z forward of (nearly) the reference
view; its unit is that of depth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dptcli import __version__
from dptcli.depth.geometry import points_from
from dptcli.depth.lens import Lens

LEAST_SURE = 0.4
"""The share of a scene's pixels, the least sure, that give no points: as Depth Anything 3's authors
have it."""
_FARTHEST = 1e6
_COARSE = 1e-5


@dataclass(frozen=True, eq=False)
class View:
    """One photograph of the scene.

    lens: in the photograph's pixels. extrinsics: world to camera, (3, 4). depth, confidence:
    float32 (h, w), large is far, NaN nothing at all, and large is sure. rgb: uint8 (h, w, 3).
    """

    name: str
    lens: Lens
    extrinsics: NDArray[np.floating]
    depth: NDArray[np.float32]
    confidence: NDArray[np.float32] | None
    rgb: NDArray[np.uint8]

    def world_points(self) -> NDArray[np.floating]:
        """Where each pixel's point lies in the world, (h, w, 3), as exact as the extrinsics."""
        hw = (self.depth.shape[0], self.depth.shape[1])
        lens = self.lens.at(hw)
        points = points_from(self.depth, focal_px=lens.focal_px, centre_px=(lens.cx, lens.cy))
        points *= np.array([1, -1, -1], np.float32)  # from glTF's axes
        turn, shift = self.extrinsics[:, :3], self.extrinsics[:, 3]
        return np.asarray((points - shift) @ turn)  # the turn's inverse, from the left


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points of a scene.

    xyz: (N, 3), float64 where cameras were given. rgb: uint8 (N, 3). view: which View each is of
    (N,). place: where in that photograph, in its pixels, (0, 0) the corner of the first one,
    float32 (N, 2).
    """

    xyz: NDArray[np.floating]
    rgb: NDArray[np.uint8]
    view: NDArray[np.int32]
    place: NDArray[np.float32]

    def thinned(self, most: int) -> "Cloud":
        """At most so many of the points, evenly over the views."""
        if len(self.xyz) <= most:
            return self
        kept = np.linspace(0, len(self.xyz) - 1, most).round().astype(np.int64)
        return Cloud(self.xyz[kept], self.rgb[kept], self.view[kept], self.place[kept])


def cloud_of(views: Sequence[View], *, max_points: int) -> Cloud:
    """The points of all views that are known, near enough and sure enough."""
    sure = [
        view.confidence[np.isfinite(view.depth)] for view in views if view.confidence is not None
    ]
    known = np.concatenate(sure) if sure else np.empty(0, np.float32)
    least = np.quantile(known, LEAST_SURE) if known.size else 0
    parts = []
    for number, view in enumerate(views):
        good = np.isfinite(view.depth) & (view.depth > 0) & (view.depth < _FARTHEST)
        if view.confidence is not None:
            good &= view.confidence >= least
        rows, columns = np.nonzero(good)
        height, width = view.depth.shape
        scale = (view.lens.hw[1] / width, view.lens.hw[0] / height)
        place = (np.stack([columns, rows], axis=-1) + 0.5) * scale
        parts.append(
            Cloud(
                view.world_points()[good],
                view.rgb[good],
                np.full(len(rows), number, np.int32),
                place.astype(np.float32),
            ).thinned(-(-max_points // len(views)) * 2)
        )
    whole = Cloud(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("xyz", "rgb", "view", "place")
        )
    )
    return whole.thinned(max_points)


def is_far_off(xyz: NDArray[np.floating]) -> bool:
    """Whether points (N, 3) are so far from the world's origin that float32 is too coarse for them.

    So they are on a map's coordinates. Coarse: beside the distance that half of them lie within.
    """
    if not len(xyz):
        return False
    middle = np.median(xyz, axis=0)
    near = np.median(np.linalg.norm(xyz - middle, axis=1))
    return bool(np.spacing(np.float32(np.abs(middle).max())) > _COARSE * near)


def write_cloud(stream: BinaryIO, cloud: Cloud, *, num_views: int, unit: str) -> None:
    """Write a binary PLY, of double precision where single would shift points. unit: in words."""
    number, word = ("<f8", "double") if is_far_off(cloud.xyz) else ("<f4", "float")
    vertices = np.empty(len(cloud.xyz), dtype=[("xyz", number, 3), ("rgb", "u1", 3)])
    vertices["xyz"], vertices["rgb"] = cloud.xyz, cloud.rgb
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment dptcli {__version__}; {num_views} views, unit: {unit}",
        "comment x right, y down, z forward, as in colmap/images.txt",
        f"element vertex {len(vertices)}",
        *(f"property {word} {axis}" for axis in "xyz"),
        *(f"property uchar {channel}" for channel in ("red", "green", "blue")),
        "end_header",
    ]
    stream.write(("\n".join(header) + "\n").encode())
    stream.write(vertices.tobytes())
