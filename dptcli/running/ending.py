"""What follows the network in a depth map: its sky, and metres that need the focal length."""

import functools
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import torch.nn.functional as F
from torch import Tensor

from dptcli.depth.camera import Camera, lens_of
from dptcli.depth.lens import Lens
from dptcli.depth.poses import OPTION as POSES
from dptcli.depth.prompts import Prompt
from dptcli.inputs.find import ImageSource
from dptcli.kinds import near_is_large
from dptcli.processing.postprocess import crop_padding, resize_depth
from dptcli.processing.processor import Prepared
from dptcli.processing.sky import put_in, sky_far, without_jump
from dptcli.running.answer import ORIGIN, Answer
from dptcli.running.seen import Sample
from dptcli.weights.load import LoadedModel

logger = logging.getLogger(__name__)

# 1 / metres: from 10 km to a tenth of a millimetre, as the authors of Depth Pro bound them.
_INVERSE_M = (1e-4, 1e4)


def reference_focal(loaded: LoadedModel) -> float | None:
    """The focal length in pixels for which a network's output is metres; None for most."""
    focal_px: float | None = getattr(loaded.model.config, "reference_focal_px", None)
    return focal_px if loaded.is_metric else None


def is_canonical(loaded: LoadedModel) -> bool:
    """Whether a network gives 1 / metres for a camera whose focal length is the picture's width."""
    return getattr(loaded.model.config, "gives_canonical_inverse", False)


def by_own_camera(loaded: LoadedModel) -> bool:
    """Whether a network's metres are for the camera that it estimates with them."""
    return loaded.is_metric and getattr(loaded.model.config, "metres_by_own_camera", False)


def rests_on_camera(loaded: LoadedModel) -> bool:
    """Whether a network's metres depend on the camera."""
    own = by_own_camera(loaded)
    return own or reference_focal(loaded) is not None or is_canonical(loaded)


def lens_for(
    loaded: LoadedModel,
    camera: Camera | None,
    hw: tuple[int, int],
    source: ImageSource | Path | bytes | BinaryIO | None,
) -> Lens | None:
    """The camera of a photograph of `hw`, where it is given or the network's metres need it."""
    is_given = camera is not None and camera.is_given
    estimates = getattr(loaded.model.config, "gives_camera", False)
    if is_given or (rests_on_camera(loaded) and not estimates):
        return lens_of(camera, hw, source)
    return None


def lens_by(answer: Answer, sample: Sample, camera: Camera | None) -> Lens | None:
    """The photograph's camera: as it is given, else by the network, else as the file says it."""
    if answer.camera is None or (camera is not None and camera.is_given):
        return sample.lens
    return answer.camera.lens(sample.overview or sample.prepared)


def told_of(loaded: LoadedModel, prompt: Prompt | None, lens: Lens | None) -> dict[str, Any]:
    """What results say of what the network was told beside the photograph."""
    told = {} if prompt is None else dict(prompt.facts)
    if lens is None or not _is_by_lens(loaded, lens):
        return told
    about = {"focal_px": round(lens.mean_focal_px, 3), "focal_from": lens.origin}
    return {**told, "metres_by": about}


def without_padding(maps: Tensor, prepared: Prepared, loaded: LoadedModel) -> Tensor:
    """The network's maps (…, h, w) without what the picture was padded with."""
    return crop_padding(
        maps,
        padding=prepared.padding,
        network_hw=prepared.padded_hw,
        mode=loaded.processor.depth_mode if loaded.task == "depth" else "bilinear",
    )


def depth_of_view(answer: Answer, sample: Sample, loaded: LoadedModel, *, keep_sky: bool) -> Tensor:
    """What the network says of a panorama's view -> its depth (h, w), of the model's kind."""
    cropped = without_padding(answer.maps, sample.prepared, loaded)
    depth, _ = end_depth(
        replace(answer, maps=cropped),
        loaded,
        keep_sky=keep_sky,
        lens=sample.lens,
        network_hw=(sample.overview or sample.prepared).network_hw,
    )
    return at_size(depth, (depth.shape[0], depth.shape[1]), loaded)


def end_depth(
    answer: Answer,
    loaded: LoadedModel,
    *,
    keep_sky: bool,
    lens: Lens | None,
    network_hw: tuple[int, int],
) -> tuple[Tensor, Tensor | None]:
    """The network's maps (h, w), without padding -> depth (h, w), the sky's mask.

    Where a scale and a shift are kept with the model they make metres of it. The sky gets its place
    unless it is to be kept; what is metres for one focal length becomes metres for the
    photograph's, in pixels of the network's input. What is canonical stays 1 / metres, for
    `at_size`.
    """
    depth, sky = calibrated(answer.depth, loaded), answer.named("sky")
    if sky is not None:
        sky = sky >= loaded.model.config.sky_threshold
        if not keep_sky and answer.sky_depth is not None and loaded.calibration is None:
            depth = depth.masked_fill(sky, answer.sky_depth)
        elif not keep_sky:
            depth = sky_far(depth, sky, near_is_large=near_is_large(loaded.kind))
    if lens is None or not _is_by_lens(loaded, lens):
        return depth, sky
    if lens.is_assumed:
        _tell(loaded.name, lens.origin)
    if is_canonical(loaded):
        return depth * (lens.hw[1] / lens.fx), sky
    reference_px = reference_focal(loaded)
    if by_own_camera(loaded) and answer.camera is not None:
        if lens.origin == ORIGIN:
            return depth, sky
        reference_px = answer.camera.mean_focal_px(network_hw)
    assert reference_px is not None
    return depth * (lens.at(network_hw).mean_focal_px / reference_px), sky


def calibrated(depth: Tensor, loaded: LoadedModel) -> Tensor:
    """The network's depth (h, w) in metres, where a scale and a shift are kept with the model."""
    return depth if loaded.calibration is None else loaded.calibration.metres(depth)


def at_size(
    ended: Tensor, hw: tuple[int, int], loaded: LoadedModel, *, sky: Tensor | None = None
) -> Tensor:
    """What `end_depth` gives (h, w) -> depth of the model's kind at (height, width) `hw`.

    What is 1 / metres is resized so, which keeps far from bleeding into near, and turned after.
    sky: bool (h, w), where a value was put in that has nothing to do with what is beside it.
    """
    if sky is not None and tuple(ended.shape) != hw and bool(sky.any()):
        resized = at_size(without_jump(ended, sky), hw, loaded)
        return put_in(resized, ended, sky)
    if not is_canonical(loaded):
        return resize_depth(ended, hw, mode=loaded.processor.depth_mode)
    if tuple(ended.shape) != hw:
        ended = F.interpolate(ended[None, None], size=hw, mode="bilinear")[0, 0]
    return 1 / ended.clamp(*_INVERSE_M)


def at_other_size(
    depth: Tensor, hw: tuple[int, int], loaded: LoadedModel, *, sky: Tensor | None = None
) -> Tensor:
    """What `at_size` gave (h, w), at another size."""
    return at_size(1 / depth if is_canonical(loaded) else depth, hw, loaded, sky=sky)


def _is_by_lens(loaded: LoadedModel, lens: Lens) -> bool:
    """Whether metres are in proportion to a focal length.

    Not where cameras' places are given: their distances have made the unit of the whole scene.
    """
    return lens.origin != POSES and rests_on_camera(loaded)


@functools.cache
def _tell(name: str, origin: str) -> None:
    """Say once that metres rest on a guess."""
    logger.warning(
        "%s: its metres are in proportion to the focal length, which is %s; say it with --fov or "
        "--focal",
        name,
        origin,
    )
