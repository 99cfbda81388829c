"""`dpt calibrate`: metres that are kept with a model."""

import json
from typing import Annotated

import typer

from dptcli.cli import options as o
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.counted import counted


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(
        epilog="Exit codes: 0 done, 2 wrong usage or model, or distances that fit no line."
    )(calibrate)


def calibrate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            show_default=False,
            help="A model of depth, by name or folder, e.g. [cyan]depth-anything-v2-small[/]",
        ),
    ],
    pairs: Annotated[
        str,
        typer.Argument(
            metavar="PAIRS",
            show_default=False,
            help="A CSV of image,x,y,metres, or photographs with depth as dpt eval takes them, "
            "e.g. [cyan]rooms/[/]",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            show_default=False,
            help="Where the model goes that gives metres, e.g. [cyan]-o my-camera/[/]",
        ),
    ],
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            metavar="",
            help="Replace a model that FOLDER holds, e.g. [cyan]--overwrite[/]",
        ),
    ] = False,
    offline: o.Offline = False,
    device: o.TorchDevice = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="JSON instead of text, e.g. [cyan]--json[/]")
    ] = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Fit a model's depth to known distances once, and keep the metres with it.

    [cyan]dpt calibrate dpt-small distances.csv -o my-camera/[/]
    [cyan]dpt depth photos/ -o depth/ -m my-camera/[/]
    """
    set_up_logging(verbose=verbose, quiet=quiet)
    folder = o.read_folder(output, holds="config.json", what="a model already", overwrite=overwrite)
    target = o.check_device(device)

    from dptcli.depth import calibration as c
    from dptcli.weights.load import load_model

    loaded = c.raw_model(
        load_model(model, task="depth", device=target, dtype="float32", offline=offline)
    )
    line, held, num = c.calibrate(loaded, pairs)
    about = {"num_photographs": num, "held_out": None if held is None else held.facts()}
    c.write_calibrated(loaded, folder, line, about)
    if as_json:
        print(json.dumps({"output": str(folder), **line.facts(), **about}))
        return 0
    value = f"{line.scale:.6g} · value + {line.shift:.6g}"
    formula = f"1 / ({value})" if line.of == "inverse_depth" else value
    print(f"{folder}: metres = {formula}, by {counted(num, 'photograph')}")
    if held is None:
        print("nothing was kept back to try it on: give two photographs or more")
        return 0
    print(
        f"kept back in turn, {held.num} photographs were off by {held.error:.1%} on average, "
        f"{held.share_within_25:.0%} of their places by less than a quarter "
        f"(each fitted to itself: {held.own_error:.1%})"
    )
    return 0
