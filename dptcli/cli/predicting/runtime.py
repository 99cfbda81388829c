"""Which runtime a command's network runs in. Loads nothing heavy."""

from collections.abc import Mapping
from typing import Any

from dptcli.cli import options as o
from dptcli.cli.predicting.clip_request import read_clip
from dptcli.cli.terminal.console import say
from dptcli.errors import UsageError
from dptcli.runtimes.known import AUTO, RUNTIMES, TORCH, check_runtime


def settle_runtime(task: str, given: Mapping[str, Any]) -> str:
    """The runtime that --runtime means here, never auto. Raises UsageError.

    auto is PyTorch, unless `dpt bench --choose` found another one faster on this machine.
    """
    wanted, device, dtype = given["runtime"], given["device"], given["dtype"]
    check_runtime(wanted, device=device, dtype=dtype, optimize=given["optimize"])
    if wanted not in (AUTO, TORCH) and given.get("with_segments"):
        raise UsageError(
            f"--with-segments is PyTorch's, both models on one backbone; leave out --runtime "
            f"{wanted}, or run dpt depth and dpt segment"
        )
    if wanted != AUTO:
        return str(wanted)
    # What was found holds for this machine, and for a network of its own.
    if not given["optimize"] or given["engine"] != "local" or given.get("with_segments"):
        return TORCH
    # Of photographs, whose models may tell more of a clip, or normals, by PyTorch alone.
    if read_clip(given) is not None or "normals" in str(given.get("formats")):
        return TORCH
    return runtime_found(task, given)


def runtime_found(task: str, given: Mapping[str, Any]) -> str:
    """What `dpt bench --choose` found fastest here for a model, device, dtype and size; torch."""
    from dptcli.runtimes.choice import chosen

    wanted = {name: given[name] for name in ("device", "dtype")}
    found = chosen(given["model"], task, size=o.parse_size(given["size"]), **wanted)
    if found != TORCH and not given["quiet"]:
        title = RUNTIMES[found].title
        say(f"{title}, which dpt bench --choose found faster here; --runtime torch is PyTorch")
    return found
