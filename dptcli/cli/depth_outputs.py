"""What the options of `dpt depth` come to: pictures, maps, metres, classes. Loads nothing heavy."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dptcli.cli import depth_options as d
from dptcli.cli import options as o
from dptcli.depth.formats import FORMATS, Format, parse_formats
from dptcli.errors import UsageError

if TYPE_CHECKING:
    from dptcli.cli.predicting.clip_request import ClipRequest
    from dptcli.cli.predicting.request import Request
    from dptcli.depth.anchors import Anchors
    from dptcli.depth.boxes import Boxes
    from dptcli.depth.camera import Camera
    from dptcli.depth.outputs import DepthOutputs
    from dptcli.depth.poses import Poses
    from dptcli.depth.prompts import Prompts
    from dptcli.depth.sparse import Sparse
    from dptcli.depth.stereo import Stereo
    from dptcli.results.plan import Plan
    from dptcli.weights.load import LoadedModel

MASK_SUFFIX = ".mask.png"
SPLAT = "splat"


def read_outputs(request: "Request", given: Mapping[str, Any]) -> "DepthOutputs":
    """Check the options about results. Raises UsageError."""
    _check_colmap(request, given)
    default = None if given["colmap"] is None else SPLAT
    formats = parse_formats(given["formats"] or default, out=request.out)
    if (FORMATS[SPLAT] in formats) != (given["colmap"] is not None):
        raise UsageError(
            f"--format {SPLAT} and --colmap belong together: the one writes depth as trainers of "
            "splats read it, and the other says what it is fitted to"
        )
    num_bits = d.parse_bits(given["bits"])
    grey = "--grayscale" if given["grayscale"] else "--bits 16" if num_bits == 16 else None
    if given["colormap"] is not None and grey:
        raise UsageError(f"--colormap makes colours and {grey} makes grey; leave one out")
    if request.clip is not None:
        _check_clip(request.clip, formats, given)
    if num_bits == 16:
        if set(formats) & {FORMATS["jpg"], FORMATS["webp"]}:
            raise UsageError("--bits 16 needs PNG; jpg and webp have 8 bits")
        for option in ("colorbar", "side_by_side"):
            if given[option]:
                name = option.replace("_", "-")
                raise UsageError(f"--bits 16 makes 16-bit grey and --{name} 8-bit colours")
    gamma = o.parse_number("--gamma", given["gamma"], example="1.8")
    if not 0.05 <= gamma <= 20:
        raise UsageError(f"--gamma {given['gamma']!r} must be from 0.05 to 20, e.g. --gamma 1.8")
    if given["confidence"] and not any(item.needs_sure or item.name == "npz" for item in formats):
        raise UsageError("--confidence goes into files of its own: add -f confidence, or -f npz")
    max_points = o.parse_max_pixels(given["max_points"], option="--max-points")
    camera = read_camera(given)
    edge_cut_deg = _edge_cut(given, formats)

    from dptcli.depth.colormaps import DEFAULT_COLORMAP, depth_lut
    from dptcli.depth.outputs import DepthOutputs
    from dptcli.depth.picture import Look, parse_range

    colormap = None if grey else given["colormap"] or DEFAULT_COLORMAP
    look = Look(
        colormap=colormap,
        lut=None if colormap is None else depth_lut(colormap),
        bits=num_bits,
        invert=given["invert"],
        value_range=parse_range(given["value_range"] or _usual_range(request, grey=bool(grey))),
        gamma=gamma,
        colorbar=given["colorbar"],
        side_by_side=given["side_by_side"],
    )
    known, sparse, poses = _anchors(given), _sparse(given), _poses(given)
    if known is not None and look.value_range.kind == "global":
        raise UsageError(
            "--range global is in the model's values and anchors make metres; give the range in "
            "metres, e.g. --range 0.5:10"
        )
    return DepthOutputs(
        anchors=known,
        formats=formats,
        look=look,
        refine=given["refine_edges"],
        camera=replace(camera, sparse=sparse, poses=poses),
        sparse=sparse,
        mirrored=given["confidence"],
        max_points=max_points or 0,
        edge_cut_deg=edge_cut_deg,
        stereo=_stereo(request, given, formats),
        boxes=_boxes(request, given),
        shows_things=given["show_things"],
        sky=d.check_sky(given["sky"]),
    )


def read_camera(given: Mapping[str, Any]) -> "Camera":
    """Read what is known of the camera of all photographs. Raises UsageError."""
    wide = {
        name: None if given[name] is None else o.parse_number(f"--{name}", given[name], example=e)
        for name, e in (("fov", "65"), ("focal", "28"))
    }

    from dptcli.depth.camera import Camera
    from dptcli.depth.intrinsics import parse_intrinsics

    text = given["intrinsics"]
    intrinsics = None if text is None else parse_intrinsics(text)
    return Camera(fov_deg=wide["fov"], focal_35mm=wide["focal"], intrinsics=intrinsics)


def _check_colmap(request: "Request", given: Mapping[str, Any]) -> None:
    """Raise UsageError where what trainers need would not come about."""
    if given["colmap"] is None:
        return
    if request.clip is not None:
        raise UsageError("--colmap is for photographs, not for clips and sequences")
    for option, why in (
        ("anchor", "makes metres, and --colmap the model's own unit"),
        ("anchors", "makes metres, and --colmap the model's own unit"),
        ("views", "finds cameras by itself, and --colmap has them"),
        ("suffix", "names depth otherwise than the photographs, by whose names trainers find it"),
    ):
        if given[option]:
            raise UsageError(f"--{option} {why}; leave one out")


def _sparse(given: Mapping[str, Any]) -> "Sparse | None":
    """Read the COLMAP model. Raises UsageError."""
    if given["colmap"] is None:
        return None
    from dptcli.depth.sparse import read_sparse

    return read_sparse(given["colmap"])


def _poses(given: Mapping[str, Any]) -> "Poses | None":
    """Read where the cameras stand. Raises UsageError."""
    if given["poses"] is None:
        return None
    from dptcli.depth.poses import read_poses

    return read_poses(given["poses"])


def _edge_cut(given: Mapping[str, Any], formats: tuple[Format, ...]) -> float | None:
    """Read --edge-cut. Raises UsageError, also where nothing is written that it could cut."""
    if given["edge_cut"] is None:
        return None
    degrees = o.parse_number("--edge-cut", given["edge_cut"], example="75")
    if not 1 <= degrees <= 90:
        raise UsageError(
            f"--edge-cut {given['edge_cut']!r} must be from 1 to 90 degrees, e.g. --edge-cut 75"
        )
    if not set(formats) & {FORMATS["ply"], FORMATS["glb"]}:
        raise UsageError("--edge-cut is for clouds and meshes; add -f ply or -f glb")
    return degrees


def _stereo(request: "Request", given: Mapping[str, Any], formats: tuple[Format, ...]) -> "Stereo":
    """Read how far apart two views are to be. Raises UsageError, also where there are none."""
    from dptcli.depth.stereo import DEFAULT_STRENGTH, Stereo

    names = ("strength", "ipd", "convergence")
    if not any(item.group == "stereo" for item in formats):
        for name in names:
            if given[name] is not None:
                raise UsageError(f"--{name} is for two views; add -f sbs, tb, anaglyph or vr180")
    if given["strength"] is not None and given["ipd"] is not None:
        raise UsageError("--strength and --ipd both say how far apart the views are; leave one out")
    strength, ipd, convergence = (given[name] for name in names)
    return Stereo(
        strength=DEFAULT_STRENGTH if strength is None else d.parse_strength(strength),
        ipd_mm=None if ipd is None else o.parse_number("--ipd", ipd, example="63"),
        convergence=None
        if convergence is None
        else o.parse_number("--convergence", convergence, example="0.5"),
        lossless=request.clip is not None and request.clip.to_video,
    )


def _boxes(request: "Request", given: Mapping[str, Any]) -> "Boxes | None":
    """Read a detector's boxes. Raises UsageError."""
    if given["show_things"]:
        if given["boxes"] is None and not given["with_segments"]:
            raise UsageError("--show-things draws what --boxes or --with-segments finds; add one")
        if given["bits"] == "16":
            raise UsageError("--bits 16 makes 16-bit grey and --show-things 8-bit colours")
    if given["boxes"] is None:
        return None
    if request.clip is not None:
        raise UsageError("--boxes is for photographs, not for clips and sequences")

    from dptcli.depth.boxes import read_boxes

    return read_boxes(given["boxes"])


