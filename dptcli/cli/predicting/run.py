"""What `dpt depth` and `dpt segment` share: check the options, plan, run, report."""

import contextlib
import functools
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dptcli.cli import options as o
from dptcli.cli.predicting import options as p
from dptcli.cli.predicting.clip_request import ClipRequest, read_clip
from dptcli.cli.predicting.engine import ClusterRequest, opened, read_engine
from dptcli.errors import UsageError
from dptcli.processing.target_size import TargetSize, parse_target_size

if TYPE_CHECKING:
    from pathlib import Path

    from dptcli.cli.predicting.record import Kept
    from dptcli.cli.predicting.reporter import Reporter
    from dptcli.inputs.find import ImageSource
    from dptcli.pipeline import Pipeline, Save
    from dptcli.records.report import Outcome, Report
    from dptcli.records.runreport import RunReport
    from dptcli.results.plan import Plan
    from dptcli.weights.load import LoadedModel

logger = logging.getLogger(__name__)

Recorded = Callable[["Save"], "Save"]
Work = Callable[["Pipeline", "Plan", Recorded, Callable[["Outcome"], None], "Reporter"], "Report"]
"""Does the jobs in place of Pipeline.run: (pipeline, plan, what records a `save`, on_done, …)."""


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
    offline: bool
    size: int | tuple[int, int] | None
    device: str
    dtype: str
    optimize: bool
    batch_size: "int | Literal['auto']"
    tile: "int | Literal['auto'] | None"
    as_json: bool
    quiet: bool
    clip: "ClipRequest | None" = None
    cluster: ClusterRequest | None = None
    options: Mapping[str, Any]
    shard: "tuple[int, int] | None" = None
    report: str | None = None


def read_request(task: Literal["depth", "segment"], given: Mapping[str, Any]) -> Request:
    """Check the shared options before anything heavy is loaded. Raises UsageError."""
    inputs = given["inputs"] or []
    from_file = given["from_file"]
    if not inputs and from_file is None:
        raise UsageError(f"no INPUT given, e.g. dpt {task} photo.jpg -o {task}.png")
    if given["null"] and from_file is None:
        raise UsageError("-0 says how a list is separated; give the list with --from-file LIST")
    if from_file == "-" and "-" in inputs:
        raise UsageError("standard input cannot be both the list (--from-file -) and an image (-)")
    if not given["output"]:  # "" is a shell variable that was not set
        raise UsageError("where to? give -o: a file, a folder, or - for standard output")
    if given["report"] == "-":
        raise UsageError("--report writes a file; for lines on standard output take --json")
    if given["overwrite"] and given["skip_existing"]:
        raise UsageError("--overwrite and --skip-existing contradict each other; leave one out")
    if given["output"] == "-":
        if given["as_json"]:
            raise UsageError("--json and -o - would mix on standard output; name a file for one")
        if sys.stdout.isatty():
            raise UsageError("-o - writes a file, not text; send it on, e.g. -o - > result.png")
    clip, shard = read_clip(given), p.parse_shard(given["shard"])
    if clip is not None and shard is not None:
        raise UsageError("--shard parts a list of photographs; a clip is one piece of work")
    cluster = read_engine(given)
    if clip is not None and cluster is not None:
        raise UsageError("--engine ray is for photographs; a clip is worked on in order")
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
        offline=given["offline"],
        size=o.parse_size(given["size"]),
        device=o.check_device(given["device"]),
        dtype=o.check_dtype(given["dtype"], optimize=given["optimize"]),
        optimize=given["optimize"],
        batch_size=o.parse_batch_size(given["batch_size"]),
        tile=p.parse_tile(given["tile"]),
        as_json=given["as_json"],
        quiet=given["quiet"],
        clip=clip,
        cluster=cluster,
        options=dict(given),
        shard=shard,
        report=given["report"],
    )


def run(
    request: Request,
    saver: "Callable[[LoadedModel, Plan], Save]",
    *,
    keep_rgb: bool = False,
    keep_scores: bool = False,
    suffixes: Sequence[str] = (".png",),
    sidecar: str | None = None,
    work: "Work | None" = None,
    segment_model: str | None = None,
) -> int:
    """Plan the run, load the model, do the work, report; returns the exit code.

    keep_rgb, keep_scores: what `save` needs of pipeline.Options. suffixes: one for each format that
    is written. sidecar: the suffix of the file of facts. work: takes the place of Pipeline.run
    where each result depends on all images. segment_model: a model that predicts classes beside
    depth, on the same backbone.
    """
    from dptcli.cli.predicting.reporter import Reporter

    with _account_of(request) as account:
        reporter = Reporter(quiet=request.quiet, as_json=request.as_json, account=account)
        if request.clip is not None:
            from dptcli.cli.predicting.clips import run_clip

            return run_clip(
                request,
                request.clip,
                saver,
                keep_rgb=keep_rgb,
                keep_scores=keep_scores,
                suffixes=suffixes,
                sidecar=sidecar,
                reporter=reporter,
            )
        return _run_photographs(
            request,
            saver,
            reporter,
            keep_rgb=keep_rgb,
            keep_scores=keep_scores,
            suffixes=suffixes,
            sidecar=sidecar,
            work=work,
            segment_model=segment_model,
        )


