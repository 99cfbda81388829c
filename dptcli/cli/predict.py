"""`dpt depth` and `dpt segment`: parse, plan, run, report."""

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer

from dptcli.cli import options as o
from dptcli.errors import UsageError
from dptcli.target_size import TargetSize, parse_target_size
from dptcli.weights.catalog import DEFAULT_MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from dptcli.inputs import ImageSource
    from dptcli.pipeline import Pipeline, Prediction, Save
    from dptcli.plan import Job, Plan
    from dptcli.weights.load import LoadedModel

logger = logging.getLogger(__name__)

PICTURE = "Depth picture"
MASK = "Segmentation picture"

_EPILOG = (
    "Exit codes: 0 all done, 1 some images failed and the others are written, "
    "2 wrong usage or model, 130 interrupted."
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the options that both commands share ask for, checked."""

    task: Literal["depth", "segment"]
    inputs: list[str]
    from_file: str | None
    null: bool
    recursive: bool
    max_pixels: int | None
    out: str
    target_size: TargetSize
    existing: Literal["refuse", "overwrite", "skip"]
    model: str
    size: int | tuple[int, int] | None
    device: str
    dtype: str
    batch_size: int
    as_json: bool
    quiet: bool


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(epilog=_EPILOG)(depth)
    app.command(epilog=_EPILOG)(segment)


def depth(
    inputs: o.Inputs = None,
    from_file: o.FromFile = None,
    null: o.Null = False,
    no_recursive: o.NoRecursive = False,
    max_pixels: o.MaxPixels = None,
    output: o.Output = None,
    target_size: o.TargetSize = "original",
    overwrite: o.Overwrite = False,
    skip_existing: o.SkipExisting = False,
    colormap: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            rich_help_panel=PICTURE,
            help="Any matplotlib colormap (inferno by default: near is bright), "
            "e.g. [cyan]--colormap Spectral_r[/]",
        ),
    ] = None,
    invert: Annotated[
        bool,
        typer.Option(
            "--invert",
            rich_help_panel=PICTURE,
            metavar="",
            help="Make near dark and far bright, e.g. [cyan]--grayscale --invert[/]",
        ),
    ] = False,
    grayscale: Annotated[
        bool,
        typer.Option(
            "--grayscale",
            rich_help_panel=PICTURE,
            metavar="",
            help="Grey instead of colours, near is white, e.g. [cyan]--grayscale[/]",
        ),
    ] = False,
    bits: Annotated[
        str,
        typer.Option(
            metavar="8|16",
            rich_help_panel=PICTURE,
            show_default=False,
            help="Bits of a grey pixel, 8 by default; 16 keeps fine steps and implies --grayscale, "
            "e.g. [cyan]--bits 16[/]",
        ),
    ] = "8",
    model: o.ModelName = DEFAULT_MODEL,
    size: o.Size = None,
    device: o.Device = "auto",
    dtype: o.DType = "auto",
    batch_size: o.BatchSize = "1",
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Estimate how near everything in a photograph is, and write it as a picture.

    [cyan]dpt depth photo.jpg -o depth.png[/]
    [cyan]dpt depth photos/ -o depth/ --bits 16[/]
    [cyan]curl -s URL | dpt depth - -o - > depth.png[/]
    """
    _set_up_logging(verbose=verbose, quiet=quiet)
    request = _request("depth", locals())
    num_bits = o.parse_bits(bits)
    if colormap is not None and (grayscale or num_bits == 16):
        grey = "--grayscale" if grayscale else "--bits 16"
        raise UsageError(f"--colormap makes colours and {grey} makes grey; leave one out")

    from dptcli.colormaps import DEFAULT_COLORMAP, depth_lut, finite_range
    from dptcli.writers import write_depth_color, write_depth_gray

    lut = depth_lut(colormap or DEFAULT_COLORMAP)

    def saver(loaded: "LoadedModel", _plan: "Plan") -> "Save":
        near_is_large = not loaded.is_metric
        kind = "depth_m" if loaded.is_metric else "inverse_depth"
        facts = {"model": loaded.name, "kind": kind}

        def save(job: "Job", prediction: "Prediction") -> Mapping[str, object]:
            def write(stream: BinaryIO) -> None:
                shared: dict[str, Any] = {
                    "near_is_large": near_is_large,
                    "invert": invert,
                    "facts": facts,
                }
                if grayscale or num_bits == 16:
                    write_depth_gray(stream, prediction.values, bits=num_bits, **shared)
                else:
                    write_depth_color(stream, prediction.values, lut=lut, **shared)

            _write_to(job.path, write)
            lo, hi = finite_range(prediction.values)
            return {"kind": kind, "min": lo, "max": hi}

        return save

    return _run(request, saver)


def segment(
    inputs: o.Inputs = None,
    from_file: o.FromFile = None,
    null: o.Null = False,
    no_recursive: o.NoRecursive = False,
    max_pixels: o.MaxPixels = None,
    output: o.Output = None,
    target_size: o.TargetSize = "original",
    overwrite: o.Overwrite = False,
    skip_existing: o.SkipExisting = False,
    overlay: Annotated[
        str | None,
        typer.Option(
            metavar="ALPHA",
            show_default=False,
            rich_help_panel=MASK,
            help="Instead of the mask write the photograph with the classes over it, from 0 to 1 "
            "strong, e.g. [cyan]--overlay 0.5[/]",
        ),
    ] = None,
    model: o.ModelName = DEFAULT_MODEL,
    size: o.Size = None,
    device: o.Device = "auto",
    dtype: o.DType = "auto",
    batch_size: o.BatchSize = "1",
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Name what every pixel of a photograph shows, and write it as a mask.

    A mask is an indexed PNG: it opens in colour, and its pixel values are the class ids, from 0.
    The names stand beside it, in OUT/labels.json for a folder and in NAME.labels.json for one file.

    [cyan]dpt segment photo.jpg -o mask.png[/]
    [cyan]dpt segment photos/ -o overlays/ --overlay 0.5[/]
    """
    _set_up_logging(verbose=verbose, quiet=quiet)
    request = _request("segment", locals())
    alpha = o.parse_overlay(overlay)

    from dptcli.colormaps import palette
    from dptcli.writers import write_label_mask, write_overlay

    def saver(loaded: "LoadedModel", plan: "Plan") -> "Save":
        colors = palette(len(loaded.labels), loaded.labels)
        _write_names(plan, loaded, colors, existing=request.existing)
        facts = {"model": loaded.name, "kind": "labels"}

        def save(job: "Job", prediction: "Prediction") -> Mapping[str, object]:
            labels = prediction.values

            def write(stream: BinaryIO) -> None:
                if alpha is None:
                    write_label_mask(stream, labels, colors=colors, facts=facts)
                    return
                assert prediction.rgb is not None
                write_overlay(
                    stream, labels, rgb=prediction.rgb, colors=colors, alpha=alpha, facts=facts
                )

            _write_to(job.path, write)
            return {"kind": "labels", "shares": _shares(labels, loaded.labels)}

        return save

    return _run(request, saver, keep_rgb=alpha is not None)


def _request(task: Literal["depth", "segment"], given: Mapping[str, Any]) -> Request:
    """Check the shared options before anything heavy is loaded. Raises UsageError."""
    inputs = given["inputs"] or []
    from_file = given["from_file"]
    if not inputs and from_file is None:
        raise UsageError(f"no INPUT given, e.g. dpt {task} photo.jpg -o {task}.png")
    if given["null"] and from_file is None:
        raise UsageError("-0 says how a list is separated; give the list with --from-file LIST")
    if from_file == "-" and "-" in inputs:
        raise UsageError("standard input cannot be both the list (--from-file -) and an image (-)")
    if given["output"] is None:
        raise UsageError("where to? give -o: a .png file, a folder, or - for standard output")
    if given["overwrite"] and given["skip_existing"]:
        raise UsageError("--overwrite and --skip-existing contradict each other; leave one out")
    if given["output"] == "-":
        if given["as_json"]:
            raise UsageError("--json and -o - would mix on standard output; name a file for one")
        if sys.stdout.isatty():
            raise UsageError("-o - writes a PNG, not text; send it on, e.g. -o - > result.png")
    existing: Literal["refuse", "overwrite", "skip"] = (
        "overwrite" if given["overwrite"] else "skip" if given["skip_existing"] else "refuse"
    )
    return Request(
        task=task,
        inputs=inputs,
        from_file=from_file,
        null=given["null"],
        recursive=not given["no_recursive"],
        max_pixels=o.parse_max_pixels(given["max_pixels"]),
        out=given["output"],
        target_size=parse_target_size(given["target_size"]),
        existing=existing,
        model=given["model"],
        size=o.parse_size(given["size"]),
        device=o.check_device(given["device"]),
        dtype=o.check_dtype(given["dtype"]),
        batch_size=o.parse_batch_size(given["batch_size"]),
        as_json=given["as_json"],
        quiet=given["quiet"],
    )


def _run(
    request: Request,
    saver: "Callable[[LoadedModel, Plan], Save]",
    *,
    keep_rgb: bool = False,
) -> int:
    """Plan the run, load the model, do the work, report; returns the exit code."""
    from dptcli.cli.console import Reporter
    from dptcli.plan import plan_outputs
    from dptcli.report import Report

    # Everything that may be refused is refused before torch is imported, in a fraction of a second.
    plan = plan_outputs(_sources(request), request.out, existing=request.existing)
    reporter = Reporter(quiet=request.quiet, as_json=request.as_json)
    if not plan.jobs:
        reporter.skipped(plan)
        reporter.summary(Report(), plan)
        return 0
    with reporter.loading(request.model):
        pipeline = _open(request, keep_rgb=keep_rgb)
        save = saver(pipeline.loaded, plan)
    reporter.skipped(plan)
    with reporter.working(plan):
        report = pipeline.run(plan.jobs, save=save, on_done=reporter.done)
    reporter.summary(report, plan)
    return 1 if report.failed else 0


def _sources(request: Request) -> "list[ImageSource]":
    from dptcli.inputs import find_images, read_list

    listed = read_list(request.from_file, nul=request.null) if request.from_file else []
    if request.from_file and not listed and not request.inputs:
        raise UsageError(f"the list {request.from_file!r} is empty; nothing was done")
    return find_images([*request.inputs, *listed], recursive=request.recursive)


def _open(request: Request, *, keep_rgb: bool) -> "Pipeline":
    from dptcli import pipeline

    limits = {} if request.max_pixels is None else {"max_pixels": request.max_pixels}
    return pipeline.open_pipeline(
        request.model,
        task=request.task,
        device=request.device,
        dtype=request.dtype,
        size=request.size,
        options=pipeline.Options(
            batch_size=request.batch_size,
            target_size=request.target_size,
            keep_rgb=keep_rgb,
            **limits,
        ),
    )


def _write_to(path: "Path | None", write: Callable[[BinaryIO], None]) -> None:
    """Give a writer the file that is whole or absent, or standard output. Raises ImageError."""
    from dptcli.files import atomic_write
    from dptcli.writers import describe_write_error

    try:
        if path is None:
            write(sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            with atomic_write(path) as stream:
                write(stream)
    except OSError as error:
        raise describe_write_error(path, error) from error


def _write_names(plan: "Plan", loaded: "LoadedModel", colors: Any, *, existing: str) -> None:
    """Write labels.json for the run's folder, or beside a single file; none for standard output."""
    import io

    from dptcli.writers import write_names_json

    if plan.folder is not None:
        path = plan.folder / "labels.json"
    elif plan.jobs[0].path is not None:
        path = plan.jobs[0].path.with_suffix(".labels.json")
    else:
        return
    buffer = io.BytesIO()
    write_names_json(buffer, loaded.labels, colors=colors, model=loaded.name)
    content = buffer.getvalue()
    if path.exists() and existing != "overwrite" and path.read_bytes() != content:
        raise UsageError(
            f"{str(path)!r} holds the names of another model's classes; name another folder, or "
            "replace it with --overwrite"
        )

    def write(stream: BinaryIO) -> None:
        stream.write(content)

    _write_to(path, write)


def _shares(labels: Any, names: Mapping[int, str]) -> dict[str, float]:
    """Return each class's share of the image's area, by name, for those that occur."""
    import numpy as np

    counts = np.bincount(labels.ravel(), minlength=1)
    present = np.flatnonzero(counts)
    return {
        names.get(int(label), str(label)): round(float(counts[label]) / labels.size, 6)
        for label in present
    }


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever sys.stderr is at the time: a progress bar puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def _set_up_logging(*, verbose: bool, quiet: bool) -> None:
    package = logging.getLogger("dptcli")
    package.setLevel(logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING)
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("dpt: %(message)s"))
    package.handlers = [handler]
    package.propagate = False
