"""What a request to `dpt serve` asks for, read by the commands' own parser and checks."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dptcli.cli.commands import load_command
from dptcli.errors import UsageError

if TYPE_CHECKING:
    from dptcli.cli.predicting.outputs import RunOutputs
    from dptcli.cli.predicting.request import Request
    from dptcli.pipeline import Pipeline
    from dptcli.serving.describe import Field
    from dptcli.serving.limits import Limits
    from dptcli.serving.orders import Order, Task, Upload

# The options that a request may give, by their parameters' names.
_BOTH = ("page", "levels", "target_size", "size", "tile", "exact", "no_exact")
ASKED: Mapping[str, tuple[str, ...]] = {
    "depth": (
        *("formats", "colormap", "invert", "grayscale", "bits", "value_range", "gamma"),
        *("refine_edges", "colorbar", "side_by_side", "sky", "anchor", "anchors", "anchor_scale"),
        *("prompt", "fov", "focal", "intrinsics", "max_points", "edge_cut", "confidence"),
        *("strength", "ipd", "convergence", *_BOTH),
        *("panorama", "no_panorama"),
    ),
    "segment": (
        *("overlay", "layer", "outlines", "palette", "classes", "label_offset", "also", *_BOTH),
    ),
}
# Options whose value is a file: it is sent with the request, never one of this machine.
_UPLOADED = ("anchors", "prompt")
# Options whose value may be a file too, and what it is where it is none.
_MAY_BE_UPLOADED = {"palette": r"\w+", "intrinsics": r"[-+\d.,eE ]+"}
_WHEN_STARTED = frozenset(
    {"model", "gives", "device", "dtype", "optimize", "no-optimize", "offline", "batch-size"}
    | {"max-pixels", "runtime"}
)


class OrderReader:
    """Reads requests for the pipelines of a server, {task: pipeline}."""

    def __init__(self, pipelines: "Mapping[Task, Pipeline]", limits: "Limits") -> None:
        self._pipelines = pipelines
        self._limits = limits
        self._commands = {task: load_command(task) for task in pipelines}
        self._params = {
            task: {
                param.opts[0].removeprefix("--"): param
                for param in self._commands[task].params
                if param.name in ASKED[task]
            }
            for task in pipelines
        }

    def fields(self, task: "Task") -> "list[Field]":
        """What a request may say, in the words of the command's help."""
        from dptcli.serving.describe import Field

        fields = []
        for name, param in self._params[task].items():
            kind = "file" if param.name in _UPLOADED else "boolean" if param.is_flag else "string"
            text = re.sub(r"\[/?\w*\]", "", param.help or "")
            panel = param.rich_help_panel or ""
            fields.append(
                Field(name=name, help=text, kind=kind, repeated=bool(param.multiple), panel=panel)
            )
        return fields

    def __call__(self, upload: "Upload", folder: Path) -> "Order":
        """Read one request, whose results go into a folder. Raises UsageError."""
        from dptcli.cli.predicting.engine import options_for
        from dptcli.inputs.find import ImageSource
        from dptcli.results.plan import plan_outputs
        from dptcli.serving.orders import Order

        request, outputs = self._read(upload, folder)
        pipeline = self._pipelines[upload.task]
        if outputs.needs.prompts is not None and not pipeline.loaded.takes_prompt:
            from dptcli.depth.prompts import prompt_remedy

            raise UsageError(prompt_remedy(pipeline.loaded.name, takes_prompt=False))
        source = ImageSource(upload.image, Path(upload.name), sent_as=upload.name)
        plan = plan_outputs(
            [source], str(folder), suffixes=outputs.suffixes, sidecar=outputs.sidecar
        )
        ready = pipeline.with_options(options_for(request, outputs.needs), size=request.size)
        save = outputs.make_save(ready.loaded, plan)
        return Order(job=plan.jobs[0], pipeline=ready, save=save)

    def _read(self, upload: "Upload", folder: Path) -> "tuple[Request, RunOutputs]":
        words = [word for name, value in upload.options for word in self._word(upload, name, value)]
        for name, path in upload.files.items():
            if name not in self._params[upload.task]:
                raise UsageError(f"{name} is no option of {upload.task}; leave it out")
            words.append(f"--{name}={path}")
        try:
            command = self._commands[upload.task]
            given: dict[str, Any] = command.make_context("dpt", words).params
        except typer.TyperException as error:
            raise UsageError(error.format_message().rstrip(".").replace("--", "")) from None
        given = {
            **given,
            "inputs": [str(upload.image)],
            "output": str(folder),
            "model": self._pipelines[upload.task].loaded.name,
            "max_pixels": str(self._limits.max_pixels),
            "runtime": "torch",
        }
        request, outputs = _reader_of(upload.task)(given)
        self._check(request, outputs)
        return request, outputs

    def _word(self, upload: "Upload", sent: str, value: str) -> list[str]:
        """One option as the command line has it. Raises UsageError."""
        from dptcli.serving.uploads import is_true

        name = sent.replace("_", "-")
        param = self._params[upload.task].get(name)
        if param is None:
            if name in _WHEN_STARTED:
                raise UsageError(f"{name} is chosen where the server is started: dpt serve --help")
            raise UsageError(f"{sent!r} is no option of {upload.task} here; GET /docs lists them")
        is_file = not re.fullmatch(_MAY_BE_UPLOADED.get(str(param.name), r"[^\0]*"), value)
        if param.name in _UPLOADED or is_file:
            raise UsageError(f"{name} {value!r}: send the file itself, e.g. curl -F {name}=@file")
        if param.is_flag:
            return [f"--{name}"] if is_true(name, value) else []
        if param.name == "tile":
            if value not in ("auto", ""):
                raise UsageError(f"tile {value!r} must be auto here: tiles of half the short side")
            value = "auto"
        if param.name == "target_size":
            value = value or "original"
        return [f"--{name}={value}"]

    def _check(self, request: "Request", outputs: "RunOutputs") -> None:
        """Raise UsageError for what has no place here, RefusedError for what is too large."""
        from dptcli.serving.limits import RefusedError

        if request.clip is not None:
            raise UsageError(
                f"{Path(request.inputs[0]).suffix} is a video, and photographs are served; send "
                "its frames"
            )
        if outputs.run_all is not None:
            raise UsageError("range global spans a run of many images; give values, e.g. 0:30")
        size, most = request.size, self._limits.max_side
        longest = max(size) if isinstance(size, tuple) else size or 0
        if longest > most:
            message = f"size {longest} is above the limit of {most}; take a smaller one"
            raise RefusedError(413, message)


def _reader_of(task: "Task") -> "Callable[[Mapping[str, Any]], tuple[Request, RunOutputs]]":
    from dptcli.cli import depth, segment

    read = depth.read_run if task == "depth" else segment.read_run

    def without_engine(given: Mapping[str, Any]) -> "tuple[Request, RunOutputs]":
        request, outputs, _engine = read(given)
        return replace(request, existing="overwrite"), outputs

    return without_engine
