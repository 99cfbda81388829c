"""A benchmark for people: tables for 80 columns, a bar chart."""

import io
from statistics import median
from typing import Any

from rich.table import Table

from dptcli.benchmark.measure import Benchmark, Row


def stage_table(found: Benchmark) -> Table:
    """Busy seconds a photograph, stage by stage; stages overlap, so they add up to more."""
    table = Table(title="The loop, by stage", title_justify="left")
    table.add_column("stage")
    table.add_column("ms a photograph", justify="right")
    stages = found.stages()
    for name, spent_s in stages.items():
        if name != "load":
            table.add_row(name, _ms(spent_s * 1e3))
    whole_s = median(found.rows[0].photographs_s) / found.num_images
    table.add_section()
    table.add_row("from file to file", _ms(whole_s * 1e3))
    table.caption = f"loading took {stages.get('load', 0):.2f} s, once"
    table.caption_justify = "left"
    return table


def profile_table(found: Benchmark) -> Table:
    """Where the network's time goes by kind of operation, milliseconds an image and shares."""
    title = "The network, by kind of operation"
    table = Table(title=title, title_justify="left")
    for heading in ("operations", "ms an image", "share"):
        table.add_column(heading, justify="left" if heading == "operations" else "right")
    whole_s = sum(found.profile.values())
    for kind, spent_s in found.profile.items():
        table.add_row(kind, _ms(spent_s / found.batch_size * 1e3), f"{spent_s / whole_s:.1%}")
    return table


def contender_table(found: Benchmark) -> Table:
    """Medians, and how many times as long as ours the others take."""
    table = Table(title="Side by side", title_justify="left")
    on_gpu = found.rows[0].device_peak_mib is not None
    peak = "GPU peak MiB" if on_gpu else "peak MiB"
    for heading in ("", "network ms", "ratio", "photograph ms", "ratio", peak):
        table.add_column(heading, justify="right" if heading else "left")
    for row in found.rows:
        peak_mib = row.device_peak_mib if on_gpu else row.peak_mib
        table.add_row(
            row.name,
            _ms(_forward_ms(found, row)),
            _times(found.ratio(row, "forward_s")),
            _ms(_photograph_ms(found, row)) if row.photographs_s else "–",
            _times(found.ratio(row, "photographs_s")),
            "–" if peak_mib is None else f"{peak_mib:.0f}",
        )
    return table


def accuracy_lines(found: Benchmark) -> list[str]:
    """How far each runtime's results are from the plain network's in float32."""
    lines = []
    for row in found.rows:
        if (apart := row.facts.get("accuracy")) is None:
            continue
        told = ", ".join(f"{name.replace('_', ' ')} {value:.2e}" for name, value in apart.items())
        lines.append(f"{row.name}, {row.facts['dtype']}: {told}")
    return lines


def summary(found: Benchmark) -> str:
    """The machine, the rate of its products, and how near the network comes to it."""
    ours, machine = found.rows[0], found.machine
    height, width = ours.facts["network_hw"]
    rate = found.num_images / median(ours.photographs_s)
    exact = found.accuracy
    differs = ""
    if "same_labels" in exact:
        differs = f"\nlabels as float32's: {exact['same_labels']:.2%}"
    elif exact:
        differs = (
            f"\ndifference from float32: mean {exact['mean_difference']:.2%}, at most "
            f"{exact['max_difference']:.1%} of the map's range"
        )
    for name, number in ours.facts.get("plain_attentions", {}).items():
        differs += f"\nno optimised form yet: {name} ({number} of them)"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['capability']}; "
        f"torch {machine['torch']}\n"
        f"{ours.facts['dtype']} on {ours.facts.get('gpu') or ours.facts['device']}, "
        f"{height}x{width}, batch "
        f"{found.batch_size}: {rate:.2f} photographs/s\n"
        f"{_arithmetic(found)}{differs}"
    )


def _arithmetic(found: Benchmark) -> str:
    """How much arithmetic the network is, and how near it comes to a product's rate."""
    rate = found.network_gflop_per_s
    if rate is None:  # its way depends on what it sees
        return f"network's GFLOP unknown; a matrix product {found.gflop_per_s:.0f} GFLOP/s"
    return (
        f"network {found.rows[0].facts['gflop']:.0f} GFLOP an image, {rate:.0f} GFLOP/s; a matrix "
        f"product {found.gflop_per_s:.0f} ({rate / found.gflop_per_s:.0%})"
    )


def bar_chart(found: Benchmark) -> bytes:
    """Bars of both medians for every contender, as PNG bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.5 * len(found.rows)), layout="constrained")
    names = [row.name for row in found.rows][::-1]
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, names, [_forward_ms(found, row) for row in found.rows][::-1])
    left.set_xlabel("network, ms an image")
    whole = [_photograph_ms(found, row) if row.photographs_s else 0.0 for row in found.rows]
    _bars(right, names, whole[::-1])
    right.set_xlabel("photograph, file to file, ms")
    figure.suptitle(f"{found.machine['processor']}, {found.machine['cores']} cores", fontsize=9)
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()


def _bars(axes: Any, names: list[str], values: list[float]) -> None:
    bars = axes.barh(names, values, color=["#9aa5b1"] * (len(names) - 1) + ["#2a7f9e"])
    axes.bar_label(bars, [f"{value:.0f}" if value else "–" for value in values], padding=3)
    axes.margins(x=0.18)
    axes.spines[["top", "right"]].set_visible(False)


def _forward_ms(found: Benchmark, row: Row) -> float:
    return median(row.forward_s) / found.batch_size * 1e3


def _photograph_ms(found: Benchmark, row: Row) -> float:
    return median(row.photographs_s) / found.num_images * 1e3


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}×"
