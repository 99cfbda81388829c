"""`dpt info`: what an image or a result is."""

import json
from typing import Annotated, Any

import typer

from dptcli.cli import options as o
from dptcli.cli.terminal.console import say
from dptcli.errors import ImageError


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(epilog="Exit codes: 0 done, 1 some could not be read, 2 wrong usage.")(info)


def info(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Photographs or results, e.g. [cyan]depth/a.npy[/]"),
    ],
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            rich_help_panel=o.MESSAGES,
            metavar="",
            help="One JSON object per file, e.g. [cyan]dpt info a.png --json[/]",
        ),
    ] = False,
) -> int:
    """Tell what an image or a result is: size, kind and unit of its values, model, orientation.

    [cyan]dpt info photo.jpg depth/photo.npy[/]
    """
    from pathlib import Path

    from dptcli.results.restore import describe

    failed = False
    for index, name in enumerate(files):
        try:
            about = describe(Path(name))
        except ImageError as error:
            failed = True
            say(f"dpt: {error}")
            continue
        if as_json:
            print(json.dumps(about, default=str))
            continue
        if index:
            print()
        _print_facts(about)
    return 1 if failed else 0


def _print_facts(about: dict[str, Any], indent: str = "") -> None:
    from dptcli.inputs.decode import printable

    width = max((len(str(key)) for key in about), default=0)
    for key, value in about.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print_facts(value, indent + "  ")
        else:
            text = f"{value:.6g}" if isinstance(value, float) else printable(str(value))
            print(f"{indent}{key!s:<{width}}  {text}")
