"""`dpt depth`: how near everything in a photograph is."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from dptcli.cli import depth_classes as c
from dptcli.cli import depth_options as d
from dptcli.cli import options as o
from dptcli.cli.predicting import options as p
from dptcli.cli.predicting.run import (
    Recorded,
    Request,
    Work,
    read_request,
    run,
)
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.cli.terminal.preview import Preview
from dptcli.depth.formats import FORMATS, SIDECAR_SUFFIX, Format, needs_sidecar, parse_formats
from dptcli.errors import UsageError
from dptcli.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from dptcli.cli.predicting.clip_request import ClipRequest
    from dptcli.cli.predicting.reporter import Reporter
    from dptcli.depth.anchors import Anchors
    from dptcli.depth.outputs import DepthOutputs
    from dptcli.pipeline import Pipeline, Prediction, Save
    from dptcli.records.report import Outcome, Report
    from dptcli.results.plan import Job, Plan
    from dptcli.weights.load import LoadedModel


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(epilog=p.EPILOG)(depth)


def depth(
    inputs: p.Inputs = None,
    from_file: p.FromFile = None,
    null: p.Null = False,
    no_recursive: p.NoRecursive = False,
    max_pixels: p.MaxPixels = None,
    output: p.Output = None,
    formats: d.Formats = None,
    target_size: p.TargetSize = "original",
    overwrite: p.Overwrite = False,
    skip_existing: p.SkipExisting = False,
    shard: p.Shard = None,
    colormap: d.Colormap = None,
    invert: d.Invert = False,
    grayscale: d.Grayscale = False,
    bits: d.Bits = "8",
    value_range: d.ValueRange = "image",
    gamma: d.Gamma = "1",
    refine_edges: d.RefineEdges = False,
    colorbar: d.Colorbar = False,
    side_by_side: d.SideBySide = False,
    preview: d.ShowPreview = False,
    anchor: d.Anchor = None,
    anchors: d.Anchors = None,
    anchor_scale: d.AnchorScale = "1000",
    fov: d.FieldOfView = None,
    focal: d.Focal = None,
    max_points: d.MaxPoints = "1M",
    with_segments: c.WithSegments = False,
    masks: c.Masks = False,
    segment_model: c.SegmentModel = None,
    frames: p.Frames = None,
    sequence: p.InOrder = False,
    smoothing: p.Smoothing = None,
    fps: p.FPS = None,
    audio: p.Audio = False,
    model: o.ModelName = DEFAULT_MODEL,
    size: o.Size = None,
    tile: p.Tile = None,
    offline: o.Offline = False,
    device: o.Device = "auto",
    dtype: o.DType = "auto",
    optimize: o.Optimize = True,
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
    request = read_request("depth", given)
    outputs = _outputs(request, given)
    classes = c.check_classes(request, outputs, given)
    shown = Preview()
    if preview:
        outputs = replace(outputs, on_picture=shown.keep)

    def saver(loaded: "LoadedModel", plan: "Plan") -> "Save":
        wanted = c.with_classes(outputs, loaded, plan, request, masks=masks) if classes else outputs
        return _saver(wanted, loaded)

    code = run(
        request,
        saver,
        keep_rgb=outputs.needs_photo,
        suffixes=[*(item.suffix for item in outputs.formats), *([c.MASK_SUFFIX] if masks else [])],
        sidecar=SIDECAR_SUFFIX if needs_sidecar(outputs.formats) else None,
        work=_global_range(outputs) if outputs.look.value_range.kind == "global" else None,
        segment_model=classes,
    )
    shown.show()
    return code


def _outputs(request: Request, given: Mapping[str, Any]) -> "DepthOutputs":
    """Check the options about results. Raises UsageError."""
    formats = parse_formats(given["formats"], out=request.out)
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
    max_points = o.parse_max_pixels(given["max_points"], option="--max-points")
    wide = {
        name: None if given[name] is None else o.parse_number(f"--{name}", given[name], example=e)
        for name, e in (("fov", "65"), ("focal", "28"))
    }

    from dptcli.depth.camera import Camera
    from dptcli.depth.colormaps import DEFAULT_COLORMAP, depth_lut
    from dptcli.depth.outputs import DepthOutputs
    from dptcli.depth.picture import Look, parse_range

    colormap = None if grey else given["colormap"] or DEFAULT_COLORMAP
    look = Look(
        colormap=colormap,
        lut=None if colormap is None else depth_lut(colormap),
        bits=num_bits,
        invert=given["invert"],
        value_range=parse_range(given["value_range"]),
        gamma=gamma,
        colorbar=given["colorbar"],
        side_by_side=given["side_by_side"],
    )
    known = _anchors(given)
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
        camera=Camera(fov_deg=wide["fov"], focal_35mm=wide["focal"]),
        max_points=max_points or 0,
    )


def _anchors(given: Mapping[str, Any]) -> "Anchors | None":
    """Read the known distances. Raises UsageError."""
    scale = o.parse_number("--anchor-scale", given["anchor_scale"], example="256")
    if not scale > 0:
        raise UsageError(f"--anchor-scale {given['anchor_scale']!r} must be above 0, e.g. 256")
    if not given["anchor"] and given["anchors"] is None:
        return None

    from pathlib import Path

    from dptcli.depth.anchors import read_anchors

    file = None if given["anchors"] is None else Path(given["anchors"])
    return read_anchors(given["anchor"] or [], file, levels_per_metre=scale)


def _check_clip(clip: "ClipRequest", formats: tuple[Format, ...], given: Mapping[str, Any]) -> None:
    if clip.to_video and given["bits"] == "16":
        raise UsageError("--bits 16 does not fit into a video; name a folder for the frames")
    if clip.to_video and formats != (FORMATS["color"],):
        raise UsageError("--format is for pictures and maps; for a video leave it out")
    if given["value_range"] == "global" and clip.smoothing == 0:
        raise UsageError(
            "--smoothing 0 takes every frame on its own; leave it out, or give --range two values"
        )


def _saver(outputs: "DepthOutputs", loaded: "LoadedModel") -> "Save":
    from dptcli.depth.outputs import model_facts

    outputs.check_model(loaded)
    facts = model_facts(loaded)

    def save(job: "Job", prediction: "Prediction") -> Mapping[str, object]:
        return outputs.save(job, prediction, facts)

    return save


def _global_range(outputs: "DepthOutputs") -> Work:
    """Return the work of a run whose pictures share one range."""

    def work(
        pipeline: "Pipeline",
        plan: "Plan",
        recorded: Recorded,
        on_done: "Callable[[Outcome], None]",
        reporter: "Reporter",
    ) -> "Report":
        from dptcli.depth.twopass import run_two_passes

        if plan.folder is None:  # one image: its range is the run's
            return pipeline.run(plan.jobs, save=_saver(outputs, pipeline.loaded), on_done=on_done)
        if outputs.needs_photo and any(job.source.is_stdin for job in plan.jobs):
            raise UsageError(
                "--range global reads each photograph twice, and standard input can be read once; "
                "leave out --side-by-side and --refine-edges, or save the photograph to a file"
            )
        return run_two_passes(
            pipeline,
            plan.jobs,
            folder=plan.folder,
            save_with=lambda limits: recorded(
                _saver(replace(outputs, run_limits=limits), pipeline.loaded)
            ),
            on_done=on_done,
            on_predicted=reporter.predicted,
        )

    return work