def _run_photographs(
    request: Request,
    saver: "Callable[[LoadedModel, Plan], Save]",
    reporter: "Reporter",
    *,
    keep_rgb: bool,
    keep_scores: bool,
    suffixes: Sequence[str],
    sidecar: str | None,
    work: "Work | None",
    segment_model: str | None,
) -> int:
    from dptcli.cli.predicting.record import Kept
    from dptcli.records.report import Report
    from dptcli.results.plan import Shard, plan_outputs
    from dptcli.weights.catalog import find_model

    if work is not None and request.shard is not None:
        raise UsageError(
            "--range global spans the run, and a shard sees a part of it; give values, "
            "e.g. --range 0:30"
        )
    # Everything that may be refused is refused before torch is imported, in a fraction of a second.
    sources = find_sources(request)
    models = [(request.model, request.task)]
    models += [(segment_model, "segment")] if segment_model is not None else []
    kept = Kept(request, models, sources if work is not None else None)
    plan = plan_outputs(
        sources,
        request.out,
        suffixes=suffixes,
        sidecar=sidecar,
        existing=request.existing,
        settle=kept.settle,
        shard=None if request.shard is None else Shard(*request.shard),
    )
    if not plan.jobs:
        reporter.planned(plan)
        kept.list_failures(plan)
        reporter.summary(Report(), plan)
        return 0
    # A download draws its own bars, so it comes before the spinner; a typo costs no torch either.
    find_model(request.model, task=request.task, offline=request.offline)
    if segment_model is not None:
        find_model(segment_model, task="segment", offline=request.offline)
    opener = functools.partial(
        open_for,
        request,
        segment_model=segment_model,
        keep_rgb=keep_rgb,
        keep_scores=keep_scores,
    )
    with contextlib.ExitStack() as while_open:
        with reporter.loading(request.model):
            pipeline = while_open.enter_context(
                opened(request.cluster, opener, kept, max_pixels=request.max_pixels)
            )
            save = saver(pipeline.loaded, plan)
        report = _work_through(pipeline, save, plan, kept, reporter, work)
    kept.list_failures(plan, report)
    reporter.summary(report, plan)
    return 1 if report.failed else 0


def _work_through(
    pipeline: "Pipeline",
    save: "Save",
    plan: "Plan",
    kept: "Kept",
    reporter: "Reporter",
    work: "Work | None",
) -> "Report":
    """Do the plan's jobs, recorded and reported as they are done."""
    reporter.planned(plan)
    reporter.loaded(pipeline)
    with kept.recording(plan), reporter.working(plan):

        def on_done(outcome: "Outcome") -> None:
            kept.done(outcome)
            reporter.done(outcome)

        if work is None:
            return pipeline.run(plan.jobs, save=kept.recorded(save), on_done=on_done)
        return work(pipeline, plan, kept.recorded, on_done, reporter)


@contextlib.contextmanager
def _account_of(request: Request) -> "Iterator[RunReport | None]":
    """The run's report, where one was asked for, written when the block ends."""
    if request.report is None:
        yield None
        return
    from dptcli.records.runreport import RunReport
    from dptcli.remote.places import place

    shard = None if request.shard is None else "/".join(map(str, request.shard))
    path = place(request.report)
    with RunReport(path, command=request.task, options=request.options, shard=shard) as account:
        yield account


def note_failures(folder: "Path", report: "Report") -> None:
    """Write the list of failures into a folder of results, or say why not."""
    from dptcli.records.report import write_failures

    try:
        write_failures(folder, ((o.job.source.name, o.error) for o in report.failed))
    except OSError as error:
        # The summary names the failures too; a full disk must not hide it.
        logger.warning("cannot write the list of failures into %s: %s", folder, error.strerror)


def find_sources(request: Request) -> "list[ImageSource]":
    """The request's images. Raises UsageError when there are none."""
    from dptcli.inputs.filelist import read_list
    from dptcli.inputs.find import find_images

    listed = read_list(request.from_file, nul=request.null) if request.from_file else []
    if request.from_file and not listed and not request.inputs:
        raise UsageError(f"the list {request.from_file!r} is empty; nothing was done")
    return find_images(request.inputs, listed=listed, recursive=request.recursive)


def open_for(
    request: Request, *, keep_rgb: bool, segment_model: str | None = None, **more: Any
) -> "Pipeline":
    """Load the request's model; more: further fields of pipeline.Options."""
    from dptcli import pipeline

    if request.max_pixels is not None:
        more["max_pixels"] = request.max_pixels
    options = pipeline.Options(
        batch_size=request.batch_size,
        tile=request.tile,
        target_size=request.target_size,
        keep_rgb=keep_rgb,
        **more,
    )
    wanted: dict[str, Any] = {
        "device": request.device,
        "dtype": request.dtype,
        "optimized": request.optimize,
        "offline": request.offline,
        "size": request.size,
        "options": options,
    }
    if segment_model is not None:
        from dptcli.running.together import open_together

        return open_together(request.model, segment_model, **wanted)
    return pipeline.open_pipeline(request.model, task=request.task, **wanted)
