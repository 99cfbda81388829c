"""The options of `dpt serve` alone, and what their values may be. Loads nothing heavy."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from dptcli.cli import options as o
from dptcli.errors import UsageError

LISTENING = "Where it listens"
LIMITS = "Limits"

TOKEN_VARIABLE = "DPT_SERVE_TOKEN"
_SHORTEST_TOKEN = 16

Task = Annotated[
    str | None,
    typer.Option(
        metavar="depth|segment",
        show_default=False,
        rich_help_panel=o.MODEL,
        help="Serve this alone (all that the model's name gives by default), "
        "e.g. [cyan]--task depth[/]",
    ),
]
Host = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        show_default=False,
        rich_help_panel=LISTENING,
        help="127.0.0.1, this machine alone, by default; elsewhere a token is needed, "
        "e.g. [cyan]--host 0.0.0.0 --token-file token[/]",
    ),
]
Port = Annotated[
    str,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=LISTENING,
        help="8000 by default; 0 is any that is free, e.g. [cyan]--port 8080[/]",
    ),
]
TokenFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default=False,
        rich_help_panel=LISTENING,
        help=f"Give results to requests with this file's token alone (or {TOKEN_VARIABLE}'s), "
        "e.g. [cyan]--token-file token[/]",
    ),
]
Queue = Annotated[
    str,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=LIMITS,
        help="Images taken in at once, 32 by default; who comes then is told when to come again, "
        "e.g. [cyan]--queue 8[/]",
    ),
]
MaxBytes = Annotated[
    str,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=LIMITS,
        help="Refuse larger uploads (64M by default), e.g. [cyan]--max-bytes 20M[/]",
    ),
]
MaxPixels = Annotated[
    str,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=LIMITS,
        help="Refuse larger images and results (50M by default), e.g. [cyan]--max-pixels 12M[/]",
    ),
]
MaxSide = Annotated[
    str,
    typer.Option(
        metavar="N",
        show_default=False,
        rich_help_panel=LIMITS,
        help="The largest side of what the network may be asked to see, 1036 by default, "
        "e.g. [cyan]--max-side 518[/]",
    ),
]
Timeout = Annotated[
    str,
    typer.Option(
        metavar="SECONDS",
        show_default=False,
        rich_help_panel=LIMITS,
        help="For an upload, and from there to its result, 60 by default, "
        "e.g. [cyan]--timeout 20[/]",
    ),
]
BatchSize = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        rich_help_panel=o.MODEL,
        show_default=False,
        help="Images of one shape that wait go through the network at once; auto (the default) is "
        "1 on the CPU and what a GPU's memory holds, 32 at most, e.g. [cyan]--batch-size 4[/]",
    ),
]


def parse_port(value: str) -> int:
    """Read --port. Raises UsageError."""
    if not re.fullmatch(r"\d{1,5}", value) or int(value) > 65_535:
        raise UsageError(f"--port {value!r} must be a whole number from 0 to 65535")
    return int(value)


def parse_count(option: str, value: str, *, most: int) -> int:
    """Read a whole number, 1 or more. Raises UsageError."""
    if not re.fullmatch(r"[1-9]\d{0,6}", value) or int(value) > most:
        raise UsageError(f"{option} {value!r} must be a whole number from 1 to {most}")
    return int(value)


def parse_timeout(value: str) -> float:
    """Read --timeout in seconds. Raises UsageError."""
    seconds = o.parse_number("--timeout", value, example="20")
    if not 0.1 <= seconds <= 3600:
        raise UsageError(f"--timeout {value!r} must be from 0.1 to 3600 seconds, e.g. --timeout 20")
    return seconds


def read_token(file: str | None) -> str | None:
    """The token that requests must carry; None for none. Raises UsageError."""
    if file is None:
        token, origin = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
        if not token:
            return None
    else:
        origin = f"--token-file {file!r}"
        try:
            token = Path(file).read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it holds more than letters and digits"
            raise UsageError(f"{origin} cannot be read: {reason}; give a text file") from error
    if not re.fullmatch(r"[\x21-\x7e]+", token) or len(token) < _SHORTEST_TOKEN:
        raise UsageError(
            f"{origin} must hold {_SHORTEST_TOKEN} printable characters or more, without spaces, "
            "e.g. those of: openssl rand -hex 16"
        )
    return token