def _usual_range(request: "Request", *, grey: bool) -> str:
    """What a picture spans unless asked: of colours, all but what is nearest and farthest.

    One thing before the lens would leave the rest to a few dark colours. Grey gives its values
    back, and a clip's frames share one range.
    """
    return "image" if grey or request.clip is not None else "1%:99%"


def read_prompts(request: "Request", given: Mapping[str, Any]) -> "Prompts | None":
    """Return where the sensor's maps lie, if any. Raises UsageError."""
    if given["prompt"] is None:
        return None
    if request.clip is not None and request.clip.from_video:
        raise UsageError("--prompt is for photographs and numbered images, not for a video")
    if given["with_segments"]:
        raise UsageError("--prompt and --with-segments need models of two kinds; leave one out")

    from dptcli.depth.prompts import Prompts

    return Prompts(given["prompt"], levels_per_metre=levels_per_metre(given))


def levels_per_metre(given: Mapping[str, Any]) -> float:
    """Return what --anchor-scale says. Raises UsageError."""
    scale = o.parse_number("--anchor-scale", given["anchor_scale"], example="256")
    if not scale > 0:
        raise UsageError(f"--anchor-scale {given['anchor_scale']!r} must be above 0, e.g. 256")
    return scale


def _anchors(given: Mapping[str, Any]) -> "Anchors | None":
    """Read the known distances. Raises UsageError."""
    scale = levels_per_metre(given)
    if not given["anchor"] and given["anchors"] is None:
        return None

    from pathlib import Path

    from dptcli.depth.anchors import read_anchors

    file = None if given["anchors"] is None else Path(given["anchors"])
    return read_anchors(given["anchor"] or [], file, levels_per_metre=scale)


