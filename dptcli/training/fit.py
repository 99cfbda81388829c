"""Fine-tune a model on a set of pairs: from a name to a folder in the hub's layout."""

import csv
import hashlib
import io
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dptcli.errors import UsageError
from dptcli.evaluation.labelmaps import same_labels
from dptcli.evaluation.measure import DepthPrediction, evaluate_depth, evaluate_segments
from dptcli.evaluation.metrics import own_protocol
from dptcli.evaluation.pairs import Pair, PairSet, PairTask, assumed_unit, rules_of
from dptcli.model.dpt import DensePredictor, DPTForSemanticSegmentation
from dptcli.pipeline import Pipeline
from dptcli.results.files import atomic_write, write_text
from dptcli.training.batches import TrainOptions
from dptcli.training.data import Example, Normalization, read_examples, split
from dptcli.training.loop import CHECKPOINT_NAME, History, Progress, train
from dptcli.weights.fingerprint import model_hash
from dptcli.weights.load import LoadedModel, load_model

logger = logging.getLogger(__name__)

RECORD_NAME = "training.json"
CURVE_NAME = "loss.png"
HISTORY_NAME = "history.csv"
PHOTO_HW = (480, 640)
"""The photograph whose size in the network, upright and across, is the size of the crops."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A finished run. before, after: scores on the held-out pairs, empty where there are none."""

    folder: Path
    history: History
    before: dict[str, float]
    after: dict[str, float]


def fine_tune(
    pairs: str | Path,
    *,
    task: PairTask,
    model: str,
    folder: Path,
    options: TrainOptions,
    device: str = "auto",
    size: int | tuple[int, int] | None = None,
    offline: bool = False,
    gives: str | None = None,
    scale: float | None = None,
    ignore_index: int | None = None,
    validation: str | Path | None = None,
    hold_out: int = 10,
    report: Callable[[Progress], None] | None = None,
) -> Fit:
    """Train a model on pairs and write it to `folder`, as `dpt depth -m FOLDER` takes it.

    options.shapes_hw, normalization and zoom are replaced by what suits the model. validation: a
    set of pairs of its own; otherwise every `hold_out`-th pair is held out (0: none). A
    segmentation model gets a new last layer where classes.txt names other classes than it knows. A
    run that was killed goes on from its checkpoint. gives: as for load_model; the model that is
    written says so. scale: of depths whose own the pairs do not say, stored / scale = metres.
    ignore_index: the id of label maps that does not count, in place of the model's; the model that
    is written says so. Raises UsageError, ModelError and ImageError.
    """
    loaded = load_model(
        model, task=task, device=device, dtype="float32", offline=offline, gives=gives
    )
    if not isinstance(loaded.model, DensePredictor):
        raise UsageError(f"model {model!r} is a {type(loaded.model).__name__}; train a DPT")
    if loaded.task == "depth" and loaded.calibration is not None:
        raise UsageError(
            f"model {model!r} is calibrated, and training would make its scale another; train the "
            "model that it was made of, and calibrate the result"
        )
    if size is not None:
        patch = getattr(loaded.model.config.backbone_config or loaded.model.config, "patch_size", 1)
        multiple = max(loaded.processor.ensure_multiple_of, patch if isinstance(patch, int) else 1)
        processor = loaded.processor.with_size(size, multiple_of=multiple)
        loaded = replace(loaded, processor=processor)
    examples, classes = read_examples(pairs, task=task, scale=scale)
    if validation is None:
        examples, held_out = split(examples, every=hold_out)
    else:
        held_out, _ = read_examples(validation, task=task, scale=scale)
    if task == "depth":
        _tell_assumed(examples)
    else:
        if ignore_index is not None:
            config = loaded.model.config.replace(semantic_loss_ignore_index=ignore_index)
            loaded.model.config = config
        examples = [_by_rules(example, loaded) for example in examples]
        held_out = [_by_rules(example, loaded) for example in held_out]
        loaded = _with_classes(loaded, classes, seed=options.seed)
        _tell_ignored_class(loaded)
    options = _for_model(options, loaded)
    scores = _Scores(loaded, held_out, classes)
    before = scores.now()
    assert isinstance(loaded.model, DensePredictor)
    history = train(
        loaded.model,
        examples,
        folder,
        options=options,
        held_out=held_out,
        report=report,
        about=_about(loaded, examples, held_out, classes),
    )
    fit = Fit(folder=folder, history=history, before=before, after=scores.now())
    loaded.model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    _write_record(fit, {"pairs": str(pairs), "from": model, "task": task}, options)
    (folder / CHECKPOINT_NAME).unlink(missing_ok=True)
    return fit


def _about(
    loaded: LoadedModel,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    classes: Sequence[str],
) -> dict[str, str]:
    """What must be the same beside the options where a run goes on, by name; pairs as a hash."""
    parts = {"set of pairs (or scale, or ignored id)": examples, "held-out pairs": held_out}
    kind = loaded.kind if loaded.task == "depth" else ""
    hashes = {name: hashlib.blake2b(repr(part).encode()) for name, part in parts.items()}
    return {
        "model to begin with": f"{model_hash(loaded.folder)} {kind}",
        "classes.txt": "\n".join(classes),
        **{name: found.hexdigest() for name, found in hashes.items()},
    }


def _tell_assumed(examples: Sequence[Example]) -> None:
    depths = tuple(example.depth for example in examples if example.depth is not None)
    assumed = assumed_unit([PairSet(name="the pairs", path=Path(), pairs=depths)])
    if assumed is not None:
        logger.warning("%s", assumed)


