"""Where a picture lies on the ground: the place tags of GeoTIFF, for it and for maps made of it.

Source: OGC GeoTIFF 1.1 (19-008r4).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_PIXEL_SCALE, _TIE_POINTS, _MATRIX = 33550, 33922, 34264
_KEYS, _NUMBERS, _TEXTS = 34735, 34736, 34737
_PLACE_TAGS = (_PIXEL_SCALE, _TIE_POINTS, _MATRIX, _KEYS, _NUMBERS, _TEXTS)

_RASTER_TYPE, _PIXEL_IS_POINT = 1025, 2

Values = tuple[float, ...] | str


@dataclass(frozen=True)
class Place:
    """The place tags, by number, of a picture of (height, width) pixels."""

    hw: tuple[int, int]
    tags: Mapping[int, Values]

    def scaled(self, hw: tuple[int, int]) -> dict[int, Values]:
        """The tags of a map of the same ground with another number of pixels."""
        down, across = self.hw[0] / hw[0], self.hw[1] / hw[1]  # old pixels to a new one
        tags = dict(self.tags)
        scale, ties, matrix = (tags.get(tag) for tag in (_PIXEL_SCALE, _TIE_POINTS, _MATRIX))
        # Columns and rows count from the corner, or else from the middle, of the first pixel.
        middle = 0.5 if self._counts_middles() else 0.0
        if isinstance(scale, tuple):
            tags[_PIXEL_SCALE] = (scale[0] * across, scale[1] * down, *scale[2:])
        if isinstance(ties, tuple):
            moved = list(ties)
            for at in range(0, len(ties) - 5, 6):
                moved[at] = (ties[at] + middle) / across - middle
                moved[at + 1] = (ties[at + 1] + middle) / down - middle
            tags[_TIE_POINTS] = tuple(moved)
        if isinstance(matrix, tuple) and len(matrix) == 16:
            rows = []
            for at in range(0, 16, 4):
                x, y, z, shift = matrix[at : at + 4]
                shift += middle * (x * (across - 1) + y * (down - 1))
                rows += [x * across, y * down, z, shift]
            tags[_MATRIX] = tuple(rows)
        return tags

    def _counts_middles(self) -> bool:
        keys = self.tags.get(_KEYS, ())
        if isinstance(keys, str):
            return False
        entries = (keys[at : at + 4] for at in range(4, len(keys) - 3, 4))
        return (_RASTER_TYPE, 0, 1, _PIXEL_IS_POINT) in entries


def read_place(tags: Mapping[int, Any], hw: tuple[int, int]) -> Place | None:
    """The place of a page, from its tags; None where it has none."""
    found: dict[int, Values] = {}
    for tag in _PLACE_TAGS:
        value = tags.get(tag)
        if (isinstance(value, str) and tag == _TEXTS) or (
            isinstance(value, tuple) and all(isinstance(item, int | float) for item in value)
        ):
            found[tag] = value
    # Three tie points and more need no scale: ground control points.
    num_ties = len(found.get(_TIE_POINTS, ())) // 6
    has_place = _MATRIX in found or num_ties >= (1 if _PIXEL_SCALE in found else 3)
    return Place(hw, found) if has_place and len(found.get(_PIXEL_SCALE, (1, 1))) >= 2 else None
