"""`dpt depth --views`: the photographs of a run show one scene. Loads nothing heavy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dptcli.cli.depth_options import SCENES
from dptcli.errors import UsageError
from dptcli.remote import is_address

if TYPE_CHECKING:
    from dptcli.cli.predicting.outputs import RunAll, Watch
    from dptcli.cli.predicting.request import Request
    from dptcli.depth.outputs import DepthOutputs
    from dptcli.pipeline import Pipeline, Save
    from dptcli.records.report import Report
    from dptcli.results.plan import Plan
    from dptcli.weights.load import LoadedModel

OneScene = Annotated[
    bool,
    typer.Option(
        "--views",
        rich_help_panel=SCENES,
        metavar="",
        help="The photographs show one scene: depth that agrees, each camera's place, a cloud of "
        "all (scene.ply) and COLMAP's files (colmap/), "
        "e.g. [cyan]photos/ -o scene/ --views -m depth-anything-3-small[/]",
    ),
]
Poses = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        show_default=False,
        rich_help_panel=SCENES,
        help="With --views: where each camera stands, and its lens, from a COLMAP model, a "
        "transforms.json or results of --views; depth has their unit, "
        "e.g. [cyan]--views --poses sparse/0[/]",
    ),
]

KNOWN = "depth-anything-3-small"
_GIVES = ("depth", "metres")  # of a model that sees views
# What makes no sense of a scene, or would part it: option, why.
_APART = {
    "skip_existing": "a scene is worked on whole; leave it out: what is done already stands",
    "shard": "a scene is worked on whole",
    "tile": "the network sees each view whole",
    "confidence": "the network says itself how sure it is",
    "with_segments": "it takes a model of depth and classes",
    "prompt": "it takes a prompted model",
    "anchor": "metres of one view would part it from the others",
    "anchors": "metres of one view would part it from the others",
    "fov": "the network estimates each camera",
    "focal": "the network estimates each camera",
    "intrinsics": "the network estimates each camera",
}


def check_views(request: "Request", given: Mapping[str, Any]) -> None:
    """Raise UsageError for options that do not go with --views."""
    for name, why in _APART.items():
        if given[name]:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} does not go with --views: {why}")
    if request.clip is not None:
        raise UsageError("--views is for photographs; take some frames of the clip as pictures")
    if given["engine"] != "local":
        raise UsageError("--views keeps a scene on one machine; leave --engine out")
    if given["value_range"] == "global":
        raise UsageError("--range global does not go with --views; give values, e.g. --range 0:3")
    if given["poses"] is not None and given["gives"] not in (None, *_GIVES):
        raise UsageError(f"--gives {given['gives']} does not go with --poses, by which depth comes")
    if "-" in request.inputs or request.out == "-" or is_address(request.out):
        raise UsageError("--views reads files and writes a folder here, e.g. photos/ -o scene/")


def check_sees_views(loaded: "LoadedModel") -> None:
    """Raise UsageError for a model that sees each photograph on its own."""
    if not getattr(loaded.model.config, "sees_views", False):
        raise UsageError(
            f"--views: model {loaded.name!r} sees each photograph on its own; take one that sees "
            f"a scene, e.g. -m {KNOWN}"
        )
    if loaded.calibration is not None:
        raise UsageError(
            f"--views: model {loaded.name!r} was calibrated for photographs on their own, and a "
            "scene's cameras have the network's unit; take the model that it was made of"
        )


def with_poses(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options of a run whose cameras are known, as they are to be read.

    Depth is in the unit of the cameras' places then, whatever the model's is: metres only where
    somebody says so. Raises UsageError without --views.
    """
    if given["poses"] is None:
        return given
    if not given["views"]:
        raise UsageError("--poses says where the cameras of one scene stand; add --views")
    return {**given, "gives": given["gives"] or "depth"}


def check_takes_poses(loaded: "LoadedModel") -> None:
    """Raise UsageError for a model without what reads cameras."""
    if getattr(loaded.model, "camera_encoder", None) is None:
        raise UsageError(
            f"--poses: model {loaded.name!r} has no camera encoder; take -m {KNOWN} or its like, "
            "or convert its authors' folder again"
        )


def in_one_scene(request: "Request", outputs: "DepthOutputs") -> "RunAll":
    """Return the work of a run whose photographs show one scene."""

    def run_all(pipeline: "Pipeline", plan: "Plan", watch: "Watch") -> "Report":
        from dptcli.depth.facts import model_facts
        from dptcli.depth.views import check_names, check_scene_files, run_views

        if plan.folder is None:
            raise UsageError("--views writes a folder, e.g. -o scene/")
        check_names(plan.jobs)
        if request.existing != "overwrite":
            check_scene_files(plan.folder)
        facts = model_facts(pipeline.loaded)
        save: Save = lambda job, prediction: outputs.save(job, prediction, facts)  # noqa: E731
        return run_views(
            pipeline,
            plan.jobs,
            folder=plan.folder,
            save=watch.recorded(save),
            on_done=watch.done,
            on_predicted=watch.predicted,
            max_points=outputs.max_points,
        )

    return run_all