def _check_clip(clip: "ClipRequest", formats: tuple[Format, ...], given: Mapping[str, Any]) -> None:
    if clip.to_video and given["bits"] == "16":
        raise UsageError("--bits 16 does not fit into a video; name a folder for the frames")
    is_stereo = len(formats) == 1 and formats[0].group == "stereo"
    if clip.to_video and formats != (FORMATS["color"],) and not is_stereo:
        raise UsageError(
            "a video shows depth, or two views (-f sbs, tb, …); other formats go into a folder"
        )
    if given["value_range"] == "global" and clip.smoothing == 0:
        raise UsageError(
            "--smoothing 0 takes every frame on its own; leave it out, or give --range two values"
        )


def check_classes(
    request: "Request", outputs: "DepthOutputs", given: Mapping[str, Any]
) -> str | None:
    """Return the model that predicts classes beside depth, if any. Raises UsageError."""
    if not given["with_segments"]:
        for option in ("masks", "segment_model"):
            if given[option]:
                raise UsageError(f"--{option.replace('_', '-')} needs --with-segments")
        return None
    if request.clip is not None:
        raise UsageError("--with-segments is for photographs; run `dpt segment` on the clip")
    if outputs.look.value_range.kind == "global":
        raise UsageError(
            "--range global keeps depth alone from one pass to the next; leave out "
            "--with-segments, or give --range two values"
        )
    if given["masks"] and request.out == "-":
        raise UsageError("standard output takes one file; leave --masks out or name a folder")
    return str(given["segment_model"] or request.model)


def with_classes(
    outputs: "DepthOutputs",
    loaded: "LoadedModel",
    plan: "Plan",
    request: "Request",
    *,
    masks: bool,
) -> "DepthOutputs":
    """Return the outputs with the classes' names, and where `masks` with their colours."""
    from dptcli.cli.predicting.class_names import write_names
    from dptcli.segments.maskfiles import Style
    from dptcli.segments.palettes import AUTO, choose_palette

    names, colors = choose_palette(AUTO, loaded.labels)
    if not masks:
        return replace(outputs, names=names)
    style = Style(colors)
    write_names(plan, names, style, model=loaded.name, existing=request.existing)
    return replace(outputs, names=names, mask_style=style)
