"""`dpt train depth` and `dpt train segment`: fine-tune a model on photographs with answers."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from dptcli.cli import options as o
from dptcli.cli import train_options as t
from dptcli.cli.commands import Group
from dptcli.cli.terminal.console import progress_bar, say
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.errors import UsageError
from dptcli.kinds import check_gives
from dptcli.running.machine import collector_rests
from dptcli.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from dptcli.evaluation.pairs import PairTask
    from dptcli.training.loop import Progress

DTYPES = ("float32", "bfloat16", "float16")

train_app = typer.Typer(
    name="train",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Fine-tune a model on photographs with known depth or labels.",
)
_EPILOG = "Exit codes: 0 trained, 1 an image could not be used, 2 wrong usage, 130 interrupted."


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    train_app.command(epilog=_EPILOG)(depth)
    train_app.command(epilog=_EPILOG)(segment)
    app.add_typer(train_app)


def depth(
    pairs: t.Pairs = None,
    scale: t.Scale = None,
    model: t.From = DEFAULT_MODEL,
    gives: o.Gives = None,
    output: t.Folder = None,
    overwrite: t.Overwrite = False,
    validation: t.Validation = None,
    hold_out: t.HoldOut = 10,
    steps: t.Steps = 1000,
    batch_size: t.BatchSize = 8,
    accumulate: t.Accumulate = 1,
    learning_rate: t.Rate = 3e-4,
    backbone_rate: t.BackboneRate = 0.0,
    variants: t.Variants = 4,
    validate_every: t.ValidateEvery = 100,
    patience: t.Patience = 0,
    seed: t.Seed = 0,
    size: o.Size = None,
    offline: o.Offline = False,
    device: o.TorchDevice = "auto",
    dtype: t.DType = "float32",
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Fine-tune a depth model, relative or metric, on photographs with measured depth.

    [cyan]dpt train depth rooms/ -o my-model/[/]
    [cyan]dpt eval depth test-rooms/ -m my-model/[/]
    [cyan]dpt depth photos/ -m my-model/ -o depth/[/]
    """
    return _run("depth", locals())


def segment(
    pairs: t.Pairs = None,
    ignore_index: t.IgnoreIndex = None,
    model: t.From = DEFAULT_MODEL,
    output: t.Folder = None,
    overwrite: t.Overwrite = False,
    validation: t.Validation = None,
    hold_out: t.HoldOut = 10,
    steps: t.Steps = 1000,
    batch_size: t.BatchSize = 8,
    accumulate: t.Accumulate = 1,
    learning_rate: t.Rate = 3e-4,
    backbone_rate: t.BackboneRate = 0.0,
    variants: t.Variants = 4,
    validate_every: t.ValidateEvery = 100,
    patience: t.Patience = 0,
    seed: t.Seed = 0,
    size: o.Size = None,
    offline: o.Offline = False,
    device: o.TorchDevice = "auto",
    dtype: t.DType = "float32",
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Fine-tune a segmentation model on photographs with label maps.

    The classes stand in classes.txt beside pairs.csv; where they are not the
    model's own, it gets a new last layer.

    [cyan]dpt train segment streets/ -o my-model/[/]
    [cyan]dpt eval segment test-streets/ -m my-model/[/]
    """
    return _run("segment", locals())


def _run(task: "PairTask", given: Mapping[str, Any]) -> int:
    set_up_logging(verbose=given["verbose"], quiet=given["quiet"])
    if given["pairs"] is None:
        raise UsageError(f"no PAIRS given, e.g. dpt train {task} pairs.csv -o my-model/")
    if given["output"] is None:
        raise UsageError("no -o FOLDER given for the model, e.g. -o my-model/")
    folder = o.read_folder(
        given["output"], holds="config.json", what="a model", overwrite=given["overwrite"]
    )
    if given["dtype"] not in DTYPES:
        raise UsageError(f"--dtype {given['dtype']!r} must be one of {', '.join(DTYPES)}")
    scale = given.get("scale")
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise UsageError(f"--scale {scale} must be above 0, e.g. 1000 for millimetres")
    device, size = o.check_device(given["device"]), o.parse_size(given["size"])

    with collector_rests():
        from dptcli.training.batches import TrainOptions
        from dptcli.training.fit import fine_tune

    options = TrainOptions(
        warmup=max(1, min(50, given["steps"] // 10)),
        checkpoint_every=max(1, min(100, given["steps"] // 10)),
        **{
            name: given[name]
            for name in (
                "steps", "batch_size", "accumulate", "learning_rate", "backbone_rate", "variants",
                "validate_every", "patience", "seed", "dtype",
            )
        },
    )  # fmt: skip
    with _progress(options.steps, quiet=given["quiet"]) as report:
        fit = fine_tune(
            given["pairs"],
            task=task,
            model=given["model"],
            folder=folder,
            options=options,
            device=device,
            size=size,
            offline=given["offline"],
            gives=check_gives(given.get("gives")),
            scale=scale,
            ignore_index=given.get("ignore_index"),
            validation=given["validation"],
            hold_out=given["hold_out"],
            report=report,
        )
    for name, value in fit.after.items():
        print(f"{name} {fit.before[name]:.3f} -> {value:.3f}")
    print(folder)
    return 0


@contextmanager
def _progress(num_steps: int, *, quiet: bool) -> "Iterator[Callable[[Progress], None]]":
    """Show the run on stderr: a bar on a terminal, else a line now and then."""
    live = not quiet and sys.stderr.isatty()
    bar = progress_bar(unit="steps") if live else None
    every = max(1, num_steps // 20)

    def report(progress: "Progress") -> None:
        known = progress.validation
        line = f"step {progress.step}/{num_steps}: loss {progress.loss:.4f}" + (
            "" if known is None else f", held out {known:.4f}"
        )
        if bar is not None:
            bar.update(task, completed=progress.step)
            if known is not None:
                bar.console.print(line, markup=False)
        elif not quiet and (known is not None or progress.step % every == 0):
            say(line)

    if bar is None:
        yield report
        return
    with bar:
        task = bar.add_task("steps", total=num_steps)
        yield report
