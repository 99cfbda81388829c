"""`dpt depth --panorama`: photographs of all directions. Loads nothing heavy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dptcli.cli.depth_options import CAMERA
from dptcli.errors import UsageError

if TYPE_CHECKING:
    from dptcli.cli.predicting.request import Request
    from dptcli.depth.outputs import DepthOutputs
    from dptcli.panorama.wanted import Panoramas
    from dptcli.weights.load import LoadedModel

Panorama = Annotated[
    bool,
    typer.Option(
        "--panorama",
        rich_help_panel=CAMERA,
        metavar="",
        help="The photographs are equirectangular panoramas: distances along the rays, no seam at "
        "±180°. A file whose XMP says so is one without it, e.g. [cyan]--panorama[/]",
    ),
]
NoPanorama = Annotated[
    bool,
    typer.Option(
        "--no-panorama",
        rich_help_panel=CAMERA,
        metavar="",
        help="They are plain pictures, whatever their XMP says, e.g. [cyan]--no-panorama[/]",
    ),
]

# What does not go with panoramas: option, why.
_APART = {
    "views": "it takes photographs of several cameras",
    "with_segments": "it joins depth alone",
    "confidence": "it joins depth alone",
    "colmap": "its cameras are those of plain photographs",
    "prompt": "it takes a sensor's map of a plain photograph",
}
# A camera says nothing of a panorama, and nothing is lost for the others of a run.
_CAMERAS = ("fov", "focal", "intrinsics")


def read_panoramas(
    request: "Request", outputs: "DepthOutputs", given: Mapping[str, Any]
) -> "Panoramas | None":
    """Return which photographs are panoramas. Raises UsageError for what does not go with them."""
    from dptcli.panorama.wanted import Panoramas

    if given["no_panorama"]:
        if given["panorama"]:
            raise UsageError("--panorama and --no-panorama contradict each other; leave one out")
        return None
    unfit = _unfit(request, outputs, given)
    if not given["panorama"]:
        return Panoramas(unfit=None if unfit is None else unfit[0])
    if unfit is None:
        unfit = next(
            (
                ("--" + name, "it sees every direction")
                for name in _CAMERAS
                if given[name] is not None
            ),
            None,
        )
    if unfit is not None:
        raise UsageError(f"{unfit[0]} does not go with --panorama: {unfit[1]}")
    return Panoramas(all_are=True)


def _unfit(
    request: "Request", outputs: "DepthOutputs", given: Mapping[str, Any]
) -> tuple[str, str] | None:
    """The first option that does not go with panoramas, and why."""
    for name, why in _APART.items():
        if given[name]:
            return "--" + name.replace("_", "-"), why
    if request.clip is not None:
        return "a clip", "take its frames as pictures"
    if given["sky"] == "mask":
        return "--sky mask", "it joins depth alone; take --sky far or keep"
    for item in outputs.formats:
        if item.group == "stereo":
            return f"--format {item.name}", "two views are made of a plain photograph"
        if item.name in {"normals", "confidence", "splat"}:
            return f"--format {item.name}", "it joins depth alone"
    return None


def check_gives_distances(panoramas: "Panoramas | None", loaded: "LoadedModel") -> None:
    """Raise UsageError for a model that gives no distances from a camera."""
    if panoramas is not None and panoramas.all_are and loaded.kind == "height_m":
        raise UsageError(
            f"--panorama: model {loaded.name!r} gives heights above the ground, not distances; "
            "leave it out, or take another model"
        )
