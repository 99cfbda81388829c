"""`dpt gallery`: look at a folder of results in a browser."""

import sys
from typing import Annotated

import typer

from dptcli.cli import options as o
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.counted import counted
from dptcli.errors import UsageError

PAGE = "Page"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(
        epilog="Exit codes: 0 done, 1 some results could not be read and are listed on the page, "
        "2 wrong usage."
    )(gallery)


def gallery(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="OUT",
            show_default=False,
            help="A folder that dpt depth or dpt segment wrote, e.g. [cyan]depth/[/]",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PAGE",
            show_default=False,
            rich_help_panel=PAGE,
            help="The page to write (OUT/gallery.html by default); its pictures go to PAGE_files, "
            "e.g. [cyan]-o site/index.html[/]",
        ),
    ] = None,
    photos: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            show_default=False,
            rich_help_panel=PAGE,
            help="Where the photographs lie now, if they moved since, "
            "e.g. [cyan]--photos holiday/[/]",
        ),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            show_default=False,
            rich_help_panel=PAGE,
            help="The page's title (the folder's name by default), "
            "e.g. [cyan]--title 'Holiday in depth'[/]",
        ),
    ] = None,
    detail: Annotated[
        str,
        typer.Option(
            metavar="PIXELS",
            show_default=False,
            rich_help_panel=PAGE,
            help="Long side of the pictures in the viewer, 1024 by default: more is finer and "
            "takes more disk, e.g. [cyan]--detail 2048[/]",
        ),
    ] = "1024",
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Make a page to look at results: photographs against depth or classes, offline.

    An HTML file and a folder of pictures beside it, which need no network: a slider between
    photograph and result, other colours and ranges, the value under the pointer, search, and a
    list of what failed. The results stay as they are.

    [cyan]dpt gallery depth/[/]
    [cyan]dpt gallery masks/ -o page/index.html --photos holiday/[/]
    """
    set_up_logging(verbose=verbose, quiet=quiet)
    if not detail.isdecimal() or not 64 <= int(detail) <= 16384:
        raise UsageError(f"--detail {detail!r} must be a number of pixels from 64 to 16384")

    from dptcli.gallery import build_gallery

    shown = -1

    def on_done(done: int, total: int) -> None:
        nonlocal shown
        percent = 100 * done // total
        if not quiet and sys.stderr.isatty() and percent != shown:
            shown = percent
            end = "\r" if done < total else "\n"
            print(f"{done} of {counted(total, 'result')}", end=end, file=sys.stderr, flush=True)

    built = build_gallery(
        folder, page=output, photos=photos, title=title, detail=int(detail), on_done=on_done
    )
    num_unread = built.num_unread
    if not quiet:
        notes = [counted(built.num_results, "result")]
        notes += [f"{counted(len(built.failures), 'failure')} listed"] if built.failures else []
        print(f"{', '.join(notes)}: open this in a browser:", file=sys.stderr)
    print(built.page)
    return 1 if num_unread else 0
