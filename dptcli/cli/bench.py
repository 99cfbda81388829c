"""`dpt bench`: how fast is this machine, and against whom?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dptcli.benchmark import NUM_MADE
from dptcli.cli import options as o
from dptcli.cli.terminal.console import progress_line, say
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.errors import UsageError
from dptcli.running.machine import collector_rests
from dptcli.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from dptcli.benchmark.measure import Benchmark

PEERS = ("transformers", "openvino", "onnxruntime")


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(epilog="Exit codes: 0 measured, 2 wrong usage or a contender that cannot run.")(
        bench
    )


def bench(
    model: Annotated[
        str,
        typer.Argument(metavar="[MODEL]", help="A model's name or folder, dpt-small by default"),
    ] = DEFAULT_MODEL,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images",
            "-i",
            metavar="FILE|FOLDER",
            show_default=False,
            help=f"Photographs to run, again for more; {NUM_MADE} of 12 megapixels are made "
            "where none are given, e.g. [cyan]-i sample_images/[/]",
        ),
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            metavar="depth|segment",
            show_default=False,
            help="Which command's loop, depth by default, e.g. [cyan]--task segment[/]",
        ),
    ] = "depth",
    against: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            show_default=False,
            help=f"Other runtimes on the same weights: {', '.join(PEERS)}, "
            "e.g. [cyan]--against transformers,openvino[/]",
        ),
    ] = "",
    rounds: Annotated[
        str,
        typer.Option(
            metavar="N",
            show_default=False,
            help="How often each of them runs, 3 by default; the medians count, "
            "e.g. [cyan]--rounds 7[/]",
        ),
    ] = "3",
    chart: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            show_default=False,
            help="Write a bar chart, e.g. [cyan]--chart bench.png[/]",
        ),
    ] = None,
    choose: Annotated[
        bool,
        typer.Option(
            "--choose",
            metavar="",
            help="Run the loop with every --runtime that is installed, too, and write down which "
            "is fastest for this model here, for [cyan]--runtime auto[/]",
        ),
    ] = False,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            metavar="",
            help="Show where the network's time goes, by kind of operation.",
        ),
    ] = False,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            show_default=False,
            help="For a prompted model a depth sensor's map, one for all photographs, or a folder "
            "or a path with {name} as in dpt depth, e.g. [cyan]--prompt lidar.png[/]",
        ),
    ] = None,
    size: o.Size = None,
    device: o.TorchDevice = "auto",
    dtype: o.DType = "auto",
    optimize: o.Optimize = True,
    exact: o.Exact = False,
    no_exact: o.NoExact = False,
    batch_size: Annotated[
        str,
        typer.Option(
            metavar="N",
            show_default=False,
            help="Images for the network at once, 1 by default, e.g. [cyan]--batch-size 16[/]",
        ),
    ] = "1",
    as_json: Annotated[
        bool,
        typer.Option("--json", metavar="", help="Print every figure of every round as JSON."),
    ] = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> int:
    """Measure the loop on this machine, stage by stage, and against others.

    Each runtime has a process of its own, and they take turns, so that ratios are of pairs.

    [cyan]dpt bench[/]
    [cyan]dpt bench dpt-large -i photos/ --against transformers,openvino --chart bench.png[/]
    """
    set_up_logging(verbose=verbose, quiet=quiet)
    peers = [name for name in against.split(",") if name]
    unknown = [name for name in peers if name not in PEERS]
    if unknown:
        raise UsageError(f"--against {unknown[0]!r} must be among {', '.join(PEERS)}")
    o.check_task(task)
    if not rounds.isdecimal() or not 1 <= int(rounds) <= 1000:
        raise UsageError(f"--rounds {rounds!r} must be from 1 to 1000, e.g. --rounds 7")
    if chart is not None:
        from dptcli.results.disk import refuse_unwritable

        if chart.suffix.lower() != ".png":
            raise UsageError(f"--chart {str(chart)!r} must end in .png")
        refuse_unwritable(chart.parent)
    num_batch = o.parse_batch_size(batch_size)
    if num_batch == "auto":
        raise UsageError("--batch-size auto: a benchmark needs a number, e.g. --batch-size 4")

    if choose and num_batch != 1:
        raise UsageError("--choose compares one image at a time; leave out --batch-size")

    if prompt is not None and (peers or choose):
        raise UsageError(
            "--prompt: other runtimes take no sensor's map; leave out --against and --choose"
        )

    with collector_rests():
        from dptcli.benchmark.choose import choose as choose_fastest
        from dptcli.benchmark.choose import runtimes_here
        from dptcli.benchmark.measure import run_benchmark
        from dptcli.benchmark.prepare import prepared

    settings: dict[str, Any] = {
        "task": task,
        "size": o.parse_size(size),
        "device": o.check_device(device),
        "dtype": o.check_dtype(dtype, optimize=optimize),
        "optimize": optimize,
        "exact": o.read_exact(exact=exact, no_exact=no_exact),
        "batch_size": num_batch,
        "prompt": prompt,
    }
    left_out: list[str] = []
    runtimes: list[str] = []
    made = None
    if choose:
        wanted = {name: settings[name] for name in ("device", "dtype", "optimize")}
        runtimes = runtimes_here(left_out, **wanted)
    with (
        progress_line(quiet=quiet) as told,
        prepared(model, images, settings, peers, told, runtimes=runtimes) as specs,
    ):
        found = run_benchmark(specs, num_rounds=int(rounds), told=told, profile=profile)
        if choose:
            made = choose_fastest(found, specs)
    _show(found, chart=chart, as_json=as_json)
    if made is not None and not quiet:
        for line in left_out:
            say(f"left out: {line}")
        say(
            f"--runtime auto is {made.runtime} for this model here from now on: "
            f"{made.ratio:.2f} of torch's time ({made.path})"
        )
    return 0


def _show(found: "Benchmark", *, chart: Path | None, as_json: bool) -> None:
    from rich.console import Console

    from dptcli.benchmark.show import (
        accuracy_lines,
        bar_chart,
        contender_table,
        profile_table,
        stage_table,
        summary,
    )
    from dptcli.results.files import atomic_write

    if as_json:
        print(json.dumps(found.to_dict()))
    else:
        console = Console(highlight=False)
        console.print(summary(found), soft_wrap=True)
        console.print(stage_table(found))
        console.print(contender_table(found))
        for line in accuracy_lines(found):
            console.print(line, soft_wrap=True)
        if found.profile:
            console.print(profile_table(found))
    if chart is not None:
        with atomic_write(chart) as stream:
            stream.write(bar_chart(found))
