"""What --tile asks for: the size of the tiles, and the canvas that they are cut from."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from dptcli.processing.processor import DPTImageProcessor, Prepared

Tile = int | Literal["auto"]


@dataclass(frozen=True, eq=False)
class Canvas:
    """All of a picture at the resolution of its tiles; tile_hw in the canvas's pixels."""

    prepared: Prepared
    tile_hw: tuple[int, int]


def make_canvas(
    processor: DPTImageProcessor,
    picture: NDArray[np.uint8] | Image,
    tile: Tile,
    *,
    multiple: int,
) -> Canvas | None:
    """Resize and normalise a picture for tiles of `tile`×`tile` of its pixels.

    "auto" is half of the short side: twice the detail. The network sees a tile at its own size, but
    never larger than it is. multiple: what the sides of a tile must be multiples of. None where one
    tile would show the whole picture.
    """
    if isinstance(picture, np.ndarray):
        source_hw = picture.shape[0], picture.shape[1]
    else:
        source_hw = picture.height, picture.width
    side = max(1, min(source_hw) // 2) if tile == "auto" else tile
    own_hw = processor.config.resized_hw((side, side))
    canvas_sides, tile_sides = [], []
    for source, own in zip(source_hw, own_hw, strict=True):
        seen = min(own, side)
        length = max(multiple, math.ceil(source * seen / side))
        part = min(seen, length) // multiple * multiple or multiple
        tile_sides.append(part)
        # A picture hardly longer than a tile on this side is taken as one.
        canvas_sides.append(part if length < part + multiple else length)
    if canvas_sides == tile_sides:
        return None
    canvas_hw = (canvas_sides[0], canvas_sides[1])
    resizing = processor.with_size(canvas_hw, keep_aspect_ratio=False, multiple_of=1)
    resizing.do_pad = False
    return Canvas(resizing.prepare(picture), (tile_sides[0], tile_sides[1]))
