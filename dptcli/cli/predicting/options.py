"""The options of `dpt depth` and `dpt segment` alone. Loads nothing heavy."""

import math
import re
from typing import Annotated, Literal

import typer

from dptcli.cli import options as o
from dptcli.errors import UsageError

VIDEO = "Video and sequences"
MACHINES = "Many machines"

EPILOG = (
    "Exit codes: 0 all done, 1 some images failed and the others are written, "
    "2 wrong usage or model, 130 interrupted."
)

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        show_default=False,
        help="Photographs, folders, globs, a video, or - for one image on standard input, "
        "e.g. [cyan]photo.jpg holiday/ 'raw/**/*.tif'[/]",
    ),
]
FromFile = Annotated[
    str | None,
    typer.Option(
        "--from-file",
        metavar="LIST",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="Read inputs from a list, one a line; - is standard input, "
        "e.g. [cyan]--from-file list.txt[/]",
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "--null",
        "-0",
        rich_help_panel=o.INPUT,
        metavar="",
        help="The list is separated by NUL bytes, e.g. [cyan]find . -name '*.jpg' -print0 | "
        "dpt depth --from-file - -0 -o out[/]",
    ),
]
NoRecursive = Annotated[
    bool,
    typer.Option(
        "--no-recursive",
        rich_help_panel=o.INPUT,
        metavar="",
        help="Leave subfolders out, e.g. [cyan]photos/ --no-recursive[/]",
    ),
]
Root = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="Mirror the tree below this folder, whichever of its files are named: for calls by "
        "xargs and parallel, e.g. [cyan]find photos -name '*.jpg' | xargs dpt depth --root photos "
        "-o depth/[/]",
    ),
]
MaxPixels = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="Refuse larger images (179M by default), e.g. [cyan]--max-pixels 500M[/]",
    ),
]
Levels = Annotated[
    str | None,
    typer.Option(
        metavar="RANGE",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="The values that become black and white in pictures of more than 8 bits, the same for "
        "all; else each file's own bits, else its range, e.g. [cyan]--levels 0:4095[/]",
    ),
]
Page = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="The page or frame to read of files that hold several, counted from 1 (the first by "
        "default), e.g. [cyan]scan.tif --page 2[/]",
    ),
]
WatchEvery = Annotated[
    str | None,
    typer.Option(
        "--watch",
        metavar="[SECONDS]",
        show_default=False,
        rich_help_panel=o.INPUT,
        help="Go on when all is done, and look for new and changed images every so many seconds (2 "
        "without SECONDS) until Ctrl-C, as `dpt watch` does, e.g. [cyan]photos/ -o depth/ "
        "--watch[/]",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        show_default=False,
        rich_help_panel=o.OUTPUT,
        help="A file for one image, a folder for several (it mirrors the input's tree), "
        "a video (.mp4, .mkv, .mov, .webm), - for standard output, e.g. [cyan]-o depth/[/]",
    ),
]
TargetSize = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        rich_help_panel=o.OUTPUT,
        show_default=False,
        help="Size of the result: HEIGHTxWIDTH, the short side, model, or original (the default, "
        "and what the bare option means), e.g. [cyan]--target-size 480x640[/]",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        rich_help_panel=o.OUTPUT,
        metavar="",
        help="Do everything anew and replace whatever exists; without it a run does what is "
        "missing or has changed, e.g. [cyan]photos/ -o depth/ --overwrite[/]",
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        rich_help_panel=o.OUTPUT,
        metavar="",
        help="Keep whatever exists, made by dpt or not, and do the rest, "
        "e.g. [cyan]-o depth/ --skip-existing[/]",
    ),
]
Suffix = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        show_default=False,
        rich_help_panel=o.OUTPUT,
        help="Put this behind a result's name, for results beside their photographs, "
        "e.g. [cyan]photos/ -o photos/ --suffix _depth[/]",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        show_default=False,
        rich_help_panel=o.OUTPUT,
        help="Do part I of N of the images, counted from 1, for job arrays: the same list and "
        "folder for each, e.g. [cyan]photos/ -o depth/ --shard 3/8[/]",
    ),
]
Frames = Annotated[
    str | None,
    typer.Option(
        metavar="A:B[:STEP]",
        show_default=False,
        rich_help_panel=VIDEO,
        help="Frames of a clip, or images of a sequence, from A to before B, counted from 0, "
        "e.g. [cyan]clip.mp4 --frames 100:400[/]",
    ),
]
InOrder = Annotated[
    bool,
    typer.Option(
        "--sequence",
        rich_help_panel=VIDEO,
        metavar="",
        help="The images are the frames of one shot: one range, no flicker, "
        "e.g. [cyan]frames/ -o depth/ --sequence[/]",
    ),
]
Smoothing = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        show_default=False,
        rich_help_panel=VIDEO,
        help="How steady depth is held from frame to frame, 0 (every frame on its own) to 1 "
        "(0.8 by default, 0 for models of video), e.g. [cyan]--smoothing 0.5[/]",
    ),
]
FPS = Annotated[
    str | None,
    typer.Option(
        metavar="RATE",
        show_default=False,
        rich_help_panel=VIDEO,
        help="Frames a second of a video made of images (25 by default), "
        "e.g. [cyan]frames/ -o depth.mp4 --fps 30000/1001[/]",
    ),
]
Audio = Annotated[
    bool,
    typer.Option(
        "--audio",
        rich_help_panel=VIDEO,
        metavar="",
        help="Copy the clip's sound, e.g. [cyan]clip.mp4 -o depth.mp4 --audio[/]",
    ),
]
Tile = Annotated[
    str | None,
    typer.Option(
        metavar="[SIZE]",
        show_default=False,
        rich_help_panel=o.MODEL,
        help="Finer detail: cut each photograph into overlapping tiles of SIZE of its pixels (half "
        "of the short side without SIZE) and join their results, e.g. [cyan]--tile 1500[/]",
    ),
]
BatchSize = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        rich_help_panel=o.MODEL,
        show_default=False,
        help="Images of one shape for the network at once; auto (the default) is 1 on the CPU and "
        "what a GPU's memory holds, 32 at most, e.g. [cyan]--batch-size 4[/]",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="local|ray",
        rich_help_panel=MACHINES,
        show_default=False,
        help="local (the default) or ray, a cluster, e.g. [cyan]--engine ray[/]",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        rich_help_panel=MACHINES,
        show_default=False,
        help="The cluster: auto, HOST:PORT or ray://HOST:PORT; without it RAY_ADDRESS, or this "
        "machine alone, e.g. [cyan]--engine ray --ray-address auto[/]",
    ),
]
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        rich_help_panel=MACHINES,
        show_default=False,
        help="Models at work in the cluster (one for each GPU, or for each machine without GPUs), "
        "e.g. [cyan]--workers 8[/]",
    ),
]
GPUsPerWorker = Annotated[
    str | None,
    typer.Option(
        "--gpus-per-worker",
        metavar="SHARE",
        rich_help_panel=MACHINES,
        show_default=False,
        help="GPUs of each model, 1 by default where there are any; a fraction lets models share "
        "one, 0 keeps to CPUs, e.g. [cyan]--gpus-per-worker 0.5[/]",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        rich_help_panel=o.MESSAGES,
        metavar="",
        help="One JSON line per image on standard output, e.g. [cyan]--json > log.jsonl[/]",
    ),
]
Report = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default=False,
        rich_help_panel=o.MESSAGES,
        help="Write the run's account as JSON: options, versions, machine, every image, stage "
        "times; dpt report merge joins several, e.g. [cyan]--report run.json[/]",
    ),
]

