"""A panorama on its way: known for one, cut into views for the network, joined again."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.depth.colormaps import finite_range
from dptcli.depth.lens import Lens
from dptcli.errors import ImageError
from dptcli.inputs.gpano import Gpano
from dptcli.kinds import Kind, near_is_large
from dptcli.panorama.cutting import Sphere, sphere_of
from dptcli.panorama.geometry import VIEW_FOV_DEG, VIEWS, WHOLE, Extent, view_focal, view_side
from dptcli.panorama.merge import Joined, join
from dptcli.panorama.resize import resized
from dptcli.panorama.wanted import Panoramas
from dptcli.processing.processor import DPTImageProcessor
from dptcli.processing.target_size import TargetSize, target_hw
from dptcli.running.canvas import Tile
from dptcli.running.seen import Prediction, Sample

if TYPE_CHECKING:
    from dptcli.running.answer import Answer

Size = tuple[int, int]

BY_OPTION, BY_FILE = "--panorama", "XMP"

_MOST_BYTES = 512 * 2**20  # of the depth of all views together
_LEAST_DEG = 10
_ASKEW = 0.01  # how far from 1 a pixel's height by its width may be, as a panorama's file says it


@dataclass(frozen=True)
class Known:
    """What a picture was taken for: the part of the sphere that it shows, or nothing; what to say
    about that, a clause that follows its name.
    """

    extent: Extent | None = None
    by: str = BY_OPTION
    note: str | None = None


def known_as(hw: Size, gpano: Gpano | None, panoramas: Panoramas | None, *, name: str) -> Known:
    """Whether a picture is a panorama. Raises ImageError for one that has to be and cannot."""
    if panoramas is None or (gpano is None and not panoramas.all_are):
        return Known()
    if panoramas.all_are:
        return Known(_extent(hw, gpano or Gpano(), name=name))
    if panoramas.unfit is not None:
        return Known(
            note=f"is a panorama by its XMP, and with {panoramas.unfit} taken as a plain picture"
        )
    assert gpano is not None
    if not gpano.is_whole:
        return Known(note="is a part of a panorama by its XMP: --panorama takes it as one")
    if not _is_twice_as_wide(hw):
        return Known(
            note=f"is a panorama by its XMP, but {hw[1]} × {hw[0]} pixels, not twice as wide as "
            "high: taken as a plain picture"
        )
    return Known(
        WHOLE,
        BY_FILE,
        f"is a panorama by its XMP: seen as {len(VIEWS)} views, distances along the rays "
        "(--no-panorama takes it as a plain picture)",
    )


def _is_twice_as_wide(hw: Size) -> bool:
    return abs(hw[1] / (2 * hw[0]) - 1) <= _ASKEW


def _extent(hw: Size, gpano: Gpano, *, name: str) -> Extent:
    height, width = hw
    if gpano.is_whole:
        if _is_twice_as_wide(hw):
            return WHOLE
        raise ImageError(
            f"{name} has {width} × {height} pixels, and a panorama of the whole sphere is twice as "
            "wide as high; one of a part must say which in its XMP (GPano's cropped area)"
        )
    whole_h, whole_w = gpano.whole_hw
    part_h, part_w = gpano.part_hw
    fits = 0 <= gpano.top <= whole_h - part_h and 0 <= gpano.left <= whole_w - part_w
    stretch = (width / part_w) / (height / part_h)  # the file may have been made smaller since
    if not fits or min(part_h, part_w) < 1 or not _is_twice_as_wide(gpano.whole_hw):
        raise ImageError(
            f"{name}: its XMP says that it shows {part_w} × {part_h} pixels at {gpano.left}, "
            f"{gpano.top} of a panorama of {whole_w} × {whole_h}, which cannot be"
        )
    if abs(stretch - 1) > _ASKEW:
        raise ImageError(
            f"{name} has {width} × {height} pixels, and by its XMP another shape, {part_w} × "
            f"{part_h}: it was cropped since; leave --panorama out"
        )
    around, down = 2 * math.pi / whole_w, math.pi / whole_h
    if min(part_w / whole_w * 360, part_h / whole_h * 180) < _LEAST_DEG:
        raise ImageError(
            f"{name} shows less than {_LEAST_DEG}° of the sphere by its XMP, which is as good as "
            "flat; leave --panorama out"
        )
    return Extent(
        left=gpano.left * around - math.pi,
        top=math.pi / 2 - gpano.top * down,
        width=part_w * around,
        height=part_h * down,
    )


def make_sphere(
    picture: NDArray[np.uint8] | Image.Image,
    known: Known,
    processor: DPTImageProcessor,
    tile: Tile | None,
) -> Sphere:
    """Make a panorama ready to be cut, as fine as the network sees views.

    With tiles views are as fine as the panorama itself, and cut into tiles in their turn.
    """
    assert known.extent is not None
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    finest = view_side(image.width, known.extent)
    side = max(processor.config.resized_hw((finest, finest)))
    if tile is not None:
        side = max(side, min(finest, math.isqrt(_MOST_BYTES // (4 * len(VIEWS)))))
    return sphere_of(image, known.extent, side=side, by=known.by)


def lens_of_view(hw: Size) -> Lens:
    """The camera of a view of `hw`, which is square."""
    return Lens.middle(view_focal(hw[1]), hw, "the panorama's views")


def finish_sphere(
    answer: "Answer", sample: Sample, *, kind: Kind, target_size: TargetSize
) -> Prediction:
    """Join the views' depths (N, h, w) to a panorama's, at the size that was asked for."""
    sphere = sample.sphere
    assert sphere is not None
    depths = [depth.numpy() for depth in answer.maps]
    joined = join(depths, sphere.views, sphere.extent, kind=kind)
    joined_hw = (joined.distance.shape[0], joined.distance.shape[1])
    hw = target_hw(sphere.source_hw, joined_hw, target_size)
    return Prediction(
        resized(joined.distance, hw, sphere.extent),
        sample.rgb,
        source_hw=sphere.source_hw,
        network_hw=joined_hw,
        limits=finite_range(joined.distance),
        extent=sphere.extent,
        facts=_facts(sphere, joined, kind, view_hw=depths[0].shape),
        about=sample.about,
    )


def _facts(
    sphere: Sphere, joined: Joined, kind: Kind, *, view_hw: tuple[int, ...]
) -> dict[str, Any]:
    """What results say of a panorama and of how its views were joined."""
    fit, by_shift = joined.fit, near_is_large(kind)
    views = []
    for view, scale, shift in zip(sphere.views, fit.scale, fit.shift, strict=True):
        found = {"yaw_deg": view.yaw_deg, "pitch_deg": view.pitch_deg, "scale": round(scale, 5)}
        views.append({**found, "shift": round(shift, 6)} if by_shift else found)
    median, most = (round(value, 5) for value in fit.apart)
    return {
        "projection": "equirectangular",
        "panorama": {
            "by": sphere.by,
            "shows_deg": sphere.extent.facts(),
            "angles": "longitude and yaw grow to the right, latitude and pitch upwards",
            "view_fov_deg": VIEW_FOV_DEG,
            "view_hw": list(view_hw),
            "aligned_by": "scale and shift of each view's inverse depth, over their overlaps"
            if by_shift
            else "scale of each view's depth, over their overlaps; geometric mean 1",
            "views_apart": {
                "of": "the spread of all values" if by_shift else "the distance",
                "median": median,
                "nine_tenths_within": most,
            },
            "views": views,
        },
    }
