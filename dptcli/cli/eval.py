"""`dpt eval depth` and `dpt eval segment`: how good is a model, or what it predicted?"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from dptcli.cli import eval_options as e
from dptcli.cli import options as o
from dptcli.cli.commands import Group
from dptcli.cli.eval_told import prompt_sources, read_known_camera, read_known_prompts
from dptcli.cli.predicting.runtime import runtime_found
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.errors import UsageError
from dptcli.kinds import check_gives
from dptcli.running.machine import collector_rests
from dptcli.runtimes.known import AUTO, TORCH, check_runtime
from dptcli.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from dptcli.cli.eval_report import Destination
    from dptcli.depth.camera import Camera
    from dptcli.depth.prompts import Prompts
    from dptcli.evaluation.measure import PredictDepth, PredictLabels
    from dptcli.evaluation.pairs import LabelRules, Pair, PairSet
    from dptcli.pipeline import Pipeline

logger = logging.getLogger(__name__)

_EPILOG = (
    "Exit codes: 0 all measured, 1 some images failed and the others are measured, "
    "2 wrong usage or model, 130 interrupted."
)
eval_app = typer.Typer(
    name="eval",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Measure a model, or predictions made earlier, on photographs with known answers.",
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the options that both commands share ask for, checked."""

    pairs: list[str]
    model: str
    gives: str | None
    offline: bool
    size: int | tuple[int, int] | None
    device: str
    dtype: str
    runtime: str
    camera: "Camera | None"
    predictions: str | None
    to: "Destination"


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    eval_app.command(epilog=_EPILOG)(depth)
    eval_app.command(epilog=_EPILOG)(segment)
    app.add_typer(eval_app)


