"""`dpt segment`: what every pixel of a photograph shows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from dptcli.cli import options as o
from dptcli.cli import segment_options as s
from dptcli.cli.predicting import options as p
from dptcli.cli.predicting.engine import Engine, read_engine
from dptcli.cli.predicting.outputs import Joint, Needs, RunOutputs
from dptcli.cli.predicting.request import Request, read_request
from dptcli.cli.predicting.run import run
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.errors import UsageError
from dptcli.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from dptcli.pipeline import Prediction, Save
    from dptcli.results.plan import Job, Plan
    from dptcli.segments.outputs import Main
    from dptcli.weights.load import LoadedModel


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(epilog=p.EPILOG)(segment)


def segment(
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
    target_size: p.TargetSize = "original",
    overwrite: p.Overwrite = False,
    skip_existing: p.SkipExisting = False,
    suffix: p.Suffix = None,
    shard: p.Shard = None,
    overlay: s.Overlay = None,
    layer: s.Layer = None,
    outlines: s.Outlines = False,
    palette: s.Palette = "auto",
    classes: s.Classes = None,
    label_offset: s.LabelOffset = "0",
    also: s.Also = None,
    dataset: s.Dataset = False,
    frames: p.Frames = None,
    fps: p.FPS = None,
    audio: p.Audio = False,
    model: o.ModelName = DEFAULT_MODEL,
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
    """Name what every pixel of a photograph shows, and write it as a mask.

    A mask is an indexed PNG: it opens in colour, and its pixel values are the class ids, from 0.
    The names stand beside it, in OUT/labels.json for a folder and in NAME.labels.json for one file.

    [cyan]dpt segment photo.jpg -o mask.png[/]
    [cyan]dpt segment photos/ -o overlays/ --overlay 0.5 --also mask,legend[/]
    [cyan]dpt segment photos/ -o people/ --classes person --also split[/]
    [cyan]dpt segment clip.mp4 -o seen.mp4[/]
    """
    set_up_logging(verbose=verbose, quiet=quiet)
    also = s.with_dataset(also) if dataset else also
    return run(*read_run(locals()))


def read_run(given: Mapping[str, Any]) -> tuple[Request, RunOutputs, Engine]:
    """Check the options and return what is asked for, what is written, where it is done.

    Raises UsageError.
    """
    request = read_request("segment", given)
    where = read_engine(given, in_order=request.clip is not None)
    palette, classes, outlines = given["palette"], given["classes"], given["outlines"]
    main, alpha = _main_picture(given["overlay"], given["layer"], outlines=outlines)
    further = s.parse_also(given["also"])
    offset = s.parse_label_offset(given["label_offset"])
    kinds = tuple(kind for kind in further if kind != s.SPLIT and kind != main)
    if request.clip is not None and request.clip.to_video:
        if further:
            raise UsageError("a video has nothing beside it; leave --also out or name a folder")
        if main != "overlay":  # a video cannot hold class ids exactly: it is for the eye
            main, alpha = "overlay", 0.5
    if request.out == "-" and further:
        raise UsageError("standard output takes one file; leave --also out or name a folder")

    from dptcli.cli.predicting.class_names import write_names
    from dptcli.results.plan import photo_facts
    from dptcli.segments.maskfiles import Style
    from dptcli.segments.masks import parse_classes
    from dptcli.segments.outputs import SegmentOutputs
    from dptcli.segments.palettes import choose_palette

    def make_save(loaded: "LoadedModel", plan: "Plan") -> "Save":
        names, colors = choose_palette(palette, loaded.labels)
        kept = None if classes is None else parse_classes(classes, names)
        outputs = SegmentOutputs(
            style=Style(colors, kept, alpha=alpha, outlined=outlines, first_id=offset),
            names=names,
            model=loaded.name,
            main=main,
            also=kinds,
            split=s.SPLIT in further,
        )
        write_names(plan, names, outputs.style, model=loaded.name, existing=request.existing)

        def save(job: "Job", prediction: "Prediction") -> Mapping[str, object]:
            return outputs.write(
                job.path,
                dict(zip(kinds, job.files[1:], strict=True)),
                prediction.values,
                rgb=prediction.rgb,
                scores=prediction.scores,
                photo=photo_facts(job),
                name=job.source.relative.as_posix(),
                keep=job.keep,
            )

        return save

    written = RunOutputs(
        make_save=make_save,
        suffixes=(".png", *(s.ALSO[kind] for kind in kinds)),
        needs=Needs(keep_rgb=main == "overlay", keep_scores="scores" in kinds),
        joined=tuple(_joint(s.ALSO[kind]) for kind in s.JOINED if kind in kinds)
        if given["dataset"]
        else (),
    )
    return request, written, where


def _joint(suffix: str) -> Joint:
    """OUT/coco.json, of all NAME.coco.json."""
    from dptcli.segments.dataset import is_ours, join_dataset

    return Joint(
        option="--dataset",
        suffix=suffix,
        path=lambda folder: folder / suffix.removeprefix("."),
        write=join_dataset,
        is_ours=is_ours,
    )


def _main_picture(
    overlay: str | None, layer: str | None, *, outlines: bool
) -> "tuple[Main, float]":
    """Return what is written and how strong the classes are in it. Raises UsageError."""
    if overlay is not None and layer is not None:
        raise UsageError("--overlay and --layer are two pictures; leave one out")
    if layer is not None:
        return "layer", s.parse_alpha("--layer", layer) or 0.0
    if overlay is not None or outlines:
        return "overlay", s.parse_alpha("--overlay", overlay) or 0.0
    return "mask", 1.0
