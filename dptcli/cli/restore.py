"""`dpt restore`: depth values back from a result."""

from typing import TYPE_CHECKING, Annotated

import typer

from dptcli.cli import options as o
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.depth.formats import result_stem
from dptcli.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(epilog="Exit codes: 0 done, 1 the file could not be read, 2 wrong usage.")(restore)


def restore(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A result of dpt depth, e.g. [cyan]a.depth16.png[/]"),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            show_default=False,
            rich_help_panel=o.OUTPUT,
            help="The .npy file to write (NAME.npy by default), e.g. [cyan]-o depth.npy[/]",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            metavar="",
            rich_help_panel=o.OUTPUT,
            help="Replace a file that exists, else it is refused, e.g. [cyan]--overwrite[/]",
        ),
    ] = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Give the depth values of a result back as a NumPy array, float32 (height, width).

    16-bit PNGs come back within half a level (but for values beyond a --range that was asked for),
    float files exactly; what a level stands for is read from the PNG itself or from NAME.json
    beside it.

    [cyan]dpt restore photo.depth16.png -o depth.npy[/]
    """
    set_up_logging(verbose=verbose, quiet=quiet)
    from pathlib import Path

    from dptcli.results.restore import restore as read_back
    from dptcli.results.writers import write_array, write_whole

    source = Path(file)
    target = _target(source, output, overwrite=overwrite)
    found = read_back(source)
    write_whole(target, lambda stream: write_array(stream, found.values))
    if not quiet:
        kind, unit = found.facts.get("kind", "map"), found.facts.get("unit", "unknown")
        exact = "exact" if not found.max_error else f"within {found.max_error:.3g}"
        height, width = found.values.shape
        print(f"{target}: {kind}, unit {unit}, {height}×{width}, {exact}")
    return 0


def _target(source: "Path", output: str | None, *, overwrite: bool) -> "Path":
    from pathlib import Path

    if output is None:
        target = source.with_name(result_stem(source.name) + ".npy")
    else:
        target = Path(output)
        if target.suffix.lower() != ".npy":
            raise UsageError(f"dpt restore writes .npy files; instead of {output!r} name a .npy")
    if target.exists():
        if source.exists() and target.samefile(source):
            raise UsageError(f"{str(source)!r} is the array itself; nothing was done")
        if not overwrite:
            raise UsageError(f"{str(target)!r} exists; add --overwrite, or name another with -o")
    return target
