"""How a command's options stand in its help: by purpose, what is rarely needed last.

Loads nothing heavy. What is parsed stays as the commands declare it.
"""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

from dptcli.cli import options as o

RARE = "Rarely needed"
# Of the long pages alone: others are read at a glance.
_ARRANGED = ("depth", "segment")
_RARE = (
    *("null", "root", "watch", "levels", "max_pixels", "suffix", "label_offset"),
    *("anchor_scale", "segment_model", "gives", "offline", "dtype", "exact", "no_exact"),
    *("optimize", "batch_size"),
)


def arrange(command: Any, *, within: str = "") -> None:
    """Let the help of a command, and of those within it, show its options as `arranged` has them.

    within: the group that it is a command of.
    """
    for own in getattr(command, "commands", {}).values():
        arrange(own, within=command.name)
    format_help, get_params = command.format_help, command.get_params
    rare = not within and command.name in _ARRANGED
    command.help = flowing(command.help or "")

    def format_arranged(ctx: Any, formatter: Any) -> None:
        command.get_params = lambda ctx: arranged(get_params(ctx), rare=rare)
        try:
            format_help(ctx, formatter)
        finally:
            command.get_params = get_params

    command.format_help = format_arranged


def flowing(text: str) -> str:
    """A docstring's paragraphs on a line each, for the terminal to break; examples keep theirs."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        part if part.startswith("[cyan]") else " ".join(part.splitlines()) for part in paragraphs
    )


def arranged(params: Sequence[Any], *, rare: bool) -> list[Any]:
    """Copies of a command's parameters for its help; rare: with a panel of the rarely needed."""
    has_messages = any(_panel(param) == o.MESSAGES for param in params)
    shown = []
    for param in map(copy.copy, params):
        if param.param_type_name == "argument":
            param.display_type_rich = lambda **_: None  # `list[str]` tells nobody anything
        elif getattr(param, "is_flag", False):  # <bool> does not, either
            param.metavar = ""
        if param.name == "help" and has_messages:
            param.rich_help_panel = o.MESSAGES
        if param.secondary_opts:  # on by default: the other word is the one to know
            param.opts, param.secondary_opts = param.secondary_opts, []
            param.show_default = False
        if rare and param.name in _RARE:
            param.rich_help_panel = RARE
        shown.append(param)
    # A panel stands where its first option does.
    return sorted(shown, key=lambda param: _RARE.index(param.name) + 1 if _is_rare(param) else 0)


def _is_rare(param: Any) -> bool:
    return _panel(param) == RARE


def _panel(param: Any) -> str | None:
    panel: str | None = getattr(param, "rich_help_panel", None)
    return panel
