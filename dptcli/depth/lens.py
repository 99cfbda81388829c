"""A pinhole camera in pixels of a picture: focal lengths and where the optical axis meets it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]


@dataclass(frozen=True)
class Lens:
    """fx, fy: the focal length across and down; cx, cy: the principal point; of a picture of `hw`.

    All in its pixels, (0, 0) the corner of the first one, so that the middle is (width / 2,
    height / 2), as COLMAP has it. origin: whence it is known, as results say it.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    hw: Size
    origin: str

    @classmethod
    def middle(cls, focal_px: float, hw: Size, origin: str) -> "Lens":
        """Of square pixels, the axis through the middle."""
        return cls(focal_px, focal_px, hw[1] / 2, hw[0] / 2, hw, origin)

    @property
    def is_assumed(self) -> bool:
        """Whether nobody said it."""
        return self.origin.startswith("assumed")

    @property
    def focal_px(self) -> tuple[float, float]:
        """Across, down; they differ where pixels are not square: --target-size may stretch."""
        return self.fx, self.fy

    @property
    def mean_focal_px(self) -> float:
        """The mean of both directions."""
        return (self.fx + self.fy) / 2

    @property
    def fov_deg(self) -> tuple[float, float]:
        """How wide and how high it sees, in degrees."""
        (height, width) = self.hw
        across = math.atan2(self.cx, self.fx) + math.atan2(width - self.cx, self.fx)
        down = math.atan2(self.cy, self.fy) + math.atan2(height - self.cy, self.fy)
        return math.degrees(across), math.degrees(down)

    def at(self, hw: Size) -> "Lens":
        """The same in pixels of the picture at another size."""
        down, across = hw[0] / self.hw[0], hw[1] / self.hw[1]
        return Lens(
            self.fx * across, self.fy * down, self.cx * across, self.cy * down, hw, self.origin
        )

    def matrix(self) -> NDArray[np.float32]:
        """Return K, float32 (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float32)

    def focal_facts(self) -> dict[str, Any]:
        """Return the focal length alone, under the names that results have had for it longest."""
        across, down = round(self.fx, 3), round(self.fy, 3)
        both = {"focal_px": across} if across == down else {"focal_px": across, "focal_y_px": down}
        return {**both, "focal_from": self.origin}

    def facts(self) -> dict[str, Any]:
        """Return what results say about it."""
        fov_x_deg, fov_y_deg = self.fov_deg
        numbers = {"fx": self.fx, "fy": self.fy, "cx": self.cx, "cy": self.cy}
        numbers |= {"fov_x_deg": fov_x_deg, "fov_y_deg": fov_y_deg}
        return {
            **{name: round(value, 3) for name, value in numbers.items()},
            "width": self.hw[1],
            "height": self.hw[0],
            "from": self.origin,
        }