def depth(
    pairs: e.PairPaths = None,
    scale: e.Scale = None,
    predictions: e.Predictions = None,
    prediction_kind: e.PredictionKind = None,
    prediction_scale: e.PredictionScale = None,
    align: e.Align = "auto",
    min_depth: e.MinDepth = None,
    max_depth: e.MaxDepth = None,
    crop: e.CropName = "none",
    num_pairs: e.NumPairs = 50_000,
    seed: e.Seed = 0,
    baseline: e.Baseline = True,
    model: o.ModelName = DEFAULT_MODEL,
    prompt: e.Prompt = None,
    anchor_scale: e.AnchorScale = "1000",
    fov: e.FieldOfView = None,
    focal: e.Focal = None,
    intrinsics: e.Intrinsics = None,
    gives: o.Gives = None,
    size: o.Size = None,
    offline: o.Offline = False,
    device: o.Device = "auto",
    dtype: o.DType = "auto",
    runtime: o.Runtime = AUTO,
    output: e.ReportFolder = None,
    overwrite: e.Overwrite = False,
    no_plots: e.NoPlots = False,
    as_json: e.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Measure depth: AbsRel, RMSE, δ, ordinal accuracy, …, for each set and the mean.

    A prediction takes the target's size, and pixels without a measurement do not
    count. An image counts once in its set, and a set once in the mean.

    [cyan]dpt eval depth pairs.csv[/]
    [cyan]dpt eval depth rooms/ streets/ -m ./my-model -o report/[/]
    [cyan]dpt eval depth pairs.csv --predictions out/ --prediction-kind inverse_depth[/]
    [cyan]dpt eval depth rooms/ -m prompt-depth-anything-vits --prompt lidar/[/]
    """
    set_up_logging(verbose=verbose, quiet=quiet)
    request = _request("depth", locals())
    _check_depth_options(locals())
    prompts = read_known_prompts(locals())

    from dptcli.cli.eval_report import close, progress, tell_depth
    from dptcli.evaluation.measure import evaluate_depth
    from dptcli.evaluation.metrics import DepthProtocol, own_protocol
    from dptcli.evaluation.pairs import assumed_unit, read_pair_sets, with_scale

    # The protocol is made first: what may be refused is refused before the model is loaded.
    protocol = DepthProtocol(
        align="scale-shift" if align == "auto" else align,  # type: ignore[arg-type]  # it checks
        min_depth=min_depth,
        max_depth=max_depth,
        crop=crop,  # type: ignore[arg-type]  # it checks
        num_pairs=num_pairs,
        seed=seed,
    )
    sets = with_scale(read_pair_sets(request.pairs, task="depth"), scale)
    if (assumed := assumed_unit(sets)) is not None:
        logger.warning("%s", assumed)
        to = replace(request.to, facts={**request.to.facts, "assumed": assumed})
        request = replace(request, to=to)
    source = _depth_source(
        request, sets, kind=prediction_kind, scale=prediction_scale, prompts=prompts
    )
    own = own_protocol(source.kind)
    protocol = replace(protocol, space=own.space)
    if align == "auto":
        protocol = replace(protocol, align=own.align)
    with progress(sets, quiet=request.to.quiet) as on_image:
        report = evaluate_depth(
            sets, source.predict, protocol=protocol, baseline=baseline, on_image=on_image
        )
    tell_depth(report, request.to, source=source.name, predict=source.predict)
    return close(report)


def segment(
    pairs: e.PairPaths = None,
    predictions: e.Predictions = None,
    label_map: e.LabelMapFile = None,
    ignore_index: e.IgnoreIndex = None,
    model: o.ModelName = DEFAULT_MODEL,
    size: o.Size = None,
    offline: o.Offline = False,
    device: o.Device = "auto",
    dtype: o.DType = "auto",
    runtime: o.Runtime = AUTO,
    output: e.ReportFolder = None,
    overwrite: e.Overwrite = False,
    no_plots: e.NoPlots = False,
    as_json: e.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Measure segmentation: mIoU, IoU by class, accuracies, confusion matrix.

    A prediction takes the target's size without inventing classes. The pixels of
    a set are counted together, and a set counts once in the mean. The names of
    the targets' classes stand in classes.txt beside pairs.csv.

    [cyan]dpt eval segment pairs.csv --label-map groups.json -o report/[/]
    [cyan]dpt eval segment camvid/ --predictions masks/[/]
    """
    set_up_logging(verbose=verbose, quiet=quiet)
    request = _request("segment", locals())

    from dptcli.cli.eval_report import close, progress, tell_segments
    from dptcli.evaluation.labelmaps import read_label_map, same_labels
    from dptcli.evaluation.measure import evaluate_segments
    from dptcli.evaluation.pairs import read_pair_sets, with_rules
    from dptcli.segments.palettes import kinds_of

    sets = read_pair_sets(request.pairs, task="segment")
    classes = _classes(sets)
    source = _label_source(request, sets)
    rules = (
        source.rules if ignore_index is None else replace(source.rules, ignore_index=ignore_index)
    )
    sets, ignore_index = with_rules(sets, rules), rules.ignore_index
    both = {"predictions": source.names, "kinds": kinds_of(source.names)}
    if label_map is None:
        labels = same_labels(classes, ignore_index=ignore_index, **both)
    else:
        labels = read_label_map(label_map, targets=classes, ignore_index=ignore_index, **both)
    with progress(sets, quiet=request.to.quiet) as on_image:
        report = evaluate_segments(sets, source.predict, labels=labels, on_image=on_image)
    tell_segments(report, request.to, source=source.name, predict=source.predict, labels=labels)
    return close(report)


def _request(task: str, given: Mapping[str, Any]) -> Request:
    """Check the shared options before anything heavy is loaded. Raises UsageError."""
    from dptcli.cli.eval_report import Destination

    if not given["pairs"]:
        raise UsageError("no PAIRS given, e.g. dpt eval depth pairs.csv")
    folder: Path | None = None
    if (output := given["output"]) is not None:
        overwrite = given["overwrite"]
        folder = o.read_folder(output, holds="report.json", what="a report", overwrite=overwrite)
    facts = {name: given[name] for name in ("model", "size", "dtype")}
    facts |= {} if given.get("gives") is None else {"gives": given["gives"]}
    runtime, device, dtype = given["runtime"], given["device"], given["dtype"]
    check_runtime(runtime, device=device, dtype=dtype, optimize=True)
    if runtime == AUTO:
        runtime = TORCH if given["predictions"] is not None else runtime_found(task, given)
    facts |= {} if runtime == TORCH else {"runtime": runtime}
    if given["predictions"] is not None:
        facts = {"predictions": given["predictions"]}
    told = ("scale", "prompt", "fov", "focal", "intrinsics")
    facts |= {name: given[name] for name in told if given.get(name) is not None}
    return Request(
        pairs=given["pairs"],
        model=given["model"],
        gives=check_gives(given.get("gives")),
        offline=given["offline"],
        size=o.parse_size(given["size"]),
        device=o.check_device(given["device"]),
        dtype=o.check_dtype(given["dtype"]),
        runtime=runtime,
        camera=read_known_camera(given),
        predictions=given["predictions"],
        to=Destination(
            folder=folder,
            plots=not given["no_plots"],
            as_json=given["as_json"],
            quiet=given["quiet"],
            facts=facts,
        ),
    )


def _check_depth_options(given: Mapping[str, Any]) -> None:
    from dptcli.evaluation.metrics import ALIGNMENTS, CROPS
    from dptcli.evaluation.pairs import DEPTH_KINDS

    kind, scale = given["prediction_kind"], given["prediction_scale"]
    if given["predictions"] is None and (kind is not None or scale is not None):
        raise UsageError("--prediction-kind and --prediction-scale need --predictions DIR")
    for option, value, allowed in (
        ("--prediction-kind", kind or DEPTH_KINDS[0], DEPTH_KINDS),
        ("--align", given["align"], ("auto", *ALIGNMENTS)),
        ("--crop", given["crop"], CROPS),
    ):
        if value not in allowed:
            raise UsageError(
                f"{option} {value!r} must be {', '.join(allowed[:-1])} or {allowed[-1]}"
            )
    for option, number in (("--prediction-scale", scale), ("--scale", given["scale"])):
        if number is not None and not (math.isfinite(number) and number > 0):
            raise UsageError(f"{option} {number} must be above 0, e.g. 1000 for millimetres")


def _classes(sets: "Sequence[PairSet]") -> tuple[str, ...]:
    """Return the class names that all sets share."""
    for pairs in sets[1:]:
        if pairs.classes != sets[0].classes:
            raise UsageError(
                f"the sets {sets[0].name} and {pairs.name} have different classes.txt; measure "
                "them one by one"
            )
    return sets[0].classes


# --- where predictions come from -----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _DepthSource:
    name: str
    predict: "PredictDepth"
    kind: str


@dataclass(frozen=True, kw_only=True)
class _LabelSource:
    name: str
    predict: "PredictLabels"
    names: Mapping[int, str]
    rules: "LabelRules"


def _depth_source(
    request: Request,
    sets: "Sequence[PairSet]",
    *,
    kind: str | None,
    scale: float | None,
    prompts: "Prompts | None",
) -> _DepthSource:
    from dptcli.evaluation.measure import DepthPrediction
    from dptcli.evaluation.predictions import StoredPredictions

    if request.predictions is not None:
        stored = StoredPredictions(request.predictions, sets, kind=kind, scale=scale)
        return _DepthSource(
            name=request.predictions, predict=stored.depth, kind=stored.depth_kind()
        )
    sources = None if prompts is None else prompt_sources(prompts, sets)
    pipeline = _open(request, task="depth", prompted=prompts is not None)
    given = pipeline.loaded.kind

    def predict(pair: "Pair") -> DepthPrediction:
        known = None
        if prompts is not None and sources is not None:
            known = prompts.read(sources[pair])
        values = pipeline.predict_one(pair.image, prompt=known).values
        return DepthPrediction(values, given)

    return _DepthSource(name=request.model, predict=predict, kind=given)


def _label_source(request: Request, sets: "Sequence[PairSet]") -> _LabelSource:
    from dptcli.evaluation.pairs import LabelRules, rules_of
    from dptcli.evaluation.predictions import StoredPredictions

    if request.predictions is not None:
        stored = StoredPredictions(request.predictions, sets)
        names = stored.label_names()
        return _LabelSource(
            name=request.predictions, predict=stored.labels, names=names, rules=LabelRules()
        )
    pipeline = _open(request, task="segment")
    return _LabelSource(
        name=request.model,
        predict=lambda pair: pipeline.predict_one(pair.image).values,
        names=pipeline.loaded.labels,
        rules=rules_of(pipeline.loaded),
    )


def _open(
    request: Request, *, task: Literal["depth", "segment"], prompted: bool = False
) -> "Pipeline":
    with collector_rests():
        from dptcli.pipeline import Options, open_pipeline

    return open_pipeline(
        request.model,
        task=task,
        device=request.device,
        dtype=request.dtype,
        offline=request.offline,
        gives=request.gives,
        size=request.size,
        runtime=request.runtime,
        prompted=prompted,
        options=Options(camera=request.camera, exact=True),
    )
