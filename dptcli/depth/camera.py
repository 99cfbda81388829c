"""The camera's focal length in pixels: as given, from the photograph's EXIF, or assumed."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from dptcli.errors import UsageError

# A phone's main camera; the answer when nobody says anything else.
ASSUMED_FOCAL_35MM = 27.0

_DIAGONAL_35MM = math.hypot(36.0, 24.0)
_EXIF_IFD = 0x8769
_FOCAL_LENGTH_IN_35MM = 0xA405


@dataclass(frozen=True)
class Camera:
    """What is known of the camera: its horizontal field of view, or its 35 mm focal length."""

    fov_deg: float | None = None
    focal_35mm: float | None = None

    def __post_init__(self) -> None:
        if self.fov_deg is not None and self.focal_35mm is not None:
            raise UsageError("--fov and --focal both say how wide the camera sees; leave one out")
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
        return self.fov_deg is not None or self.focal_35mm is not None

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


def focal_of_map(
    focal_px: float, source_hw: tuple[int, int], hw: tuple[int, int]
) -> tuple[float, float]:
    """Return a photograph's focal length in the pixels of its map of `hw`: across, down.

    They differ where a map has not the photograph's aspect: --target-size may stretch.
    """
    return focal_px * hw[1] / source_hw[1], focal_px * hw[0] / source_hw[0]


def exif_focal_35mm(photo: Path | BinaryIO | None) -> float | None:
    """Return the focal length in millimetres of 35 mm film that a photograph's EXIF states."""
    if photo is None:
        return None
    try:
        with Image.open(photo) as image:
            stated = float(image.getexif().get_ifd(_EXIF_IFD).get(_FOCAL_LENGTH_IN_35MM, 0))
    except Exception:  # a broken EXIF block must not cost the result
        return None
    return stated if 1 <= stated <= 5000 else None  # 0 is EXIF's "unknown"
