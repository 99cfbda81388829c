"""A model as one ONNX file: dynamic where its graph allows it, checked against ours first.

The extra `onnx`. PyTorch's tracing exporter writes the graph: what the model decides in Python for
the traced size is frozen. So it is traced at a size that takes every branch (an odd grid, other
than the model's own), and the file is believed only after ONNX Runtime gave our numbers at other
sizes and batches. Where it does not, the graph is made for one size.
"""

import json
import logging
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dptcli import __version__
from dptcli.errors import ImageError, ModelError
from dptcli.kinds import MEANINGS
from dptcli.results.files import atomic_path, write_text
from dptcli.weights.load import LoadedModel

logger = logging.getLogger(__name__)

DEFAULT_OPSET = 17  # LayerNorm as one operator; what ONNX Runtime 1.14 and OpenVINO 2023 know
INPUT_NAME = "pixel_values"
# Our kernels and theirs add in another order; what is wrong in earnest differs by far more.
TOLERANCE = 1e-3
_TRACED_GRID = (5, 7)
_MOST_BYTES = 2**31 - 1  # of a protobuf message, which an ONNX file is
_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Exported:
    """What was written. input_hw: the one size that it takes, None when any multiple will do.

    difference: the largest difference from our output over the `checked` input shapes, relative to
    the largest value. reason: why the size is fixed, "" where it is not or was asked to be.
    """

    path: Path
    input_hw: tuple[int, int] | None
    multiple_of: int
    checked: tuple[tuple[int, ...], ...]
    difference: float
    reason: str = ""


class _MapOnly(nn.Module):
    """The model's main output alone: depth (B, H, W) or logits (B, C, h, w)."""

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__()
        self.model = loaded.model
        self.output_name = "predicted_depth" if loaded.task == "depth" else "logits"

    def forward(self, pixel_values: Tensor) -> Tensor:
        return getattr(self.model(pixel_values, return_dict=True), self.output_name)


def export_onnx(
    loaded: LoadedModel,
    out: Path,
    *,
    opset: int = DEFAULT_OPSET,
    fixed_hw: tuple[int, int] | None = None,
) -> Exported:
    """Write OUT.onnx and, beside it, OUT.json that says how to prepare images for it.

    loaded: on the CPU in float32. fixed_hw: make the graph for this size only; the batch is dynamic
    in any case. Nothing is put in place before it gave our output. Raises ModelError when the model
    cannot be exported or gives other numbers, and ImageError when the file cannot be written.
    """
    require_exportable(loaded)
    _import_onnx()
    net = _MapOnly(loaded).eval()
    multiple = _multiple_of(loaded)
    own_hw = _own_hw(loaded)
    if fixed_hw is not None and any(side % multiple for side in fixed_hw):
        raise ModelError(
            f"--fixed-size {fixed_hw[0]}x{fixed_hw[1]}: both sides must be multiples of {multiple}"
        )
    try:
        with atomic_path(out) as temporary:
            exported = _export_checked(net, temporary, own_hw, fixed_hw, multiple, opset)
            facts = describe(loaded, exported, opset=opset, output_name=net.output_name)
            _add_metadata(temporary, facts)
        write_text(out.with_suffix(".json"), json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ImageError(f"cannot write {str(out)!r}: {error.strerror or error}") from error
    return Exported(**{**vars(exported), "path": out})


def require_exportable(loaded: LoadedModel) -> None:
    """Raise ModelError for a model that has no graph. It needs no weights to tell."""
    if loaded.calibration is not None:
        raise ModelError(
            f"model {loaded.name!r} is calibrated, which the graph would not be; export the model "
            "that it was made of, and apply scale and shift of its config.json"
        )
    if loaded.takes_prompt:
        raise ModelError(
            f"model {loaded.name!r} takes a depth map beside the image, and what is exported here "
            "takes images alone"
        )
    reason = getattr(loaded.model.config, "not_for_onnx", None)
    size_bytes = loaded.model.num_parameters() * _FLOAT32_BYTES
    if reason is None and size_bytes > _MOST_BYTES:
        reason = (
            f"its {size_bytes / 1e9:.1f} GB of weights are more than the 2 GB that an ONNX file "
            "holds; take a smaller one of its family"
        )
    if reason is not None:
        raise ModelError(f"model {loaded.name!r} is not exported: {reason}")


def _export_checked(
    net: _MapOnly,
    path: Path,
    own_hw: tuple[int, int],
    fixed_hw: tuple[int, int] | None,
    multiple: int,
    opset: int,
) -> Exported:
    reason = ""
    if fixed_hw is None:
        traced = (_TRACED_GRID[0] * multiple, _TRACED_GRID[1] * multiple)
        wide = (own_hw[0], own_hw[1] + 2 * multiple)
        shapes = [(1, 3, *own_hw), (3, 3, *wide), (1, 3, 6 * multiple, 4 * multiple)]
        try:
            _trace(net, path, traced, opset=opset, dynamic=True)
            difference = largest_difference(net, path, shapes)
            return Exported(path, None, multiple, tuple(shapes), difference)
        except ModelError as error:
            reason = str(error)
            logger.info("no dynamic size: %s", reason)
    hw = fixed_hw or own_hw
    shapes = [(1, 3, *hw), (3, 3, *hw)]
    _trace(net, path, hw, opset=opset, dynamic=False)
    difference = largest_difference(net, path, shapes)
    return Exported(path, hw, multiple, tuple(shapes), difference, reason)


def _trace(net: _MapOnly, path: Path, hw: tuple[int, int], *, opset: int, dynamic: bool) -> None:
    image = torch.zeros(2, 3, *hw)  # two: a batch of one would be taken for a constant
    axes = {INPUT_NAME: {0: "batch"}, net.output_name: {0: "batch"}}
    if dynamic:
        last = 1 if net.output_name == "predicted_depth" else 2
        axes[INPUT_NAME].update({2: "height", 3: "width"})
        axes[net.output_name].update({last: "output_height", last + 1: "output_width"})
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of each size that tracing freezes: the check tells
        try:
            # The tracing exporter: torch.export's takes minutes over dynamic sizes and then
            # freezes the branches of the neck at the traced grid's parity.
            torch.onnx.export(
                net,
                (image,),
                str(path),
                dynamo=False,
                opset_version=opset,
                input_names=[INPUT_NAME],
                output_names=[net.output_name],
                dynamic_axes=axes,
            )
        except Exception as error:  # the exporter raises nearly every type
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"the model cannot be written as ONNX: {line}") from error


