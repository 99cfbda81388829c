"""`dpt depth`: how near everything in a photograph is."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from dptcli.cli import depth_options as d
from dptcli.cli import options as o
from dptcli.cli.depth_outputs import (
    MASK_SUFFIX,
    check_classes,
    read_outputs,
    read_prompts,
    with_classes,
)
from dptcli.cli.depth_panorama import (
    NoPanorama,
    Panorama,
    check_gives_distances,
    read_panoramas,
)
from dptcli.cli.depth_views import (
    OneScene,
    Poses,
    check_sees_views,
    check_takes_poses,
    check_views,
    in_one_scene,
    with_poses,
)
from dptcli.cli.live import CameraName, Show, run_live
from dptcli.cli.predicting import options as p
from dptcli.cli.predicting.engine import Engine, read_engine
from dptcli.cli.predicting.outputs import Joint, Needs, RunAll, RunOutputs, Watch
from dptcli.cli.predicting.request import Request, read_request
from dptcli.cli.predicting.run import run
from dptcli.cli.terminal.console import say
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.cli.terminal.preview import Preview
from dptcli.depth.formats import SIDECAR_SUFFIX, needs_sidecar
from dptcli.errors import UsageError
from dptcli.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from dptcli.depth.outputs import DepthOutputs
    from dptcli.pipeline import Pipeline, Prediction, Save
    from dptcli.records.report import Report
    from dptcli.results.plan import Job, Plan
    from dptcli.video.spherical import Views
    from dptcli.weights.load import LoadedModel

SHARPER = "depth-anything-v2-small"
SHARPER_TERMS = "99 MB, Apache-2.0, fetched once"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(epilog=p.EPILOG)(depth)


def depth(
    inputs: p.Inputs = None,
    from_file: p.FromFile = None,
    null: p.Null = False,
    no_recursive: p.NoRecursive = False,
    root: p.Root = None,
    max_pixels: p.MaxPixels = None,
    levels: p.Levels = None,
    page: p.Page = None,
    watch: p.WatchEvery = None,
    output: p.Output = None,
    formats: d.Formats = None,
    target_size: p.TargetSize = "original",
    overwrite: p.Overwrite = False,
    skip_existing: p.SkipExisting = False,
    suffix: p.Suffix = None,
    shard: p.Shard = None,
    colormap: d.Colormap = None,
    invert: d.Invert = False,
    grayscale: d.Grayscale = False,
    bits: d.Bits = "8",
    value_range: d.ValueRange = None,
    gamma: d.Gamma = "1",
    refine_edges: d.RefineEdges = False,
    colorbar: d.Colorbar = False,
    side_by_side: d.SideBySide = False,
    preview: d.ShowPreview = False,
    anchor: d.Anchor = None,
    anchors: d.Anchors = None,
    prompt: d.Prompt = None,
    anchor_scale: d.AnchorScale = "1000",
    fov: d.FieldOfView = None,
    focal: d.Focal = None,
    intrinsics: d.Intrinsics = None,
    colmap: d.Colmap = None,
    max_points: d.MaxPoints = "1M",
    edge_cut: d.EdgeCut = None,
    strength: d.Strength = None,
    ipd: d.EyeDistance = None,
    convergence: d.Convergence = None,
    views: OneScene = False,
    poses: Poses = None,
    panorama: Panorama = False,
    no_panorama: NoPanorama = False,
    sky: d.Sky = None,
    confidence: d.Confidence = False,
    with_segments: d.WithSegments = False,
    boxes: d.BoxesFile = None,
    show_things: d.ShowThings = False,
    masks: d.Masks = False,
    segment_model: d.SegmentModel = None,
    frames: p.Frames = None,
    sequence: p.InOrder = False,
    smoothing: p.Smoothing = None,
    fps: p.FPS = None,
    audio: p.Audio = False,
    camera: CameraName = None,
    show: Show = False,
    model: o.ModelName = DEFAULT_MODEL,
    gives: o.Gives = None,
    size: o.Size = None,
    tile: p.Tile = None,
    exact: o.Exact = False,
    no_exact: o.NoExact = False,
    offline: o.Offline = False,
    device: o.Device = "auto",
    dtype: o.DType = "auto",
    optimize: o.Optimize = True,
    runtime: o.Runtime = "auto",
    batch_size: p.BatchSize = "auto",
    engine: p.Engine = "local",
    ray_address: p.RayAddress = None,
    workers: p.Workers = None,
    gpus_per_worker: p.GPUsPerWorker = None,
    as_json: p.Json = False,
    report: p.Report = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Estimate how near everything in a photograph is, and write it as a picture.

    [cyan]dpt depth photo.jpg -o depth.png[/]
    [cyan]dpt depth photo.jpg -o both.jpg --side-by-side --colorbar[/]
    [cyan]dpt depth photo.jpg -o scene.glb[/]
    [cyan]dpt depth photos/ -o depth/ --format color,npy[/]
    [cyan]curl -s URL | dpt depth - -o - > depth.png[/]
    [cyan]dpt depth clip.mp4 -o depth.mp4[/]
    """
    set_up_logging(verbose=verbose, quiet=quiet)
    given = locals()
    if camera is not None or show:
        return run_live(given)
    shown = Preview()
    code = run(*read_run(given, shown if preview else None))
    shown.show()
    if code == 0 and model == DEFAULT_MODEL and not quiet and sys.stderr.isatty():
        _name_a_sharper_model()
    return code


