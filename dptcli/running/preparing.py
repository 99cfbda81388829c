"""A decoded picture made ready for the network: whole, in tiles, or as a panorama's views."""

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from dptcli.depth.prompts import Prompt
from dptcli.errors import ImageError
from dptcli.running.canvas import make_canvas
from dptcli.running.network import grid_of
from dptcli.running.options import Options
from dptcli.running.seen import Sample
from dptcli.running.sphere import Known, lens_of_view, make_sphere
from dptcli.weights.load import LoadedModel

logger = logging.getLogger(__name__)

Picture = NDArray[np.uint8] | Image


def prepare(
    picture: Picture,
    loaded: LoadedModel,
    options: Options,
    *,
    prompt: Prompt | None = None,
    keep_rgb: bool = False,
    whole_hw: tuple[int, int] | None = None,
) -> Sample:
    """Resize and normalise a picture, RGB uint8 (H, W, 3) or Pillow's, for the network.

    whole_hw: its own size, where it was read smaller, to be seen whole and not kept.
    Raises ImageError where the model takes a prompt and none is given, or one of another shape.
    """
    processor, canvas = loaded.processor, None
    if loaded.takes_prompt and prompt is None:
        raise ImageError(
            f"no prompt: model {loaded.name!r} reads a depth sensor's map of each photograph, dpt "
            "depth --prompt"
        )
    prepared = processor.prepare(picture, source_hw=whole_hw)
    if prompt is not None:
        prompt.check_shape(prepared.source_hw)
    if options.tile is not None:
        canvas = make_canvas(processor, picture, options.tile, multiple=grid_of(loaded))
    rgb = None
    if keep_rgb:
        rgb = picture if isinstance(picture, np.ndarray) else np.array(picture)
    if canvas is None:
        return Sample(prepared, rgb, prompt=prompt)
    return Sample(canvas.prepared, rgb, tile_hw=canvas.tile_hw, overview=prepared, prompt=prompt)


def prepare_sphere(picture: Picture, known: Known, loaded: LoadedModel, options: Options) -> Sample:
    """Make a panorama ready, whose views are prepared when it is their turn."""
    sphere = make_sphere(picture, known, loaded.processor, options.tile)
    first = prepare(sphere.cut(sphere.views[0]), loaded, options)
    rgb = None
    if options.keep_rgb:
        rgb = picture if isinstance(picture, np.ndarray) else np.array(picture)
    seen = replace(first.overview or first.prepared, source_hw=sphere.source_hw)
    return Sample(seen, rgb, sphere=sphere)


def prepare_view(sample: Sample, number: int, loaded: LoadedModel, options: Options) -> Sample:
    """Cut one of a panorama's views, and make it ready."""
    sphere = sample.sphere
    assert sphere is not None
    view = prepare(sphere.cut(sphere.views[number]), loaded, options)
    return replace(view, lens=lens_of_view((sphere.side, sphere.side)))


def noted(sample: Sample, note: str, *, name: str) -> Sample:
    """Say something of a photograph, a clause that follows its name, and keep it with it."""
    logger.warning("%s %s", name, note)
    return replace(sample, about=replace(sample.about, notes=(*sample.about.notes, note)))