MIN_TILE = 64  # in less a network sees no things


def parse_tile(value: str | None) -> int | Literal["auto"] | None:
    """Read --tile, a side in pixels of the photograph. Raises UsageError."""
    if value is None or value == "auto":
        return value  # type: ignore[return-value]  # mypy does not narrow to the literal
    if not re.fullmatch(r"\d{2,5}", value) or int(value) < MIN_TILE:
        raise UsageError(
            f"--tile {value!r} must be a side in pixels of the photograph, {MIN_TILE} or more, "
            "e.g. --tile 1500"
        )
    return int(value)


def parse_shard(value: str | None) -> tuple[int, int] | None:
    """Read --shard: which part of how many, counted from 1. Raises UsageError."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", value)
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= count:
        raise UsageError(
            f"--shard {value!r} must be I/N with I from 1 to N (counted from 1), e.g. --shard 3/8"
        )
    return index, count


def parse_levels(value: str | None) -> tuple[float, float] | None:
    """Read --levels: the values of black and white. Raises UsageError."""
    if value is None:
        return None
    parts = value.split(":")
    try:
        black, white = map(float, parts)
    except ValueError:
        black = white = math.nan
    if not (math.isfinite(white - black) and black < white):
        raise UsageError(
            f"--levels {value!r} must be BLACK:WHITE, two values, the smaller first, "
            "e.g. --levels 0:4095"
        )
    return black, white


def parse_page(value: str | None) -> int | None:
    """Read --page, counted from 1. Raises UsageError."""
    if value is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,5}", value):
        raise UsageError(f"--page {value!r} must be a whole number, 1 or more, e.g. --page 2")
    return int(value)


def parse_watch(value: str | None) -> float | None:
    """Read --watch, seconds from one look to the next. Raises UsageError."""
    if value is None:
        return None
    every_s = o.parse_number("--watch", value, example="5")
    if not 0.1 <= every_s <= 86_400:
        raise UsageError(f"--watch {value!r} must be from 0.1 to 86400 seconds, e.g. --watch 5")
    return every_s


def parse_suffix(value: str | None) -> str:
    """Read --suffix, a part of a file's name. Raises UsageError."""
    if value is None:
        return ""
    if not value or re.search(r"[/\\\0]", value):
        raise UsageError(f"--suffix {value!r} must be a part of a name, e.g. --suffix _depth")
    return value