def _tell_ignored_class(loaded: LoadedModel) -> None:
    ignored = rules_of(loaded).ignore_index
    if ignored in loaded.labels:
        logger.warning(
            "the class %d (%s) does not count, as the model's configuration says; --ignore-index "
            "names another id, e.g. 65535",
            ignored,
            loaded.labels[ignored],
        )


def _by_rules(example: Example, loaded: LoadedModel) -> Example:
    """An example whose labels are read as the model's configuration says."""
    assert example.labels is not None
    return replace(example, labels=replace(example.labels, rules=rules_of(loaded)))


def _for_model(options: TrainOptions, loaded: LoadedModel) -> TrainOptions:
    """The options with the sizes and the pixel values that the model works with."""
    height, width = PHOTO_HW
    network = loaded.processor.network_hw
    return replace(
        options,
        shapes_hw=tuple(dict.fromkeys((network((height, width)), network((width, height))))),
        normalization=Normalization.of(loaded.processor.config),
        zoom=not loaded.is_metric,
    )


def _with_classes(loaded: LoadedModel, classes: Sequence[str], *, seed: int) -> LoadedModel:
    """The model for these classes: itself, or one with a new last layer for other names."""
    known = [loaded.labels[index] for index in sorted(loaded.labels)]
    if not classes or [name.casefold() for name in classes] == [name.casefold() for name in known]:
        return loaded
    labels = dict(enumerate(classes))
    ids = {name: index for index, name in labels.items()}
    config = loaded.model.config.replace(id2label=labels, label2id=ids, num_labels=None)
    torch.manual_seed(seed)
    model = DPTForSemanticSegmentation(config)
    fresh = model.state_dict()
    kept = {
        name: value
        for name, value in loaded.model.state_dict().items()
        if name in fresh and fresh[name].shape == value.shape
    }
    # A class that keeps its place would keep another's weights: the last layers start anew.
    for head in ("head", "auxiliary_head"):
        part: nn.Module | None = getattr(model, head)
        last = [name for name, layer in _convolutions(part)][-1:]
        for name in last:
            kept.pop(f"{head}.{name}.weight", None)
            kept.pop(f"{head}.{name}.bias", None)
    model.load_state_dict(kept, strict=False)
    return replace(loaded, model=model.to(loaded.device).eval(), labels=labels)


def _convolutions(module: nn.Module | None) -> list[tuple[str, nn.Module]]:
    return [
        (name, layer)
        for name, layer in (module.named_modules() if module is not None else ())
        if isinstance(layer, nn.Conv2d)
    ]


class _Scores:
    """Scores of a model, as it is at the moment, on held-out examples."""

    def __init__(
        self, loaded: LoadedModel, held_out: Sequence[Example], classes: Sequence[str]
    ) -> None:
        self.pipeline = Pipeline(loaded)
        targets = [item.labels if loaded.task == "segment" else item.depth for item in held_out]
        pairs = tuple(target for target in targets if target is not None)
        self.set = PairSet(name="held out", path=Path(), pairs=pairs, classes=tuple(classes))

    def now(self) -> dict[str, float]:
        """AbsRel, δ1 and ordinal accuracy, or mIoU and pixel accuracy; empty without pairs."""
        if not self.set.pairs:
            return {}
        loaded = self.pipeline.loaded
        if loaded.task == "depth":

            def depth(pair: Pair) -> DepthPrediction:
                return DepthPrediction(self.pipeline.predict_one(pair.image).values, loaded.kind)

            protocol = own_protocol(loaded.kind)
            found = evaluate_depth([self.set], depth, protocol=protocol, baseline=False).mean()
            return {name: found[name] for name in ("abs_rel", "delta1", "ordinal")}
        labels = same_labels(
            self.set.classes, loaded.labels, ignore_index=rules_of(loaded).ignore_index
        )
        scores = evaluate_segments(
            [self.set], lambda pair: self.pipeline.predict_one(pair.image).values, labels=labels
        ).mean()
        if scores is None:
            return {}
        return {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy}


def _write_record(fit: Fit, facts: dict[str, Any], options: TrainOptions) -> None:
    """training.json (options, scores), history.csv and loss.png beside the weights."""
    record = {
        **facts,
        "before": fit.before,
        "after": fit.after,
        "steps_done": len(fit.history.losses),
        "options": asdict(options),
    }
    write_text(fit.folder / RECORD_NAME, json.dumps(record, indent=2) + "\n")
    validations = dict(fit.history.validations)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["step", "loss", "validation"])
    for step, loss in enumerate(fit.history.losses, start=1):
        writer.writerow(
            [step, f"{loss:.6f}", f"{validations[step]:.6f}" if step in validations else ""]
        )
    write_text(fit.folder / HISTORY_NAME, stream.getvalue())
    with atomic_write(fit.folder / CURVE_NAME) as out:
        out.write(plot_history(fit.history))


def plot_history(history: History) -> bytes:
    """The loss curve as a PNG: every step, its running mean, and the validations."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    losses = np.asarray(history.losses)
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color="0.8", linewidth=0.8, label="each step")
    span = max(1, len(losses) // 20)
    mean = np.convolve(losses, np.ones(span) / span, mode="valid")
    axes.plot(steps[span - 1 :], mean, color="tab:blue", label=f"mean of {span}")
    if history.validations:
        axes.plot(*zip(*history.validations, strict=True), "o-", color="tab:red", label="held out")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend()
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()
