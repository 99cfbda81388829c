"""Is a model whole and does it compute what its publisher says? One check after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dptcli.model.families.entry import KnownNumbers
from dptcli.model.families.family import DEPTH, SEGMENT
from dptcli.weights import hub
from dptcli.weights.catalog import entries_for, find_model
from dptcli.weights.folder import read_config, tasks_of
from dptcli.weights.load import LoadedModel, load_model, non_finite

# The publishers' numbers were printed with other releases of torch and Pillow.
KNOWN_TOLERANCE = 1e-3
PROBE_HW = (96, 128)  # what the first forward sees, small and not square


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was looked at, whether it holds, and what was seen."""

    name: str
    passed: bool
    seen: str


def verify(
    name: str | Path,
    *,
    task: str | None = None,
    known_image: np.ndarray | None = None,
    offline: bool = False,
) -> Iterator[Check]:
    """Check a model's hashes, weights and output, one Check as soon as it is done.

    known_image: COCO val2017 000000039769 as RGB uint8 (H, W, 3), for the publisher's numbers.
    Raises ModelError when the model cannot be loaded at all: loading is strict.
    """
    folder = find_model(name, task=task, offline=offline)
    damaged = [path.name for path in hub.damaged_files(folder)]
    seen = "as the hub has them" if hub.is_cache(folder) else "none known outside the hub's cache"
    seen = f"differ for {', '.join(damaged)}" if damaged else seen
    yield Check(name="hashes", passed=not damaged, seen=seen)
    loaded = load_model(folder, task=task, device="cpu", dtype="float32")
    num_values = sum(tensor.numel() for tensor in loaded.model.parameters())
    yield Check(name="weights", passed=True, seen=f"all in place, {num_values:,} parameters")
    broken = non_finite(loaded.model)
    yield Check(
        name="values",
        passed=not broken,
        seen=f"not finite in {', '.join(broken[:4])}" if broken else "all finite",
    )
    probe = np.linspace(0, 255, num=PROBE_HW[0] * PROBE_HW[1] * 3).reshape(*PROBE_HW, 3)
    output = predict(loaded, probe.astype(np.uint8))
    finite = bool(torch.isfinite(output).all())
    shape = "×".join(str(size) for size in output.shape)
    yield Check(name="forward", passed=finite, seen=f"{shape}, {'' if finite else 'not '}finite")
    known = next((entry.known for entry in entries_for(name) if entry.known), None)
    if known is not None and known_image is not None:
        yield known_numbers(predict(loaded, known_image), known)


def tasks_in(name: str | Path, *, offline: bool = False) -> list[str | None]:
    """The tasks whose parts a model's files hold, each to be checked; None is its only one.

    Raises ModelError for a model that is not there.
    """
    tasks: list[str | None] = [
        task
        for entry in entries_for(name)
        for task in (entry.task, *entry.also)
        if task in (DEPTH, SEGMENT)
    ]
    if tasks:
        return tasks
    folder = find_model(name, task=None, offline=offline)
    held = sorted(tasks_of(read_config(folder))) if folder.is_dir() else []
    return [*held] if len(held) > 1 else [None]


def predict(loaded: LoadedModel, rgb: np.ndarray) -> Tensor:
    """The network's own output for one picture: depth (1, h, w) or logits (1, C, h, w)."""
    pixels = torch.from_numpy(loaded.processor.prepare(rgb).pixel_values)[None]
    with torch.inference_mode():
        output = loaded.model(pixels.to(loaded.device, loaded.dtype))
    return output.logits if loaded.task == "segment" else output.predicted_depth


def known_numbers(output: Tensor, known: KnownNumbers) -> Check:
    """Compare an output with what the publisher's test expects of it."""
    first = output.flatten()[:3] / known.divisor
    wanted = torch.tensor(known.first)
    fits = known.shape is None or tuple(output.shape) == known.shape
    passed = fits and torch.allclose(first, wanted, rtol=KNOWN_TOLERANCE)
    listed = ", ".join(f"{value:.4f}" for value in first.tolist())
    expected = ", ".join(f"{value:.4f}" for value in known.first)
    return Check(
        name="numbers", passed=passed, seen=f"{listed} of {tuple(output.shape)}; known {expected}"
    )
