"""`dpt export`: a model as an ONNX file."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from dptcli.cli import options as o
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.errors import UsageError
from dptcli.kinds import check_gives


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(epilog="Exit codes: 0 written and checked, 1 not written, 2 wrong usage or model.")(
        export
    )


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model's name or its folder, e.g. [cyan]dpt-small[/]",
        ),
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="The file to write, e.g. [cyan]small.onnx[/]")
    ],
    task: Annotated[
        str | None,
        typer.Option(
            metavar="depth|segment",
            show_default=False,
            help="Which of a name's models, e.g. [cyan]--task segment[/]",
        ),
    ] = None,
    gives: o.Gives = None,
    fixed_size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            show_default=False,
            help="Make the graph for one size, which some runtimes like better, "
            "e.g. [cyan]--fixed-size 384x384[/]",
        ),
    ] = None,
    opset: Annotated[
        str,
        typer.Option(
            metavar="N",
            show_default=False,
            help="ONNX operator set, 17 by default, e.g. [cyan]--opset 18[/]",
        ),
    ] = "17",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", metavar="", help="Replace a file that exists.")
    ] = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Write a model as an ONNX file and check it against our own output.

    The batch is dynamic, and so is the size where the model's graph allows it. Beside the file,
    OUT.json says how to prepare images; the same stands in the file's metadata.

    [cyan]dpt export dpt-small depth.onnx[/]
    [cyan]dpt export ./dpt-large large.onnx --fixed-size 384x384[/]
    """
    set_up_logging(verbose=verbose, quiet=quiet)
    from dptcli.results.disk import refuse_unwritable

    if output.suffix.lower() != ".onnx":
        raise UsageError(f"the file {str(output)!r} must end in .onnx")
    if output.exists() and not (overwrite and output.is_file()):
        raise UsageError(f"{str(output)!r} exists already; add --overwrite or name another file")
    refuse_unwritable(output.parent)
    if task is not None:
        o.check_task(task)
    if not re.fullmatch(r"1[4-9]|20", opset):
        raise UsageError(f"--opset {opset!r} must be from 14 to 20")
    check_gives(gives)
    hw = o.parse_size(fixed_size, option="--fixed-size")
    if isinstance(hw, int):
        hw = (hw, hw)

    from dptcli.export import export_onnx, require_exportable
    from dptcli.weights.load import load_model

    wanted: dict[str, Any] = {"task": task, "device": "cpu", "dtype": "float32", "gives": gives}
    require_exportable(load_model(model, with_weights=False, **wanted))  # before gigabytes are read
    loaded = load_model(model, **wanted)
    exported = export_onnx(loaded, output, opset=int(opset), fixed_hw=hw)
    if exported.input_hw is None:
        size = f"any size in multiples of {exported.multiple_of}"
    else:
        size = f"{exported.input_hw[0]}x{exported.input_hw[1]} only"
        size += f" ({exported.reason})" if exported.reason else ""
    shapes = ", ".join("x".join(map(str, shape)) for shape in exported.checked)
    print(f"{output}: any batch, {size}")
    print(f"largest difference from our output at {shapes}: {exported.difference:.1e} of its range")
    return 0
