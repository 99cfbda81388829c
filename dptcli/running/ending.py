"""What follows the network in a depth map: its sky, and metres that need the focal length."""

import functools
import logging
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from dptcli.depth.camera import Camera, Focal, focal_of
from dptcli.depth.prompts import Prompt
from dptcli.inputs.find import ImageSource
from dptcli.kinds import near_is_large
from dptcli.processing.sky import sky_far
from dptcli.weights.load import LoadedModel

logger = logging.getLogger(__name__)


def reference_focal(loaded: LoadedModel) -> float | None:
    """The focal length in pixels for which a network's output is metres; None for most."""
    focal_px: float | None = getattr(loaded.model.config, "reference_focal_px", None)
    return focal_px if loaded.is_metric else None


def focal_for(
    loaded: LoadedModel,
    camera: Camera | None,
    hw: tuple[int, int],
    source: ImageSource | Path | bytes | BinaryIO | None,
) -> Focal | None:
    """The focal length of a photograph of `hw`, where the network's metres need it."""
    return None if reference_focal(loaded) is None else focal_of(camera, hw, source)


def told_of(prompt: Prompt | None, focal: Focal | None) -> dict[str, Any]:
    """What results say of what the network was told beside the photograph."""
    told = {} if prompt is None else dict(prompt.facts)
    return told if focal is None else {**told, "metres_by": focal.facts()}


def end_depth(
    maps: Tensor,
    loaded: LoadedModel,
    *,
    keep_sky: bool,
    focal: Focal | None,
    network_hw: tuple[int, int],
) -> tuple[Tensor, Tensor | None]:
    """The network's map (h, w), or depth and sky (2, h, w) -> depth (h, w), the sky's mask.

    The sky gets its place unless it is to be kept; what is metres for one focal length becomes
    metres for the photograph's, in pixels of the network's input.
    """
    sky = None
    if maps.ndim == 3:
        sky = maps[1] >= loaded.model.config.sky_threshold
        maps = maps[0]
        if not keep_sky:
            maps = sky_far(maps, sky, near_is_large=near_is_large(loaded.kind))
    reference_px = reference_focal(loaded)
    if reference_px is None or focal is None:
        return maps, sky
    if focal.is_assumed:
        _tell(loaded.name, focal.origin)
    return maps * (focal.at(network_hw) / reference_px), sky


@functools.cache
def _tell(name: str, origin: str) -> None:
    """Say once that metres rest on a guess."""
    logger.warning(
        "%s: its metres are in proportion to the focal length, which is %s; say it with --fov or "
        "--focal",
        name,
        origin,
    )
