"""`dpt serve`: a model kept warm, for programs that ask over HTTP."""

import contextlib
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from dptcli.cli import options as o
from dptcli.cli import serve_options as s
from dptcli.cli.predicting.runtime import runtime_found
from dptcli.cli.terminal.console import say, stderr_console
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.cli.terminal.signals import Stopped
from dptcli.counted import counted
from dptcli.errors import DptError, ModelError, UsageError
from dptcli.kinds import check_gives
from dptcli.running.machine import collector_rests
from dptcli.runtimes.known import AUTO, TORCH, check_runtime
from dptcli.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from dptcli.pipeline import Pipeline

_TASKS = ("depth", "segment")


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    epilog = "Exit codes: 0 stopped by Ctrl-C or SIGTERM, 2 wrong usage or model."
    app.command(epilog=epilog)(serve)


def serve(
    model: o.ModelName = DEFAULT_MODEL,
    task: s.Task = None,
    gives: o.Gives = None,
    size: o.Size = None,
    offline: o.Offline = False,
    device: o.Device = "auto",
    dtype: o.DType = "auto",
    optimize: o.Optimize = True,
    runtime: o.Runtime = AUTO,
    batch_size: s.BatchSize = "auto",
    host: s.Host = "127.0.0.1",
    port: s.Port = "8000",
    token_file: s.TokenFile = None,
    queue: s.Queue = "32",
    max_bytes: s.MaxBytes = "64M",
    max_pixels: s.MaxPixels = "50M",
    max_side: s.MaxSide = "1036",
    timeout: s.Timeout = "60",
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Keep a model loaded and give results over HTTP, until Ctrl-C.

    POST a photograph to /depth or /segment; the options are those of `dpt depth` and `dpt segment`,
    as fields of the form or in the query. /docs has them with a form to try, /health and /metrics
    are for whoever watches.

    [cyan]dpt serve[/]
    [cyan]curl -F image=@photo.jpg http://127.0.0.1:8000/depth > depth.png[/]
    [cyan]curl -F image=@photo.jpg -F format=npy http://127.0.0.1:8000/depth > depth.npy[/]
    """
    set_up_logging(verbose=verbose, quiet=quiet)
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        if importlib.util.find_spec(module) is None:
            raise UsageError(f"dpt serve needs {module}; pip install 'dptcli[serve]'")
    tasks = _TASKS if task is None else (o.check_task(task),)
    check_runtime(runtime, device=device, dtype=dtype, optimize=optimize)
    runtimes = dict.fromkeys(tasks, runtime)
    if runtime == AUTO:
        given = locals()
        runtimes = {each: runtime_found(each, given) if optimize else TORCH for each in tasks}
    wanted: dict[str, Any] = {
        "gives": check_gives(gives),
        "offline": offline,
        "device": o.check_device(device),
        "dtype": o.check_dtype(dtype, optimize=optimize),
        "optimized": optimize,
    }
    network_size, at_once = o.parse_size(size), o.parse_batch_size(batch_size)
    port_number, token = s.parse_port(port), s.read_token(token_file)

    from dptcli.serving.limits import Limits
    from dptcli.serving.server import is_loopback

    limits = Limits(
        max_bytes=o.parse_max_pixels(max_bytes, option="--max-bytes") or 0,
        max_pixels=o.parse_max_pixels(max_pixels) or 0,
        max_side=s.parse_count("--max-side", max_side, most=8192),
        max_s=s.parse_timeout(timeout),
        room=s.parse_count("--queue", queue, most=100_000),
    )
    if token is None and not is_loopback(host):
        raise UsageError(
            f"--host {host!r} listens beyond this machine: give a secret with --token-file FILE or "
            f"{s.TOKEN_VARIABLE}, e.g. made by: openssl rand -hex 16"
        )

    from dptcli.serving.server import listen

    with contextlib.closing(listen(host, port_number)) as listener:
        shown = stderr_console()
        with shown.status(f"loading {model}") if shown.is_terminal else contextlib.nullcontext():
            pipelines = _open(model, runtimes, size=network_size, batch_size=at_once, **wanted)

        from dptcli.cli.serve_orders import OrderReader
        from dptcli.serving.app import make_app
        from dptcli.serving.desk import Desk
        from dptcli.serving.metrics import Metrics
        from dptcli.serving.server import address_of, run_server

        metrics, reader = Metrics(), OrderReader(pipelines, limits)
        desk = Desk(reader, list(pipelines.values()), limits=limits, metrics=metrics)
        try:
            clocks = [pipeline.clock for pipeline in pipelines.values()]
            metrics.follow(clocks, lambda: desk.num_taken, room=limits.room)
            app = make_app(
                desk,
                metrics,
                fields={found: reader.fields(found) for found in pipelines},
                models={found: pipeline.loaded.name for found, pipeline in pipelines.items()},
                limits=limits,
                token=token,
                hosts=("127.0.0.1", "localhost", "::1", host) if token is None else (),
            )
            line = f"serving {', '.join(pipelines)} by {model} at {address_of(listener, host)}"
            with contextlib.suppress(KeyboardInterrupt, Stopped):
                run_server(app, listener, lambda: None if quiet else say(f"{line}; Ctrl-C ends it"))
        finally:
            desk.close()
    if not quiet:
        say(f"stopped; took in {counted(desk.num_begun, 'image')}")
    return 0


def _open(
    model: str,
    runtimes: Mapping[str, str],
    *,
    size: int | tuple[int, int] | None,
    batch_size: object,
    gives: str | None,
    **wanted: Any,
) -> "dict[str, Pipeline]":
    """The model for each task that it is for, run as `runtimes` says, {task: runtime}.

    Raises ModelError where it is for none.
    """
    with collector_rests():
        from dptcli.pipeline import Options, open_pipeline
        from dptcli.runtimes.opening import open_model

    pipelines: dict[str, Pipeline] = {}
    refused: DptError | None = None
    for task, runtime in runtimes.items():
        try:
            own = gives if task == "depth" else None
            loaded = open_model(
                model,
                runtime=runtime,
                in_order=False,
                normals=False,
                task=task,
                gives=own,
                **wanted,
            )
        except ModelError as error:
            refused = refused or error
            continue
        options = Options(batch_size=batch_size)  # type: ignore[arg-type]
        pipelines[task] = open_pipeline(
            loaded,
            task=task,  # type: ignore[arg-type]
            size=size,
            prompted=loaded.takes_prompt,
            options=options,
        )
        _warm(pipelines[task])
    if not pipelines:
        assert refused is not None
        raise refused
    return pipelines


def _warm(pipeline: "Pipeline") -> None:
    """Let the first request find everything made that is made once."""
    if pipeline.loaded.takes_prompt:
        return
    import numpy as np

    pipeline.predict_one(np.zeros((480, 640, 3), np.uint8))
