"""The sphere around a camera: the part of it that a picture shows, and perspective views of it.

Axes are glTF's: x right, y up, z backwards; the middle of a whole panorama lies along -z. Its
columns are longitudes from left to right, its rows latitudes from top to bottom
(equirectangular). A view's x runs from -1 at its left edge to 1 at its right one, y likewise down.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
Floats = NDArray[np.float32]

VIEW_FOV_DEG = 90.0
"""How wide and how high each view sees: its rays at the edges are as long as its axis is."""
_RINGS = ((0.0, 8, 0.0), (55.0, 4, 22.5), (-55.0, 4, 67.5))
"""Views on the horizon, above and below it: (pitch, how many, the first one's yaw), degrees.

2.7 of them show a direction on average, at least two 99 % of all, and none lies near the edge of
all that show it. None looks straight up or down: networks learned from photographs that show some
of the walls.
"""
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Extent:
    """The part of the sphere that a picture shows: longitudes from `left` on, latitudes from `top`
    down, radians.
    """

    left: float = -math.pi
    top: float = math.pi / 2
    width: float = 2 * math.pi
    height: float = math.pi

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole sphere."""
        return self.is_closed and self.has_poles == (True, True)

    @property
    def is_closed(self) -> bool:
        """Whether the right border meets the left one."""
        return self.width > 2 * math.pi - _TOLERANCE

    @property
    def has_poles(self) -> tuple[bool, bool]:
        """Whether it reaches straight up, and straight down."""
        return (
            self.top > math.pi / 2 - _TOLERANCE,
            self.top - self.height < -math.pi / 2 + _TOLERANCE,
        )

    def directions(self, hw: Size, *, rows: slice = slice(None), stride: int = 1) -> Floats:
        """Where the pixels of a picture of `hw` look: unit vectors, float32 (h, w, 3).

        rows: some of them; stride: every so many of these and of the columns.
        """
        height, width = hw
        latitude = self.top - (np.arange(height)[rows][::stride] + 0.5) * (self.height / height)
        longitude = self.left + (np.arange(0, width, stride) + 0.5) * (self.width / width)
        return directions_of(latitude[:, None], longitude[None])

    def places(self, directions: NDArray[np.floating]) -> tuple[Floats, Floats]:
        """Where directions (…, 3) lie in a picture: shares of its width and height from its corner.

        Outside of 0 to 1 where it does not show them.
        """
        x, y, z = (directions[..., axis] for axis in range(3))
        # From the middle of the picture, so that what it does not show lies beyond the nearer edge.
        middle = self.left + self.width / 2
        turned = np.arctan2(x, -z) - middle
        turned = (turned + math.pi) % (2 * math.pi) - math.pi
        latitude = np.arctan2(y, np.hypot(x, z))
        across = turned / self.width + 0.5
        return _float32(across), _float32((self.top - latitude) / self.height)

    def shows(self, directions: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether the picture shows directions (…, 3)."""
        x, y = self.places(directions)
        inside: NDArray[np.bool_] = (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
        return inside

    def facts(self) -> dict[str, float]:
        """What results say about it."""
        ends = {"left": self.left, "right": self.left + self.width}
        ends |= {"top": self.top, "bottom": self.top - self.height}
        return {name: round(math.degrees(value), 4) for name, value in ends.items()}


WHOLE = Extent()


@dataclass(frozen=True)
class View:
    """A square perspective picture of VIEW_FOV_DEG: where its axis points, in degrees.

    yaw_deg: to the right; pitch_deg: up.
    """

    yaw_deg: float
    pitch_deg: float

    @functools.cached_property
    def axes(self) -> Floats:
        """Its right, its up and its forward, unit vectors, float32 (3, 3)."""
        yaw, pitch = math.radians(self.yaw_deg), math.radians(self.pitch_deg)
        forward = directions_of(np.array(pitch), np.array(yaw))
        right = np.array([math.cos(yaw), 0.0, math.sin(yaw)])
        return np.stack([right, np.cross(right, forward), forward]).astype(np.float32)

    def directions(self, hw: Size, *, rows: slice = slice(None)) -> Floats:
        """Where the pixels of the view at `hw` look, float32 (h, w, 3), each 1 along the axis."""
        height, width = hw
        y = ((np.arange(height)[rows] + 0.5) * 2 / height - 1) * _REACH
        x = ((np.arange(width) + 0.5) * 2 / width - 1) * _REACH
        right, up, forward = self.axes
        return _float32(forward + x[None, :, None] * right - y[:, None, None] * up)

    def places(self, directions: Floats) -> tuple[Floats, Floats, Floats]:
        """Unit vectors (…, 3) -> x, y in the view, and the cosine of their angle to its axis.

        x and y mean nothing where that is not above 0.
        """
        turned = directions @ self.axes.T
        cosine = turned[..., 2]
        ahead = np.maximum(cosine, np.float32(1e-6)) * np.float32(_REACH)
        return turned[..., 0] / ahead, -turned[..., 1] / ahead, cosine


_REACH = math.tan(math.radians(VIEW_FOV_DEG / 2))

VIEWS = tuple(
    View((first + 360 / count * number) % 360, pitch)
    for pitch, count, first in _RINGS
    for number in range(count)
)


def directions_of(latitude: NDArray[np.floating], longitude: NDArray[np.floating]) -> Floats:
    """Unit vectors, float32 (…, 3), of angles in radians."""
    level = np.cos(latitude)
    parts = (level * np.sin(longitude), np.sin(latitude), -level * np.cos(longitude))
    return np.stack(np.broadcast_arrays(*parts), axis=-1).astype(np.float32)


def evenly(count: int) -> Floats:
    """Directions spread evenly over the sphere, float32 (count, 3): a spiral of golden angles."""
    place = np.arange(count) + 0.5
    longitude = place * (math.pi * (3 - math.sqrt(5)))
    return directions_of(np.arcsin(1 - 2 * place / count), longitude)


def _float32(values: NDArray[np.floating]) -> Floats:
    return np.asarray(values, np.float32)


def seen_by(x: Floats, y: Floats, cosine: Floats) -> NDArray[np.bool_]:
    """Whether a view shows what lies at x, y (View.places)."""
    inside: NDArray[np.bool_] = (cosine > 0) & (np.abs(x) < 1) & (np.abs(y) < 1)
    return inside


def feather(x: Floats, y: Floats) -> Floats:
    """How much a view counts at x, y: 1 in its middle, smoothly down to 0 at its edges."""
    x, y = np.clip(x, -1, 1), np.clip(y, -1, 1)
    return np.asarray(np.square((1 - x * x) * (1 - y * y)), np.float32)


def view_side(width: int, extent: Extent = WHOLE) -> int:
    """How many pixels a view needs to show a panorama so wide as finely as its equator."""
    return max(1, round(width / extent.width * 2 * _REACH))


def width_for(side: int, extent: Extent = WHOLE) -> int:
    """How wide a panorama is whose equator is as fine as the middle of a view of `side` pixels."""
    return max(2, round(side / (2 * _REACH) * extent.width))


def view_focal(side: int) -> float:
    """The focal length of a view of `side` pixels, in pixels."""
    return side / (2 * _REACH)
