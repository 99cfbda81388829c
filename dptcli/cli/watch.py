"""`dpt watch`: a folder that fills, done as it fills."""

from typing import Annotated

import typer

from dptcli.cli import options as o
from dptcli.cli.commands import load_command
from dptcli.cli.predicting import options as p

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="FOLDER...",
        show_default=False,
        help="Folders to look at, and any option of `dpt depth` or `dpt segment`, "
        "e.g. [cyan]incoming/ -o depth/ --format png16[/]",
    ),
]
Task = Annotated[
    str,
    typer.Option(
        metavar="depth|segment",
        show_default=False,
        rich_help_panel=o.MODEL,
        help="depth (the default) or segment, e.g. [cyan]--task segment[/]",
    ),
]
Every = Annotated[
    str,
    typer.Option(
        metavar="SECONDS",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="From one look to the next, 2 by default; an image is taken when it has stayed as it "
        "is for so long, e.g. [cyan]--every 10[/]",
    ),
]

# Of options that are not its own, the command that does the work makes sense.
_ANY_OPTION = {"ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(epilog=p.EPILOG, context_settings=_ANY_OPTION)(watch)


def watch(words: Words, output: p.Output = None, task: Task = "depth", every: Every = "2") -> int:
    """Do the images of a folder, and those that come, until Ctrl-C.

    Takes the options of `dpt depth` (or `dpt segment`), whose --watch it is. An image is taken when
    it is whole, done again when it has changed, and known by its content when the watch starts
    again. It looks at intervals, so network disks will do.

    [cyan]dpt watch incoming/ -o depth/[/]
    [cyan]dpt watch incoming/ -o masks/ --task segment --overlay 0.5[/]
    """
    given = [*words, f"--watch={every}"] + ([] if output is None else ["--output", output])
    command = load_command(o.check_task(task))
    code = command.main(args=given, prog_name="dpt watch", standalone_mode=False)
    return int(code or 0)
