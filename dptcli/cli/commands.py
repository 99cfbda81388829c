"""The commands by name: `dpt --help` lists them from here and loads none of their modules."""

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from dptcli.cli.help_pages import arrange

# In the order of `dpt --help`, each with the first sentence of its own help. The module of the
# same name adds the command by `register`.
COMMANDS: Mapping[str, str] = {
    "depth": "Estimate how near everything in a photograph is, and write it as a picture.",
    "segment": "Name what every pixel of a photograph shows, and write it as a mask.",
    "watch": "Do the images of a folder, and those that come, until Ctrl-C.",
    "serve": "Keep a model loaded and give results over HTTP, until Ctrl-C.",
    "gallery": "Make a page to look at results: photographs against depth or classes, offline.",
    "info": (
        "Tell what an image or a result is: size, kind and unit of its values, model, orientation."
    ),
    "restore": "Give the depth values of a result back as a NumPy array, float32 (height, width).",
    "models": "List the models that have names, and manage those in the cache.",
    "convert": (
        "Turn an original file into a model folder, and check that both give the same numbers."
    ),
    "calibrate": "Fit a model's depth to known distances once, and keep the metres with it.",
    "export": "Write a model as an ONNX file and check it against our own output.",
    "eval": "Measure a model, or predictions made earlier, on photographs with known answers.",
    "bench": "Measure the loop on this machine, stage by stage, and against others.",
    "report": "Join the accounts that runs wrote with --report.",
    "train": "Fine-tune a model on photographs with known depth or labels.",
}


class Group(TyperGroup):
    """A group of commands whose own options are all flags."""

    def get_params(self, ctx: Any) -> Any:
        """Return the group's options."""
        return without_pydantic(super().get_params(ctx))


class LazyGroup(Group):
    """The group of all commands; each is a name and a sentence until it is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        arrange(self)
        for name, sentence in COMMANDS.items():
            self.commands[name] = TyperCommand(name, help=sentence)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the command itself in the place of its sentence, and find it."""
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = load_command(args[0])
        return super().resolve_command(ctx, args)


def load_command(name: str) -> Any:
    """Return the command itself, with its options and its own commands."""
    registry = typer.Typer(rich_markup_mode="rich")
    registry.callback()(lambda: None)  # Typer makes no group of a single command without one
    importlib.import_module(f"dptcli.cli.{name}").register(registry)
    group = typer.main.get_group(registry)
    command: Any = group.commands[name]
    get_params = command.get_params
    command.get_params = lambda ctx: without_pydantic(get_params(ctx))
    arrange(command)
    return command


def without_pydantic(params: Sequence[Any]) -> Sequence[Any]:
    """Let words be words and flags be flags: Typer asks pydantic, which loads for 0.13 s."""
    for param in params:
        annotation = getattr(getattr(param, "type_descriptor", None), "annotation", None)
        if annotation is bool and not param.default:
            param.default = False  # Typer's own flags are None when they are not given
        elif annotation in (str, list[str]) and "process_value" not in vars(param):
            param.process_value = functools.partial(_take_words, param, param.process_value)
    return params


def _take_words(param: Any, otherwise: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    if param.callback is not None or (param.required and not value):
        return otherwise(ctx, value)
    if value is None or isinstance(value, str):
        return value
    return list(value) or value
