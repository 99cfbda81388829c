"""`dpt depth --camera 0 --show`: a camera's depth as a live picture. Loads nothing heavy."""

import contextlib
import importlib.util
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dptcli.cli.commands import load_command
from dptcli.cli.depth_outputs import read_outputs
from dptcli.cli.predicting.engine import open_for
from dptcli.cli.predicting.outputs import Needs
from dptcli.cli.predicting.request import read_request
from dptcli.cli.terminal.console import say, stderr_console
from dptcli.cli.terminal.screen import open_screen
from dptcli.cli.terminal.signals import Stopped
from dptcli.counted import counted
from dptcli.errors import ImageError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from dptcli.cli.predicting.request import Request
    from dptcli.cli.terminal.screen import Screen
    from dptcli.depth.outputs import DepthOutputs
    from dptcli.pipeline import Pipeline
    from dptcli.video.camera import Camera, Frames

LIVE = "A camera, live"

CameraName = Annotated[
    str | None,
    typer.Option(
        "--camera",
        metavar="CAMERA",
        show_default=False,
        rich_help_panel=LIVE,
        help="In place of INPUT and -o: a number (0 is the first), a device, an rtsp:// or http:// "
        "address, or a video file; always its newest frame, but all of a file "
        "(extra live), e.g. [cyan]--camera 0 --show[/]",
    ),
]
Show = Annotated[
    bool,
    typer.Option(
        "--show",
        rich_help_panel=LIVE,
        metavar="",
        help="Draw it in a window, without a display in the terminal, until q, Esc or Ctrl-C, "
        "e.g. [cyan]--camera 0 --show --side-by-side[/]",
    ),
]

# What a live picture is drawn by; everything else is for results that are written.
_TAKEN = frozenset(
    {"camera", "show", "model", "gives", "size", "offline", "device", "dtype", "optimize"}
    | {"runtime", "target_size", "colormap", "invert", "grayscale", "value_range", "gamma"}
    | {"refine_edges", "colorbar", "side_by_side", "quiet", "verbose"}
)
_WAIT_S = 0.1  # for a frame, before the window is asked whether it was closed


def run_live(given: Mapping[str, Any]) -> int:
    """Draw a camera's depth until the camera or the person who looks ends it; the exit code.

    Raises UsageError before anything is loaded, ImageError where no frame came.
    """
    name = _check(given)
    # Of the readers of a run's options; a still's, for the camera's name may be that of a clip.
    given = {**given, "inputs": ["camera"], "output": "live.png"}
    request = read_request("depth", given)
    outputs = read_outputs(request, given)

    from dptcli.video.camera import Camera
    from dptcli.weights.catalog import find_model

    find_model(request.model, task="depth", offline=request.offline)
    with Camera(name) as camera, contextlib.closing(open_screen(f"dpt: {name}")) as screen:
        shown = stderr_console()
        loading = shown.status(f"loading {request.model}")
        with loading if shown.is_terminal and not request.quiet else contextlib.nullcontext():
            pipeline = open_for(request, Needs(keep_rgb=outputs.needs_photo))
            outputs.check_model(pipeline.loaded)
        if not request.quiet:
            say(f"camera {name} by {request.model}; {screen.hint}")
        drawn = _Drawn(pipeline, outputs)
        with contextlib.suppress(KeyboardInterrupt, Stopped):
            _draw_all(camera.frames, drawn, screen)
    return _ended(name, camera, drawn, request)


def _check(given: Mapping[str, Any]) -> str:
    """Return the camera's name. Raises UsageError for what does not go with it."""
    if given["camera"] is None:
        raise UsageError(
            "--show draws what a camera sees: add --camera 0; of photographs --preview draws the "
            "first results in the terminal"
        )
    if not given["show"]:
        raise UsageError(
            f"--camera {given['camera']!r} is for a live picture: add --show; a clip's depth is "
            "written without --camera, e.g. dpt depth clip.mp4 -o depth.mp4"
        )
    for param in load_command("depth").params:
        value = given.get(str(param.name))
        if param.name in _TAKEN or not value or value == param.default:
            continue
        what = f"the input {value[0]!r}" if param.name == "inputs" else param.opts[0]
        raise UsageError(f"--camera is shown live, and nothing is written; leave out {what}")
    if given["value_range"] == "global":
        raise UsageError(
            "--range global spans a run, and a live picture has no end; leave it out, or give "
            "values, e.g. --range 0:30"
        )
    if importlib.util.find_spec("cv2") is None:
        raise UsageError("--camera needs OpenCV; pip install 'dptcli[live]'")
    return str(given["camera"])


class _Drawn:
    """Frames to pictures, and how many."""

    def __init__(self, pipeline: "Pipeline", outputs: "DepthOutputs") -> None:
        from dptcli.video.smoothing import SlowRange

        self._pipeline, self._outputs = pipeline, outputs
        self._range = SlowRange()
        self._started: float | None = None
        self.number, self.seconds = 0, 0.0

    def draw(self, frame: Any) -> "Image.Image":
        """The picture of a frame's depth, RGB, in a range that follows the frames' slowly."""
        from dptcli.depth.depthmap import DepthMap
        from dptcli.depth.picture import ValueRange
        from dptcli.depth.sphere import refined

        if self._started is None:
            self._started = time.perf_counter()
        prediction = self._pipeline.predict_one(frame)
        kind, values = self._pipeline.loaded.kind, prediction.values
        if self._outputs.refine:
            values = refined(values, prediction, kind=kind, apart=prediction.sky)
        depth = DepthMap(values, kind, prediction.limits, rgb=prediction.rgb)
        look = self._outputs.look
        lo, hi = self._range.next(look.limits(depth))
        picture, _facts = replace(look, value_range=ValueRange("fixed", lo, hi)).draw(depth)
        return picture.convert("RGB")

    def count(self) -> None:
        """Note that a picture was shown."""
        assert self._started is not None
        self.number += 1
        self.seconds = time.perf_counter() - self._started


def _draw_all(frames: "Frames", drawn: _Drawn, screen: "Screen") -> None:
    while not screen.is_closed and not frames.ended:
        frame = frames.read(_WAIT_S)
        if frame is not None:
            screen.show(drawn.draw(frame))
            drawn.count()


def _ended(name: str, camera: "Camera", drawn: _Drawn, request: "Request") -> int:
    """Say what was shown. Raises ImageError where the camera gave nothing."""
    is_over = camera.frames.ended
    if is_over and not drawn.number:
        raise ImageError(
            f"camera {name!r} gave no frame; another program may hold it, or it is no video"
        )
    if not request.quiet:
        why = f"camera {name} gives no more frames; " if is_over and not camera.is_file else ""
        rate = drawn.number / drawn.seconds if drawn.number else 0.0
        say(f"{why}{counted(drawn.number, 'frame')}, {rate:.1f} frames/s")
    return 0
