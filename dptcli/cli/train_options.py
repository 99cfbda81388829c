"""The options of `dpt train`. Loads nothing heavy."""

from typing import Annotated

import typer

from dptcli.cli import options as o
from dptcli.weights import DEFAULT_MODEL

TRAINING = "How it is trained"

Pairs = Annotated[
    str | None,
    typer.Argument(
        metavar="PAIRS",
        show_default=False,
        help="pairs.csv (columns image,target,kind,scale) or a folder of pairs, as for "
        "`dpt eval`, e.g. [cyan]rooms/[/]",
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="Stored depth / S = metres, where pairs.csv has no scale of its own; without both "
        "integers are millimetres, e.g. [cyan]--scale 256[/] (KITTI)",
    ),
]
IgnoreIndex = Annotated[
    int | None,
    typer.Option(
        metavar="ID",
        min=0,
        max=65_535,
        show_default=False,
        rich_help_panel=o.INPUT,
        help="The label maps' id that does not count (the model's own by default, most often 255); "
        "the new model says so, e.g. [cyan]--ignore-index 0[/]",
    ),
]
From = Annotated[
    str,
    typer.Option(
        "--from",
        "-m",
        metavar="MODEL",
        show_default=False,
        rich_help_panel=o.MODEL,
        help=f"The model to begin with, a name or a folder ({DEFAULT_MODEL} by default), "
        "e.g. [cyan]--from ./my-model[/]",
    ),
]
Folder = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        show_default=False,
        rich_help_panel=o.OUTPUT,
        help="Where the model goes; a run that was stopped goes on from there, "
        "e.g. [cyan]-o my-model/[/]",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        rich_help_panel=o.OUTPUT,
        help="Replace a model in the folder, e.g. [cyan]-o my-model/ --overwrite[/]",
    ),
]
Validation = Annotated[
    str | None,
    typer.Option(
        "--validation",
        metavar="PAIRS",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="Pairs to measure on, instead of some of the first, e.g. [cyan]--validation val/[/]",
    ),
]
HoldOut = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        rich_help_panel=o.INPUT,
        help="Every N-th pair is measured on, not learnt from; 0 none, e.g. [cyan]--hold-out 5[/]",
    ),
]
Steps = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        rich_help_panel=TRAINING,
        help="Steps to train, e.g. [cyan]--steps 2000[/]",
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        rich_help_panel=TRAINING,
        help="Images in a batch, e.g. [cyan]--batch-size 4[/]",
    ),
]
Accumulate = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        rich_help_panel=TRAINING,
        help="Batches for one step, where memory is short, e.g. [cyan]--accumulate 4[/]",
    ),
]
Rate = Annotated[
    float,
    typer.Option(
        "--learning-rate",
        metavar="R",
        rich_help_panel=TRAINING,
        help="The highest rate at which neck and head learn, e.g. [cyan]--learning-rate 1e-4[/]",
    ),
]
BackboneRate = Annotated[
    float,
    typer.Option(
        metavar="R",
        min=0,
        rich_help_panel=TRAINING,
        help="The same of the backbone; 0 keeps it as it is, and its features in memory, "
        "e.g. [cyan]--backbone-rate 5e-6[/]",
    ),
]
Variants = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        rich_help_panel=TRAINING,
        help="Crops and distortions of each image whose features are kept; 0 draws new ones at "
        "every step, e.g. [cyan]--variants 8[/]",
    ),
]
ValidateEvery = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        rich_help_panel=TRAINING,
        help="Steps from one validation to the next, e.g. [cyan]--validate-every 50[/]",
    ),
]
Patience = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        rich_help_panel=TRAINING,
        help="Stop after N validations without a better one; 0 never, e.g. [cyan]--patience 5[/]",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        rich_help_panel=TRAINING,
        help="Another one draws other crops in another order, e.g. [cyan]--seed 1[/]",
    ),
]
DType = Annotated[
    str,
    typer.Option(
        metavar="DTYPE",
        rich_help_panel=o.MODEL,
        help="Mixed precision: float32 (none), bfloat16 or float16, e.g. [cyan]--dtype bfloat16[/]",
    ),
]