def largest_difference(net: nn.Module, path: Path, shapes: Sequence[tuple[int, ...]]) -> float:
    """Run random inputs of the shapes (B, 3, H, W) through ONNX Runtime and through ours.

    Returns the largest difference relative to our largest value. Raises ModelError where they
    differ by more than TOLERANCE or the file fails to run.
    """
    runtime = _import_runtime()
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    try:
        session = runtime.InferenceSession(str(path), _quiet(runtime), ["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"ONNX Runtime cannot load the file: {_first_line(error)}") from error
    for shape in shapes:
        image = torch.randn(*shape, generator=generator)
        with torch.inference_mode():
            ours = net(image).numpy()
        at = "x".join(map(str, shape))
        try:
            [theirs] = session.run(None, {INPUT_NAME: image.numpy()})
        except Exception as error:
            raise ModelError(f"ONNX Runtime fails at {at}: {_first_line(error)}") from error
        if theirs.shape != ours.shape:
            raise ModelError(f"at {at} ONNX Runtime gives {theirs.shape}, we give {ours.shape}")
        difference = float(np.abs(theirs - ours).max() / max(np.abs(ours).max(), 1e-30))
        if not difference <= TOLERANCE:
            raise ModelError(f"at {at} ONNX Runtime differs from ours by {difference:.1e}")
        worst = max(worst, difference)
    return worst


def describe(
    loaded: LoadedModel, exported: Exported, *, opset: int, output_name: str
) -> dict[str, Any]:
    """Say all that a program needs to feed the graph and to read its output, as JSON values."""
    kind: str = "labels"
    meaning = "class scores (batch, classes, h, w): resize bilinearly, then argmax"
    if loaded.task == "depth":
        kind, found = loaded.kind, MEANINGS[loaded.kind]
        unit = "metres" if found.in_metres else "no unit"
        meaning = f"{unit}, {found.polarity}"
        focal_px = getattr(loaded.model.config, "reference_focal_px", None)
        if focal_px is not None and loaded.is_metric:
            meaning += f", after × focal length in pixels of the input / {focal_px:g}"
        if hasattr(loaded.model.config, "sky_threshold"):
            meaning += "; the sky's values mean nothing"
    hw = exported.input_hw
    return {
        "dpt": __version__,
        "model": loaded.name,
        "task": loaded.task,
        "opset": opset,
        "input": {
            "name": INPUT_NAME,
            "layout": "batch, RGB, height, width; float32",
            "fixed_height": hw[0] if hw else None,
            "fixed_width": hw[1] if hw else None,
            "multiple_of": exported.multiple_of,
        },
        # In this order: resize, times rescale_factor, minus image_mean, by image_std, pad.
        "preprocessing": loaded.processor.to_dict(),
        "output": {"name": output_name, "kind": kind, "meaning": meaning},
        "labels": {str(label): name for label, name in sorted(loaded.labels.items())},
        "largest_difference": exported.difference,
    }


def _add_metadata(path: Path, facts: Mapping[str, Any]) -> None:
    onnx = _import_onnx()
    model = onnx.load(str(path))
    model.producer_name, model.producer_version = "dptcli", __version__
    entries = {key: value for key, value in facts.items() if key != "dpt"}
    onnx.helper.set_model_props(
        model,
        {
            f"dpt.{key}": value if isinstance(value, str) else json.dumps(value)
            for key, value in entries.items()
        },
    )
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _multiple_of(loaded: LoadedModel) -> int:
    """What both sides of the graph's input must be multiples of."""
    config = loaded.model.config
    backbone = getattr(config, "backbone_config", None)
    patch = getattr(backbone, "patch_size", None) or getattr(config, "patch_size", None) or 16
    patch = patch if isinstance(patch, int) else math.lcm(*patch)
    if getattr(backbone, "model_type", "") == "swinv2":
        patch *= 8  # its map is halved three times after the patches
    # ZoeDepth's processor states a fraction.
    return math.lcm(patch, max(1, int(loaded.processor.ensure_multiple_of)))


def _own_hw(loaded: LoadedModel) -> tuple[int, int]:
    height, width = loaded.processor.network_hw(loaded.processor.config.size)
    multiple = _multiple_of(loaded)
    return max(1, height // multiple) * multiple, max(1, width // multiple) * multiple


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ModelError("export needs onnx; install it with pip install 'dptcli[onnx]'") from error
    return onnx


def import_onnx_runtime() -> Any:
    """Import ONNX Runtime, which tells its makers of its use (1.32 does) unless it is told not to.

    What the caller's environment says of that counts. Raises ImportError.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return import_module("onnxruntime")  # it has no types


def _import_runtime() -> Any:
    try:
        return import_onnx_runtime()
    except ImportError as error:
        raise ModelError(
            "export needs ONNX Runtime for its check; install it with pip install 'dptcli[onnx]'"
        ) from error


def _quiet(runtime: Any) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what fails comes as an exception
    return options


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
