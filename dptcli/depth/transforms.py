"""transforms.json: the cameras of a scene as instant-ngp and nerfstudio have them.

Each frame's `transform_matrix` is camera to world, with x right, y up and z backwards of the
camera (OpenGL); lenses are `fl_x`, `fl_y`, `cx`, `cy`, `w`, `h`, or `camera_angle_x` alone, of all
frames or of one. Source: both projects' documentation.
"""

import json
import logging
import math
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptcli.depth.colmap_files import DISTORTED
from dptcli.depth.lens import Lens
from dptcli.errors import UsageError
from dptcli.inputs.decode import printable

logger = logging.getLogger(__name__)

NAME = "transforms.json"
Lensed = Lens | float
"""A camera in pixels of its own picture; or the horizontal field of view, radians, of any."""

_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_PLAIN = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def read_transforms(path: Path, *, origin: str) -> dict[str, tuple[Lensed, NDArray[np.float64]]]:
    """{photograph below the frames' common folder: camera, world to camera (4, 4)}.

    origin: of the lenses, as results say it. Raises UsageError.
    """
    name = printable(path)
    try:
        said: Any = json.loads(path.read_text(encoding="utf-8"))
        frames: Sequence[Mapping[str, Any]] = said["frames"]
        files = [posixpath.normpath(str(frame["file_path"]).replace("\\", "/")) for frame in frames]
        common = posixpath.commonpath([posixpath.dirname(file) for file in files] or [""])
    except (OSError, ValueError) as error:
        raise UsageError(f"{name} cannot be read ({error})") from error
    except (KeyError, TypeError) as error:
        raise UsageError(f"{name} has no frames with a file_path each") from error
    found, distorted = {}, False
    for file, frame in zip(files, frames, strict=True):
        about = {**said, **frame}
        whose = f"{name}: {file}"
        found[posixpath.relpath(file, common or ".")] = (
            _lens(about, whose, origin),
            _world_to_camera(about, whose),
        )
        distorted |= any(about.get(key) for key in _DISTORTION)
    if distorted:
        logger.warning("%s %s: %s", origin, name, DISTORTED)
    return found


def _lens(about: Mapping[str, Any], whose: str, origin: str) -> Lensed:
    model = str(about.get("camera_model", _PLAIN[0]))
    if model not in _PLAIN or about.get("is_fisheye"):
        shown = model if model not in _PLAIN else "fisheye"
        raise UsageError(f"{whose}: the camera is {shown}; give photographs of a plain lens")
    try:
        if "fl_x" not in about:
            angle = float(about["camera_angle_x"])
            if not 0 < angle < math.pi:
                raise UsageError(f"{whose}: camera_angle_x {angle:g} must be radians below pi")
            return angle
        focal = float(about["fl_x"])
        width, height = float(about["w"]), float(about["h"])
        rest = {"fl_y": focal, "cx": width / 2, "cy": height / 2}
        fy, cx, cy = (float(about.get(key, usual)) for key, usual in rest.items())
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{whose}: no camera of fl_x, w and h, nor camera_angle_x") from error
    return Lens(focal, fy, cx, cy, (round(height), round(width)), origin)


def _world_to_camera(about: Mapping[str, Any], whose: str) -> NDArray[np.float64]:
    try:
        rows = np.array(about["transform_matrix"], np.float64)[:3]  # the fourth is 0, 0, 0, 1
        to_world = np.vstack([rows.reshape(3, 4), [0, 0, 0, 1]])
        return np.linalg.inv(to_world @ _FROM_OPENGL)
    except (KeyError, TypeError, ValueError, np.linalg.LinAlgError) as error:
        raise UsageError(
            f"{whose}: transform_matrix must be the 4×4 of a camera's place in the world"
        ) from error
