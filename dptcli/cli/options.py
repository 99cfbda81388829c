"""The options that commands share, and what their values may be. Loads nothing heavy."""

import math
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from dptcli.errors import UsageError
from dptcli.runtimes.known import OTHER_DEVICES
from dptcli.weights import DEFAULT_MODEL

INPUT = "Input"
OUTPUT = "Output"
MODEL = "Model and speed"
MESSAGES = "Messages"

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
Gives = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        rich_help_panel=MODEL,
        show_default=False,
        help="What the model's values are, where its files don't say it or are wrong: metres, "
        "inverse (large is near) or depth (large is far, no scale), "
        "e.g. [cyan]--gives metres[/]",
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
TorchDevice = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        rich_help_panel=MODEL,
        show_default=False,
        help="auto (the default), cpu, cuda, cuda:N or mps, e.g. [cyan]--device cuda:1[/]",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        rich_help_panel=MODEL,
        show_default=False,
        help="auto (the default), cpu, cuda, cuda:N or mps, e.g. [cyan]--device cuda:1[/]; with "
        "another --runtime gpu, npu, coreml or directml",
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
Runtime = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=MODEL,
        show_default=False,
        help="What runs the network: torch, openvino, onnxruntime or tensorrt (extras of these "
        "names); auto (the default) is torch unless dpt bench --choose found another faster "
        "here, e.g. [cyan]--runtime openvino[/]",
    ),
]
Optimize = Annotated[
    bool,
    typer.Option(
        "--optimize/--no-optimize",
        rich_help_panel=MODEL,
        show_default=False,
        help="Run the plain network, without the cheaper steps to the same result, "
        "e.g. [cyan]--no-optimize[/]",
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        rich_help_panel=MODEL,
        metavar="",
        help="Read every pixel of photographs on GPUs too, e.g. [cyan]--exact[/]",
    ),
]
NoExact = Annotated[
    bool,
    typer.Option(
        "--no-exact",
        rich_help_panel=MODEL,
        metavar="",
        help="Read large JPEGs at a half to an eighth of each side, about twice what the network "
        "sees, where nothing else looks at them: faster, and off by about .1 % of depth's range. "
        "The default on GPUs, e.g. [cyan]--no-exact[/]",
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        rich_help_panel=MODEL,
        metavar="",
        help="Never download: built-in models, folders and the cache alone, e.g. "
        "[cyan]--offline[/]",
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


# Numbers are read here and not by the parser, whose messages do not name the value.
def parse_batch_size(value: str) -> int | Literal["auto"]:
    """Read --batch-size. Raises UsageError."""
    if value == "auto":
        return "auto"
    if not re.fullmatch(r"[1-9]\d{0,5}", value):
        raise UsageError(f"--batch-size {value!r} must be auto or a whole number, 1 or more")
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


def check_task(value: str) -> str:
    """Return --task when it is one we know. Raises UsageError."""
    if value == "depth" or value == "segment":
        return value
    raise UsageError(f"--task {value!r} must be depth or segment")


def read_folder(value: str, *, holds: str, what: str, overwrite: bool) -> Path:
    """Read -o of a command that fills a folder of its own.

    holds: the file by which a folder is known to be in use. what: what is in it then. Raises
    UsageError for one in use, and for one that cannot be written, before the work that fills it.
    """
    from dptcli.results.disk import refuse_unwritable

    folder = Path(value)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {value!r} is a file; name a folder")
    if (folder / holds).exists() and not overwrite:
        raise UsageError(f"-o {value!r} holds {what}; replace it with --overwrite")
    refuse_unwritable(folder)
    return folder


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
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value) or OTHER_DEVICES.fullmatch(value):
        return value
    raise UsageError(f"--device {value!r} must be auto, cpu, cuda, cuda:N or mps")


def check_dtype(value: str, *, optimize: bool = True) -> str:
    """Return --dtype when it is one we know. Raises UsageError."""
    if value == "int8" and not optimize:
        raise UsageError("--dtype int8 is one of the cheaper steps; leave out --no-optimize")
    if value in DTYPES:
        return value
    raise UsageError(f"--dtype {value!r} must be {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")


def read_exact(*, exact: bool, no_exact: bool) -> bool | None:
    """Read --exact and --no-exact; None is as the device has it. Raises UsageError."""
    if exact and no_exact:
        raise UsageError("--exact and --no-exact contradict each other; leave one out")
    return exact if exact or no_exact else None


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
