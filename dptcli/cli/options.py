"""The options that commands share, and what their values may be. Loads nothing heavy."""

import math
import re
from typing import Annotated, Literal

import typer

from dptcli.cli.predicting.engine import Engine as Engine
from dptcli.cli.predicting.engine import GPUsPerWorker as GPUsPerWorker
from dptcli.cli.predicting.engine import RayAddress as RayAddress
from dptcli.cli.predicting.engine import Workers as Workers
from dptcli.errors import UsageError
from dptcli.weights import DEFAULT_MODEL

INPUT = "Input"
VIDEO = "Video and sequences"
OUTPUT = "Output"
MODEL = "Model and speed"
MESSAGES = "Messages"

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
        rich_help_panel=INPUT,
        help="Read inputs from a list, one a line; - is standard input, "
        "e.g. [cyan]--from-file list.txt[/]",
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "--null",
        "-0",
        rich_help_panel=INPUT,
        metavar="",
        help="The list is separated by NUL bytes, e.g. [cyan]find . -name '*.jpg' -print0 | "
        "dpt depth --from-file - -0 -o out[/]",
    ),
]
NoRecursive = Annotated[
    bool,
    typer.Option(
        "--no-recursive",
        rich_help_panel=INPUT,
        metavar="",
        help="Leave subfolders out, e.g. [cyan]photos/ --no-recursive[/]",
    ),
]
MaxPixels = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=INPUT,
        help="Refuse larger images (179M by default), e.g. [cyan]--max-pixels 500M[/]",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        show_default=False,
        rich_help_panel=OUTPUT,
        help="A file for one image, a folder for several (it mirrors the input's tree), "
        "a video (.mp4, .mkv, .mov, .webm), - for standard output, e.g. [cyan]-o depth/[/]",
    ),
]
TargetSize = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        rich_help_panel=OUTPUT,
        show_default=False,
        help="Size of the result: HEIGHTxWIDTH, the short side, model, or original (the default, "
        "and what the bare option means), e.g. [cyan]--target-size 480x640[/]",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        rich_help_panel=OUTPUT,
        metavar="",
        help="Do everything anew and replace whatever exists; without it a run does what is "
        "missing or has changed, e.g. [cyan]photos/ -o depth/ --overwrite[/]",
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        rich_help_panel=OUTPUT,
        metavar="",
        help="Keep whatever exists, made by dpt or not, and do the rest, "
        "e.g. [cyan]-o depth/ --skip-existing[/]",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        show_default=False,
        rich_help_panel=OUTPUT,
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
        "(0.8 by default), e.g. [cyan]--smoothing 0.5[/]",
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
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        rich_help_panel=MODEL,
        show_default=False,
        help=f"A name that `dpt models` lists ({DEFAULT_MODEL} by default), owner/name on the "
        "hub, or a folder with config.json, e.g. [cyan]-m dpt-large[/]",
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        show_default=False,
        rich_help_panel=MODEL,
        help="What the network sees, HEIGHTxWIDTH or one number (the model's own by default): "
        "larger is finer and slower, e.g. [cyan]--size 518[/]",
    ),
]
Tile = Annotated[
    str | None,
    typer.Option(
        metavar="[SIZE]",
        show_default=False,
        rich_help_panel=MODEL,
        help="Finer detail: cut each photograph into overlapping tiles of SIZE of its pixels (half "
        "of the short side without SIZE) and join their results, e.g. [cyan]--tile 1500[/]",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        rich_help_panel=MODEL,
        show_default=False,
        help="auto (the default), cpu, cuda, cuda:N or mps, e.g. [cyan]--device cuda:1[/]",
    ),
]
DType = Annotated[
    str,
    typer.Option(
        metavar="DTYPE",
        rich_help_panel=MODEL,
        show_default=False,
        help="auto (the default), float32, bfloat16, float16, or int8 on the CPU, which rounds "
        "(dpt bench says how much); auto is bfloat16 where the processor computes it natively, "
        "e.g. [cyan]--dtype bfloat16[/]",
    ),
]
Optimize = Annotated[
    bool,
    typer.Option(
        "--optimize/--no-optimize",
        rich_help_panel=MODEL,
        show_default=False,
        help="Take the cheaper steps to the same result (the default), or the plain ones, e.g. "
        "[cyan]--no-optimize[/]",
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        rich_help_panel=MODEL,
        metavar="",
        help="Never download: built-in models, folders and the cache alone, e.g. "
        "[cyan]-m dpt-large --offline[/]",
    ),
]
BatchSize = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        rich_help_panel=MODEL,
        show_default=False,
        help="Images of one shape for the network at once; auto (the default) is 1 on the CPU and "
        "what a GPU's memory holds, 32 at most, e.g. [cyan]--batch-size 4[/]",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        rich_help_panel=MESSAGES,
        metavar="",
        help="One JSON line per image on standard output, e.g. [cyan]--json > log.jsonl[/]",
    ),
]
Report = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default=False,
        rich_help_panel=MESSAGES,
        help="Write the run's account as JSON: options, versions, machine, every image, stage "
        "times; dpt report merge joins several, e.g. [cyan]--report run.json[/]",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        rich_help_panel=MESSAGES,
        metavar="",
        help="Print failures and errors alone, e.g. [cyan]-q[/]",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        rich_help_panel=MESSAGES,
        metavar="",
        help="Log each step, stage times and tracebacks, e.g. [cyan]-v 2> log.txt[/]",
    ),
]

DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")


MIN_TILE = 64  # in less a network sees no things


# Numbers are read here and not by the parser, whose messages do not name the value.
def parse_batch_size(value: str) -> int | Literal["auto"]:
    """Read --batch-size. Raises UsageError."""
    if value == "auto":
        return "auto"
    if not re.fullmatch(r"[1-9]\d{0,5}", value):
        raise UsageError(f"--batch-size {value!r} must be auto or a whole number, 1 or more")
    return int(value)


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


def parse_bits(value: str) -> int:
    """Read --bits. Raises UsageError."""
    if value not in {"8", "16"}:
        raise UsageError(f"--bits {value!r} must be 8 or 16")
    return int(value)


def parse_number(option: str, value: str, *, example: str) -> float:
    """Read an option's number; what range it must lie in is said where it is used."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{option} {value!r} must be a number, e.g. {option} {example}")
    return number


def parse_size(value: str | None, *, option: str = "--size") -> int | tuple[int, int] | None:
    """Read --size: (height, width) or one number. Raises UsageError."""
    if value is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})(?:[xX×]([1-9]\d{0,4}))?", value)
    if found is None:
        raise UsageError(
            f"{option} {value!r} must be HEIGHTxWIDTH or one number in pixels, e.g. {option} 518"
        )
    return (int(found[1]), int(found[2])) if found[2] else int(found[1])


def check_device(value: str) -> str:
    """Return --device when its form is right; whether it is there is the loader's to say."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        return value
    raise UsageError(f"--device {value!r} must be auto, cpu, cuda, cuda:N or mps")


def check_dtype(value: str, *, optimize: bool = True) -> str:
    """Return --dtype when it is one we know. Raises UsageError."""
    if value == "int8" and not optimize:
        raise UsageError("--dtype int8 is one of the cheaper steps; leave out --no-optimize")
    if value in DTYPES:
        return value
    raise UsageError(f"--dtype {value!r} must be {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")


def parse_max_pixels(value: str | None, *, option: str = "--max-pixels") -> int | None:
    """Return a count of pixels as a number; 1500000, 250M and 1G are understood."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG]?)", value)
    scale = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
    pixels = int(float(found[1]) * scale[found[2].lower()]) if found else 0
    if pixels < 1:
        raise UsageError(f"{option} {value!r} must be a number above 0, e.g. 500k or 2M")
    return pixels
