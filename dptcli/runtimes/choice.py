"""What `dpt bench --choose` found fastest on this machine, for `--runtime auto`. Loads no torch.

A finding holds for the model's content, the machine, the device, the dtype, the size, and the
versions that were compared: where any differs, `auto` is PyTorch.
"""

import contextlib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dptcli import __version__
from dptcli.errors import DptError, ImageError
from dptcli.running.machine import processor_name, usable_cores
from dptcli.runtimes.known import RUNTIMES, TORCH
from dptcli.weights.catalog import find_model
from dptcli.weights.fingerprint import model_hash

_NAME = "runtimes.json"


def choices_path() -> Path:
    """The user's file of findings."""
    root = os.environ.get("XDG_CONFIG_HOME") or os.environ.get("APPDATA")
    return (Path(root) if root else Path.home() / ".config") / "dpt" / _NAME


def chosen(model: str, task: str, **options: Any) -> str:
    """The runtime for a model here, as it was found; torch where nothing was, or things changed.

    options: device, dtype and size, as they were given.
    """
    findings = _read(choices_path())
    if not findings:  # before anything is hashed
        return TORCH
    try:
        key = _key(find_model(model, task=task, offline=True), task, options)
    except (DptError, OSError):  # whoever loads it says so
        return TORCH
    found = findings.get(key)
    if not isinstance(found, dict) or found.get("runtime") not in RUNTIMES:
        return TORCH
    name = str(found["runtime"])
    return name if found.get("versions") == versions(name) else TORCH


def write_choice(
    model: str, task: str, runtime: str, facts: Mapping[str, Any], **options: Any
) -> Path:
    """Keep a finding; options as in `chosen`, facts are for who reads the file.

    Raises ImageError where the file cannot be written.
    """
    from dptcli.results.files import write_text

    path = choices_path()
    findings = _read(path)
    key = _key(find_model(model, task=task), task, options)
    findings[key] = {
        "runtime": runtime,
        "versions": versions(runtime),
        "model": model,
        "task": task,
        "processor": processor_name(),
        "cores": usable_cores(),
        **options,
        **facts,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(findings, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ImageError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    return path


def versions(runtime: str) -> dict[str, str | None]:
    """What a comparison depends on: ours, PyTorch's and the runtime's version."""
    found: dict[str, str | None] = {"dpt": __version__, "torch": None}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found["torch"] = importlib.metadata.version("torch")
    if runtime in RUNTIMES:
        found[runtime] = RUNTIMES[runtime].version
    return found


def _key(folder: Path, task: str, options: Mapping[str, Any]) -> str:
    size = options["size"]
    named = {**options, "size": list(size) if isinstance(size, tuple) else size}
    machine = [processor_name(), usable_cores(), os.environ.get("DPT_CPU")]
    return json.dumps([model_hash(folder), task, machine, sorted(named.items())])


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