def read_run(
    given: Mapping[str, Any], preview: Preview | None = None
) -> tuple[Request, RunOutputs, Engine]:
    """Check the options and return what is asked for, what is written, where it is done.

    Raises UsageError.
    """
    given = with_poses(given)
    request = read_request("depth", given)
    where = read_engine(given, in_order=request.clip is not None)
    outputs = read_outputs(request, given)
    panoramas = read_panoramas(request, outputs, given)
    if given["views"]:
        check_views(request, given)
    segment_model = check_classes(request, outputs, given)
    prompts = read_prompts(request, given)
    if preview is not None:
        outputs = replace(outputs, on_picture=preview.keep)
    needs = Needs(
        keep_rgb=outputs.needs_photo,
        segment_model=segment_model,
        prompts=prompts,
        sky="keep" if outputs.sky == "keep" else "far",
        camera=outputs.camera,
        confidence=outputs.confidence,
        normals=any(item.name == "normals" for item in outputs.formats),
        panoramas=panoramas,
    )
    work = _run_outputs(request, outputs, needs, masks=given["masks"])
    if given["views"]:
        work = _as_views(work, request, outputs)
    return request, work, where


def _name_a_sharper_model() -> None:
    """Tell a person, once a run, that the built-in model is the small one."""
    from dptcli.weights import hub
    from dptcli.weights.catalog import hub_name

    where = "is here already" if hub.lies_here(hub_name(SHARPER)) else SHARPER_TERMS
    say(f"sharper: -m {SHARPER} ({where})")


def _run_outputs(
    request: Request, outputs: "DepthOutputs", needs: Needs, *, masks: bool
) -> RunOutputs:
    """Return what the run writes. Raises UsageError for a shard of a run with one range."""
    in_one_range = outputs.look.value_range.kind == "global"
    if in_one_range and request.shard is not None:
        raise UsageError(
            "--range global spans the run, and a shard sees a part of it; give values, "
            "e.g. --range 0:30"
        )

    def make_save(loaded: "LoadedModel", plan: "Plan") -> "Save":
        check_gives_distances(needs.panoramas, loaded)
        if needs.segment_model is None:
            return _save_of(outputs, loaded)
        return _save_of(with_classes(outputs, loaded, plan, request, masks=masks), loaded)

    return RunOutputs(
        make_save=make_save,
        suffixes=(*(item.suffix for item in outputs.formats), *([MASK_SUFFIX] if masks else [])),
        sidecar=SIDECAR_SUFFIX if needs_sidecar(outputs.formats) else None,
        needs=needs,
        run_all=_in_one_range(outputs) if in_one_range else None,
        views=_views(outputs),
        **_of_colmap(outputs),
    )


def _of_colmap(outputs: "DepthOutputs") -> dict[str, Any]:
    """What a run does beside each photograph's depth where it is fitted to a COLMAP model."""
    sparse = outputs.sparse
    if sparse is None:
        return {}
    from dptcli.depth.splat import PARAMS_NAME, is_ours, write_params

    params = Joint(
        option="--colmap",
        suffix=SIDECAR_SUFFIX,
        path=lambda _folder: sparse.folder / PARAMS_NAME,
        write=lambda stream, files, folder: write_params(stream, files, sparse, folder),
        is_ours=is_ours,
        is_elsewhere=True,
    )
    return {"joined": (params,), "choose": sparse.choose}


def _views(outputs: "DepthOutputs") -> "Views | None":
    """How a video's frames hold two views; None for other pictures."""
    [first, *_] = outputs.formats
    if first.group != "stereo" or first.name == "anaglyph":
        return None
    from dptcli.depth.stereo import FRAMES
    from dptcli.video.spherical import Views

    return Views(FRAMES[first.name], half_sphere=first.name == "vr180")


def _as_views(work: RunOutputs, request: Request, outputs: "DepthOutputs") -> RunOutputs:
    """Return the run as one of a scene's views; their facts hold each camera's place."""
    poses = outputs.camera.poses

    def make_save(loaded: "LoadedModel", plan: "Plan") -> "Save":
        check_sees_views(loaded)
        if poses is not None:
            check_takes_poses(loaded)
        return work.make_save(loaded, plan)

    return replace(
        work,
        make_save=make_save,
        sidecar=SIDECAR_SUFFIX,
        run_all=in_one_scene(request, outputs),
        choose=None if poses is None else poses.choose,
    )


def _save_of(outputs: "DepthOutputs", loaded: "LoadedModel") -> "Save":
    from dptcli.depth.facts import model_facts

    outputs.check_model(loaded)
    facts = model_facts(loaded)

    def save(job: "Job", prediction: "Prediction") -> Mapping[str, object]:
        return outputs.save(job, prediction, facts)

    return save


def _in_one_range(outputs: "DepthOutputs") -> RunAll:
    """Return the work of a run whose pictures share one range."""

    def run_all(pipeline: "Pipeline", plan: "Plan", watch: Watch) -> "Report":
        from dptcli.depth.twopass import run_two_passes

        if plan.folder is None:  # one image: its range is the run's
            save = _save_of(outputs, pipeline.loaded)
            return pipeline.run(plan.jobs, save=save, on_done=watch.done)
        if outputs.needs_photo and any(job.source.is_stdin for job in plan.jobs):
            raise UsageError(
                "--range global reads each photograph twice, and standard input can be read once; "
                "leave out --side-by-side and --refine-edges, or save the photograph to a file"
            )
        return run_two_passes(
            pipeline,
            plan.jobs,
            folder=plan.folder,
            save_with=lambda limits: watch.recorded(
                _save_of(replace(outputs, run_limits=limits), pipeline.loaded)
            ),
            on_done=watch.done,
            on_predicted=watch.predicted,
        )

    return run_all
