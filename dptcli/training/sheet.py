"""A sheet of photographs with their depth and their classes: `python -m dptcli.training.sheet`.

    python -m dptcli.training.sheet sample_images/*.jpg -o example.jpg

One column a photograph: itself, its depth (near is bright), its classes over it. For a look at a
model that has just been trained: are edges where they belong, is there a floor where there is none?
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dptcli.depth.colormaps import depth_lut
from dptcli.errors import DptError
from dptcli.inputs.find import decode_image
from dptcli.pipeline import Pipeline, open_pipeline
from dptcli.results.files import atomic_write
from dptcli.segments.palettes import AUTO, choose_palette

GAP_PX = 6
OVERLAY = 0.5


def make_sheet(
    photos: Sequence[Path], *, depth: Pipeline, segment: Pipeline, row_height: int = 230
) -> Image.Image:
    """The sheet: three rows of `row_height` pixels, a column a photograph."""
    colors = choose_palette(AUTO, segment.loaded.labels)[1]
    lut = depth_lut("inferno")
    columns = []
    for photo in photos:
        rgb = decode_image(photo)
        size = (round(rgb.shape[1] * row_height / rgb.shape[0]), row_height)
        values = depth.predict_one(rgb).values.astype(np.float64)
        span = max(float(values.max() - values.min()), 1e-12)
        levels = np.rint((values - values.min()) / span * (len(lut) - 1)).astype(np.intp)
        labels = segment.predict_one(rgb).values
        over = rgb * (1 - OVERLAY) + colors[labels] * OVERLAY
        pictures = (rgb, lut[levels][..., :3], over.astype(np.uint8))
        columns.append(
            [
                Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BOX)
                for picture in pictures
            ]
        )
    width = sum(column[0].width for column in columns) + GAP_PX * (len(columns) - 1)
    sheet = Image.new("RGB", (width, 3 * row_height + 2 * GAP_PX), "white")
    left = 0
    for column in columns:
        for row, picture in enumerate(column):
            sheet.paste(picture, (left, row * (row_height + GAP_PX)))
        left += column[0].width + GAP_PX
    return sheet


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m dptcli.training.sheet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the sheet, a JPEG")
    parser.add_argument("--depth-model", default="dpt-small", help="a name or a folder")
    parser.add_argument("--segment-model", default="dpt-small", help="a name or a folder")
    parser.add_argument("--height", type=int, default=230, help="of a row, in pixels")
    options = parser.parse_args(arguments)
    try:
        sheet = make_sheet(
            options.photos,
            depth=open_pipeline(options.depth_model, task="depth"),
            segment=open_pipeline(options.segment_model, task="segment"),
            row_height=options.height,
        )
    except DptError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with atomic_write(options.output) as stream:
        sheet.save(stream, "JPEG", quality=88)
    print(options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
