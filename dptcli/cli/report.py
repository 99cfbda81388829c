"""`dpt report`: the accounts that runs write with --report."""

from pathlib import Path
from typing import Annotated

import typer

from dptcli.cli import options as o
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.counted import counted
from dptcli.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    reports = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
    reports.command(epilog="Exit codes: 0 done, 2 wrong usage or a file that is no report.")(merge)
    app.add_typer(
        reports,
        name="report",
        help="Join the accounts that runs wrote with --report.\n\n"
        "[cyan]dpt report merge a.json b.json -o all.json[/]",
    )


def merge(
    reports: Annotated[
        list[Path],
        typer.Argument(
            metavar="REPORT",
            show_default=False,
            help="Files that --report wrote, e.g. [cyan]shard-*.json[/]",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default=False,
            help="The joined report, of the same form, e.g. [cyan]-o all.json[/]",
        ),
    ] = None,
    keep_latest: Annotated[
        bool,
        typer.Option(
            "--keep-latest",
            metavar="",
            help="Of an image that two runs did, take the later; without it that is refused, "
            "e.g. [cyan]--keep-latest[/]",
        ),
    ] = False,
    quiet: o.Quiet = False,
) -> None:
    """Join the reports of a job's parts, or of an interrupted run and the one that went on.

    [cyan]dpt report merge shard-*.json -o all.json[/]
    """
    set_up_logging(verbose=False, quiet=quiet)
    if output is None:
        raise UsageError("where to? give -o, e.g. dpt report merge a.json b.json -o all.json")

    import io
    import json
    import sys

    from dptcli.records.runreport import merge as merge_reports
    from dptcli.records.runreport import refuse_foreign, write_report

    refuse_foreign(output, option="-o")
    merged = merge_reports(reports, keep_latest=keep_latest)
    images = "".join(json.dumps(image) + "\n" for image in merged.pop("images"))
    try:
        write_report(output, merged, io.BytesIO(images.encode()))
    except OSError as error:
        raise UsageError(f"cannot write {str(output)!r}: {error.strerror}") from error
    if not quiet:
        totals = merged["totals"]
        counts = ", ".join(
            f"{count} {name.replace('_', ' ')}"
            for name, count in totals.items()
            if count and name != "images"
        )
        print(f"{counted(totals['images'], 'image')} in {output}: {counts}", file=sys.stderr)
