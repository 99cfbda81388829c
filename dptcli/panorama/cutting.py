"""Perspective views cut from a panorama."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.panorama.geometry import VIEWS, Extent, Size, View, width_for

RGB = NDArray[np.uint8]

_FINER = 1.5  # than the middle of a view: its corners show less of the sphere in a pixel
_BAND_PIXELS = 500_000  # cut at once: bounds the memory beyond the view
_LEAST_SHOWN = 0.01  # of what the view shows that shows most, where the panorama is a part


@dataclass(frozen=True, eq=False)
class Sphere:
    """A panorama that is to be cut.

    picture: uint8 (h, w, 3), no finer than its views need; source_hw: its size as it was read.
    side: of a view, in pixels. views: those that show something of it. by: who says that it is one.
    """

    picture: RGB
    source_hw: Size
    extent: Extent
    side: int
    views: tuple[View, ...]
    by: str

    def cut(self, view: View) -> RGB:
        """What a view shows: uint8 (side, side, 3)."""
        return cut_view(self.picture, self.extent, view, self.side)


def sphere_of(picture: Image.Image, extent: Extent, *, side: int, by: str) -> Sphere:
    """Make a panorama ready for views of `side` pixels."""
    small = shrunk_for(picture, extent, side)
    views = VIEWS if extent.is_whole else _showing(extent)
    source_hw = (picture.height, picture.width)
    return Sphere(np.array(small), source_hw, extent, side, views, by)


def shrunk_for(picture: Image.Image, extent: Extent, side: int) -> Image.Image:
    """A panorama no finer than views of `side` pixels can show."""
    width = round(width_for(side, extent) * _FINER)
    if width >= picture.width:
        return picture
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def cut_view(picture: RGB, extent: Extent, view: View, side: int) -> RGB:
    """What a view shows of a panorama uint8 (H, W, 3): uint8 (side, side, 3).

    Where the panorama shows nothing its border goes on.
    """
    cut = np.empty((side, side, 3), np.uint8)
    step = max(1, _BAND_PIXELS // side)
    for first in range(0, side, step):
        rows = slice(first, first + step)
        x, y = extent.places(view.directions((side, side), rows=rows))
        cut[rows] = _between(picture, x, y, is_closed=extent.is_closed)
    return cut


def _showing(extent: Extent) -> tuple[View, ...]:
    """The views that show enough of a part of the sphere to be looked at."""
    shown = [float(extent.shows(view.directions((128, 128))).mean()) for view in VIEWS]
    least = _LEAST_SHOWN * max(shown)
    return tuple(view for view, share in zip(VIEWS, shown, strict=True) if share > least)


def _between(
    picture: RGB, x: NDArray[np.float32], y: NDArray[np.float32], *, is_closed: bool
) -> RGB:
    """A picture's colours at shares x, y of its sides, between its pixels linearly."""
    height, width = picture.shape[:2]
    x, y = x * width - 0.5, y * height - 0.5
    left, top = np.floor(x), np.floor(y)
    across, down = (x - left)[..., None], (y - top)[..., None]
    columns = [left.astype(np.int64) + step for step in (0, 1)]
    rows = [np.clip(top.astype(np.int64) + step, 0, height - 1) for step in (0, 1)]
    columns = [one % width if is_closed else np.clip(one, 0, width - 1) for one in columns]
    upper, lower = (
        picture[row, columns[0]] * (1 - across) + picture[row, columns[1]] * across for row in rows
    )
    return np.asarray(upper * (1 - down) + lower * down + 0.5, np.uint8)
