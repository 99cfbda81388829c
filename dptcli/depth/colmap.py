"""A scene's cameras, poses and points as COLMAP's text files, which other programs start from.

https://colmap.github.io/format.html#text-format: pixels from the corner of the first one, world to
camera, quaternions with the real part first.
"""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dptcli import __version__
from dptcli.depth.colmap_files import MARK
from dptcli.depth.scene import Cloud, View, is_far_off

logger = logging.getLogger(__name__)

MAX_POINTS = 100_000  # a start for others; the cloud of all lies beside
_UNKNOWN_ERROR = -1


def colmap_files(views: Sequence[View], cloud: Cloud) -> dict[str, str]:
    """{name of a file: its text}. cloud: its points; each is seen in the one view it is of."""
    spaced = next((view.name for view in views if any(map(str.isspace, view.name))), None)
    if spaced is not None:
        logger.warning("%r has a space, which not every reader of COLMAP's text takes", spaced)
    numbers = np.zeros(len(cloud.xyz), np.int64)  # of each point, among those of its view
    for place in range(len(views)):
        of_view = cloud.view == place
        numbers[of_view] = np.arange(int(of_view.sum()))
    return {
        "cameras.txt": _text(_cameras(views), "CAMERA_ID MODEL WIDTH HEIGHT FX FY CX CY"),
        "images.txt": _text(
            _images(views, cloud),
            "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME; then its X Y POINT3D_ID",
        ),
        "points3D.txt": _text(
            _points(cloud, numbers), "POINT3D_ID X Y Z R G B ERROR IMAGE_ID POINT2D_IDX"
        ),
    }


def _text(lines: Iterator[str], columns: str) -> str:
    return "".join(f"{line}\n" for line in (f"{MARK} {__version__}", f"# {columns}", *lines))


def _cameras(views: Sequence[View]) -> Iterator[str]:
    for number, view in enumerate(views, start=1):
        lens = view.lens
        size = f"{lens.hw[1]} {lens.hw[0]}"
        yield f"{number} PINHOLE {size} {lens.fx:.6f} {lens.fy:.6f} {lens.cx:.6f} {lens.cy:.6f}"


def _images(views: Sequence[View], cloud: Cloud) -> Iterator[str]:
    identities = np.arange(1, len(cloud.xyz) + 1)
    for number, view in enumerate(views, start=1):
        turn = quaternion_of(view.extrinsics[:, :3])
        numbers = " ".join(f"{value:.12g}" for value in (*turn, *view.extrinsics[:, 3]))
        yield f"{number} {numbers} {number} {view.name}"
        of_view = cloud.view == number - 1
        seen = zip(cloud.place[of_view], identities[of_view], strict=True)
        yield " ".join(f"{x:.2f} {y:.2f} {identity}" for (x, y), identity in seen)


def _points(cloud: Cloud, numbers: NDArray[np.int64]) -> Iterator[str]:
    digits = 12 if is_far_off(cloud.xyz) else 6
    for identity, (xyz, rgb, view, number) in enumerate(
        zip(cloud.xyz.tolist(), cloud.rgb.tolist(), cloud.view.tolist(), numbers, strict=True),
        start=1,
    ):
        x, y, z = xyz
        red, green, blue = rgb
        place = " ".join(f"{value:.{digits}g}" for value in (x, y, z))
        point = f"{place} {red} {green} {blue}"
        yield f"{identity} {point} {_UNKNOWN_ERROR} {view + 1} {number}"


def quaternion_of(turn: NDArray[np.floating]) -> NDArray[np.float64]:
    """A rotation (3, 3) -> (w, x, y, z), of length 1, w not negative."""
    # q qᵀ, times 4 and less the unit of its trace, from the rotation's entries (Bar-Itzhack 2000):
    # its eigenvector of the largest eigenvalue, without a case for each sign.
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.asarray(turn, np.float64)
    table = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    found = np.linalg.eigh(table).eigenvectors[:, -1]
    return np.asarray(found if found[0] >= 0 else -found)
