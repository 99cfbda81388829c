"""The camera of a photograph: as given, from the photograph's EXIF, or assumed."""

import contextlib
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from dptcli.depth.intrinsics import Intrinsics
from dptcli.depth.lens import Lens
from dptcli.depth.poses import Poses
from dptcli.depth.sparse import Sparse, check_stored
from dptcli.errors import UsageError
from dptcli.inputs.exif import orientation_of, read_exif
from dptcli.inputs.find import ImageSource
from dptcli.remote.opening import open_address

# A phone's main camera; the answer when nobody says anything else.
ASSUMED_FOCAL_35MM = 27.0

_DIAGONAL_35MM = math.hypot(36.0, 24.0)
_FOCAL_LENGTH_IN_35MM = 0xA405
_FOCAL_LENGTH, _FOCAL_PLANE_X_RESOLUTION, _FOCAL_PLANE_UNIT = 0x920A, 0xA20E, 0xA210
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # an inch, as TIFF counts, and what cameras added


@dataclass(frozen=True)
class Camera:
    """What is known of the camera, at most one thing of it.

    Its horizontal field of view, its 35 mm focal length, or all of it in pixels of the photograph;
    sparse, poses: all of it for each photograph by name.
    """

    fov_deg: float | None = None
    focal_35mm: float | None = None
    intrinsics: Intrinsics | None = None
    sparse: Sparse | None = None
    poses: Poses | None = None

    def __post_init__(self) -> None:
        named = {"--fov": self.fov_deg, "--focal": self.focal_35mm}
        named["--intrinsics"] = self.intrinsics  # type: ignore[assignment]  # None or not
        named["--colmap"] = self.sparse  # type: ignore[assignment]
        named["--poses"] = self.poses  # type: ignore[assignment]
        given = [name for name, value in named.items() if value is not None]
        if len(given) > 1:
            raise UsageError(
                f"{' and '.join(given)} both say how wide the camera sees; leave one out"
            )
        if self.fov_deg is not None and not 1 <= self.fov_deg <= 170:
            raise UsageError(f"--fov {self.fov_deg:g} must be from 1 to 170 degrees, e.g. --fov 60")
        if self.focal_35mm is not None and not 1 <= self.focal_35mm <= 5000:
            raise UsageError(
                f"--focal {self.focal_35mm:g} must be from 1 to 5000 millimetres (35 mm film), "
                "e.g. --focal 28"
            )

    @property
    def is_given(self) -> bool:
        """Whether no photograph is asked."""
        known = (self.fov_deg, self.focal_35mm, self.intrinsics, self.sparse, self.poses)
        return any(value is not None for value in known)

    def lens(self, hw: tuple[int, int], photo: Path | BinaryIO | None) -> Lens:
        """Return the camera of a photograph of `hw`; photo: see focal_px.

        Raises ImageError where the camera that is given cannot be that photograph's.
        """
        if self.intrinsics is not None:
            return self.intrinsics.lens(hw)
        focal_px, origin = self.focal_px(hw, photo)
        return Lens.middle(focal_px, hw, origin)

    def focal_px(self, hw: tuple[int, int], photo: Path | BinaryIO | None) -> tuple[float, str]:
        """Return the focal length in pixels of a photograph of `hw`, and where it comes from.

        photo: the file whose EXIF may know; None for standard input.
        """
        height, width = hw
        if self.fov_deg is not None:
            return width / 2 / math.tan(math.radians(self.fov_deg) / 2), "--fov"
        if self.focal_35mm is not None:
            focal_35mm, origin = self.focal_35mm, "--focal"
        elif (stored := exif_focal_35mm(photo)) is not None:
            focal_35mm, origin = stored, "EXIF"
        else:
            focal_35mm, origin = ASSUMED_FOCAL_35MM, f"assumed, {ASSUMED_FOCAL_35MM:g} mm"
        return focal_35mm * math.hypot(height, width) / _DIAGONAL_35MM, origin


def lens_of(
    camera: Camera | None, hw: tuple[int, int], source: ImageSource | Path | bytes | BinaryIO | None
) -> Lens:
    """A photograph's camera at its own size `hw`, as it is given or by its file's EXIF."""
    camera = camera or Camera()
    by_name = camera.sparse or camera.poses
    if by_name is not None and isinstance(source, ImageSource):
        lens = by_name.of(source).lens(hw)
        if not by_name.is_of_upright:
            with _opened(source, needless=False) as photo:
                turn = 1 if photo is None else orientation_of(photo)
            check_stored(turn, hw, whose=lens.origin)
        return lens
    with _opened(source, needless=camera.is_given) as photo:
        return camera.lens(hw, photo)


@contextlib.contextmanager
def _opened(
    source: ImageSource | Path | bytes | BinaryIO | None, *, needless: bool
) -> Iterator[Path | BinaryIO | None]:
    if source is None or needless:
        yield None
    elif isinstance(source, bytes):
        yield io.BytesIO(source)
    elif not isinstance(source, ImageSource):
        if not isinstance(source, Path) and source.seekable():
            source.seek(0)
        yield source
    elif source.url is None:
        yield source.path
    else:
        with open_address(source.url) as stream:
            yield stream


def exif_focal_35mm(photo: Path | BinaryIO | None) -> float | None:
    """Return the focal length in millimetres of 35 mm film that a photograph's EXIF states.

    Where it states none, it follows from the lens's own and the pixels of a millimetre of sensor.
    """
    if photo is None:
        return None
    try:
        exif, size = read_exif(photo)
        stated = float(exif.get(_FOCAL_LENGTH_IN_35MM, 0))
        if not 1 <= stated <= 5000:  # 0 is EXIF's "unknown"
            stated = _focal_35mm_by_sensor(exif, size)
    except Exception:  # a broken EXIF block must not cost the result
        return None
    return stated if 1 <= stated <= 5000 else None


def _focal_35mm_by_sensor(exif: Mapping[int, Any], size: tuple[int, int]) -> float:
    """The same from FocalLength and FocalPlaneXResolution, which Canon writes; 0 is unknown.

    size: of the stored picture, which may be a smaller copy of what the sensor gave.
    """
    unit_mm = _UNIT_MM.get(exif.get(_FOCAL_PLANE_UNIT, 2), 25.4)
    pixels_per_mm = float(exif.get(_FOCAL_PLANE_X_RESOLUTION, 0)) / unit_mm
    if not pixels_per_mm > 0:
        return 0.0
    sensor_pixels = max(int(exif.get(_PIXEL_X, 0)), int(exif.get(_PIXEL_Y, 0))) or max(size)
    sensor_mm = sensor_pixels / pixels_per_mm
    if not 1 <= sensor_mm <= 100:  # from a phone's to a large digital back's
        return 0.0
    focal_px = float(exif.get(_FOCAL_LENGTH, 0)) / sensor_mm * max(size)
    return focal_px * _DIAGONAL_35MM / math.hypot(*size)
