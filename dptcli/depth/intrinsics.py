"""--intrinsics: a calibrated camera, as numbers, as JSON, or as COLMAP's cameras file."""

import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dptcli.depth.colmap_files import DISTORTED, CameraRow, read_cameras
from dptcli.depth.lens import Lens, Size
from dptcli.errors import ImageError, UsageError
from dptcli.inputs.decode import printable

logger = logging.getLogger(__name__)

OPTION = "--intrinsics"
_EXAMPLE = "fx,fy,cx,cy in pixels, e.g. 1520,1520,960,540, a JSON or a COLMAP cameras.txt"
_NAMES = ("fx", "fy", "cx", "cy")
_MATRICES = ("intrinsics", "K", "camera_matrix", "intrinsic_matrix")
_BENT = (
    "distortion_coefficients",
    "dist_coeffs",
    "dist_coeff",
    "dist",
    "D",
    "k1",
    "k2",
    "p1",
    "p2",
)
_SHAPE_SLACK = 0.01  # of two shapes that count as the same: sizes are rounded
_ROW = re.compile(r"^\d+\s+[A-Z_]+\s+\d+\s+\d+\s", re.MULTILINE)  # of cameras.txt


@dataclass(frozen=True)
class Intrinsics:
    """The camera of photographs; hw: of those that it was calibrated with, None is any.

    Raises UsageError for numbers that no camera has.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    hw: Size | None = None

    def __post_init__(self) -> None:
        for name in _NAMES:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{OPTION}: {name} {value:g} must be above 0; give {_EXAMPLE}")
        if self.hw is not None and min(self.hw) < 1:
            raise UsageError(f"{OPTION}: {self.hw[1]}×{self.hw[0]} is no size of a photograph")

    def lens(self, hw: Size) -> Lens:
        """Return it in pixels of a photograph of `hw`.

        Raises ImageError where it cannot be that photograph's.
        """
        at = f"{hw[1]}×{hw[0]}"
        if self.hw is None:
            if self.cx >= hw[1] or self.cy >= hw[0]:
                raise ImageError(
                    f"{OPTION}: the principal point {self.cx:g},{self.cy:g} lies outside the "
                    f"photograph of {at}; give them for its size, or a JSON with width and height"
                )
            if self._has_middle(hw[::-1], slack=0.03) and not self._has_middle(hw, slack=0.1):
                raise ImageError(
                    f"{OPTION}: the principal point {self.cx:g},{self.cy:g} is the middle of a "
                    f"picture of {hw[0]}×{hw[1]}, and upright the photograph is {at}; give the "
                    "camera of the upright one"
                )
            return Lens(self.fx, self.fy, self.cx, self.cy, hw, OPTION)
        own = Lens(self.fx, self.fy, self.cx, self.cy, self.hw, OPTION)
        across, down = hw[1] / self.hw[1], hw[0] / self.hw[0]
        if abs(across / down - 1) > _SHAPE_SLACK:
            raise ImageError(
                f"{OPTION} is for photographs of {self.hw[1]}×{self.hw[0]}, and this is one of "
                f"{at}, another shape; give the camera of the whole upright photograph"
            )
        return own.at(hw)

    def _has_middle(self, hw: Size, *, slack: float) -> bool:
        """Whether the principal point is near the middle of pictures of `hw`; in shares of it."""
        return max(abs(self.cx / hw[1] - 0.5), abs(self.cy / hw[0] - 0.5)) <= slack


def parse_intrinsics(text: str) -> Intrinsics:
    """Read the option: four numbers, or the path of a file. Raises UsageError."""
    numbers = _numbers(text.split(","))
    if numbers is not None:
        if len(numbers) != 4:
            raise UsageError(f"{OPTION} {text!r} has {len(numbers)} numbers; give {_EXAMPLE}")
        return _made(numbers)
    path = Path(text)
    if path.suffix == ".bin" and path.is_file():
        return _from_colmap(path)
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise UsageError(f"{OPTION} {printable(text)!r} {reason}; give {_EXAMPLE}") from error
    if content.lstrip()[:1] in ("{", "["):
        return _from_json(content, path)
    if not _ROW.search(content):
        raise UsageError(
            f"{OPTION} {printable(text)} is neither JSON nor COLMAP's; give {_EXAMPLE}"
        )
    return _from_colmap(path)


def _from_json(content: str, path: Path) -> Intrinsics:
    """fx, fy, cx, cy, or a matrix; width and height where the file says them.

    Such as a sidecar of ours ("camera"), ROS and OpenCV files, Open3D's (column by column).
    """
    name = printable(path)
    try:
        found: Any = json.loads(content)
    except ValueError as error:
        raise UsageError(f"{OPTION} {name} is not JSON ({error}); give {_EXAMPLE}") from error
    if isinstance(found, Mapping) and isinstance(found.get("camera"), Mapping):
        found = found["camera"]
    said: Mapping[str, Any] = found if isinstance(found, Mapping) else {"K": found}
    if any(_is_set(said.get(key)) for key in _BENT):
        logger.warning("%s %s: %s", OPTION, name, DISTORTED)
    try:
        width, height = (said.get(key, said.get(f"image_{key}")) for key in ("width", "height"))
        hw = None if width is None or height is None else (int(height), int(width))
        if all(key in said for key in _NAMES):
            return _made([float(said[key]) for key in _NAMES], hw)
        matrix = next(said[key] for key in _MATRICES if key in said)
        return _made(_of_matrix(matrix), hw)
    except (StopIteration, TypeError, ValueError, IndexError, KeyError) as error:
        raise UsageError(
            f"{OPTION} {name} names no fx, fy, cx, cy and no 3×3 matrix K; give {_EXAMPLE}"
        ) from error


def _is_set(distortion: Any) -> bool:
    """Whether some number in it, however it is wrapped, is not zero."""
    if isinstance(distortion, Mapping):
        return _is_set(distortion.get("data"))
    if isinstance(distortion, Sequence) and not isinstance(distortion, str):
        return any(map(_is_set, distortion))
    return isinstance(distortion, int | float) and distortion != 0


def _of_matrix(matrix: Any) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of rows, or of nine numbers by rows or by columns."""
    if isinstance(matrix, Mapping):  # OpenCV's and ROS' {"rows": 3, "cols": 3, "data": […]}
        matrix = matrix["data"]
    if len(matrix) == 9:
        matrix = [matrix[start : start + 3] for start in (0, 3, 6)]
    rows = [[float(value) for value in row] for row in matrix]
    if [len(row) for row in rows] != [3, 3, 3]:
        raise ValueError("it is not 3×3")
    if rows[0][2] == 0 == rows[1][2]:  # by columns
        rows = [list(column) for column in zip(*rows, strict=True)]
    return rows[0][0], rows[1][1], rows[0][2], rows[1][2]


def _from_colmap(path: Path) -> Intrinsics:
    """The one camera of a cameras.txt or cameras.bin."""
    name = printable(path)
    try:
        camera = _only([*read_cameras(path).values()], name)
        numbers = camera.pinhole()
    except UsageError as error:
        raise UsageError(f"{OPTION} {error}") from error
    if camera.is_distorted:
        logger.warning("%s %s: %s", OPTION, name, DISTORTED)
    return _made(numbers, camera.hw)


def _only(cameras: Sequence[CameraRow], name: str) -> CameraRow:
    if len(cameras) != 1:
        raise UsageError(
            f"{name} holds {len(cameras)} cameras; give a file with the photographs' own, or the "
            "whole model with --colmap"
        )
    return cameras[0]


def _made(numbers: Sequence[float], hw: Size | None = None) -> Intrinsics:
    fx, fy, cx, cy = numbers
    return Intrinsics(fx, fy, cx, cy, hw)


def _numbers(words: Sequence[str]) -> list[float] | None:
    """The words as numbers; None where one is none."""
    try:
        return [float(word) for word in words]
    except ValueError:
        return None
