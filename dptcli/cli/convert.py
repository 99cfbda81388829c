"""`dpt convert`: the authors' own files in the hub's layout."""

from pathlib import Path
from typing import Annotated

import typer

from dptcli.cli import options as o
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.errors import UsageError
from dptcli.kinds import MEANINGS
from dptcli.model.families import families

# "Depth Anything 3, any views" has the authors and the files of Depth Anything 3.
_AUTHORS = dict.fromkeys(
    family.title.partition(",")[0] for family in families() if family.has_originals
)
_EPILOG = "Exit codes: 0 done, 2 wrong usage, or a file that cannot be read or does not fit."


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(epilog=_EPILOG)(convert)


def convert(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            show_default=False,
            help="A model, or a .pt or .pth of the authors of "
            + ", ".join(_AUTHORS)
            + ", e.g. [cyan]dpt_hybrid_kitti-cb926ef4.pt[/]",
        ),
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            show_default=False,
            help="Where to write the model, e.g. [cyan]models/kitti[/]",
        ),
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            show_default=False,
            help="What the file's tensors cannot tell, where its name does not either; a wrong "
            "one names those that fit, e.g. [cyan]--kind kitti[/]",
        ),
    ] = None,
    max_depth: Annotated[
        str | None,
        typer.Option(
            metavar="M",
            show_default=False,
            help="Where its metres end, in place of what its files say, e.g. [cyan]--max-depth "
            "80[/]",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            metavar="",
            help="Replace a model that FOLDER holds, e.g. [cyan]--overwrite[/]",
        ),
    ] = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Turn an original file into a model folder, and check that both give the same numbers.

    [cyan]dpt convert dpt_hybrid_nyu-2ce69ec7.pt models/nyu[/]
    [cyan]dpt depth photo.jpg -m models/nyu -o depth.png[/]
    """
    set_up_logging(quiet=quiet, verbose=verbose)
    farthest = None
    if max_depth is not None:
        farthest = o.parse_number("--max-depth", max_depth, example="80")
        if not farthest > 0:
            raise UsageError(f"--max-depth {max_depth!r} must be above 0, e.g. --max-depth 80")
    from dptcli.results.disk import refuse_unwritable
    from dptcli.weights.convert import convert_original

    refuse_unwritable(folder)
    done = convert_original(file, folder, kind=kind, max_depth_m=farthest, overwrite=overwrite)
    gives = "class labels" if done.task == "segment" else MEANINGS[done.kind].title
    print(f"{done.folder}: {done.num_parameters / 1e6:.1f} M parameters, {gives}; checked")
    return 0
