"""From an original file to a model folder in the hub's layout, checked after it is written."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dptcli.errors import ModelError
from dptcli.kinds import Kind
from dptcli.model.pretrained import Pretrained
from dptcli.weights.folder import CONFIG_NAME, ORIGINAL_SUFFIXES
from dptcli.weights.load import load_model

CHECK_HW = (224, 320)  # an input of whole patches for every family that takes any


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was written. low, high: the range of the check's output, before and after the same."""

    folder: Path
    task: str
    kind: Kind
    num_parameters: int
    low: float
    high: float


def convert_original(
    path: str | Path,
    folder: str | Path,
    *,
    kind: str | None = None,
    max_depth_m: float | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write an original file as a model folder in the hub's layout, and check what was written.

    The check runs the model before and after on the same random pixels; both must agree exactly.
    path: also a model's name or folder. kind: see `read_original`. max_depth_m: where its metres
    end, in place of what its files say. Raises ModelError when the file cannot be read, a tensor
    does not fit, the folder holds a model already (unless `overwrite`), or the check fails.
    """
    folder = Path(folder)
    if Path(path).suffix in ORIGINAL_SUFFIXES and not Path(path).is_file():
        raise ModelError(f"{path}: no such file; name a .pt or .pth file of the authors")
    if (folder / CONFIG_NAME).exists() and not overwrite:
        raise ModelError(f"{folder}: holds a model already; name another folder, or --overwrite")
    loaded = load_model(path, device="cpu", dtype="float32", kind=kind)
    if max_depth_m is not None:
        loaded = replace(loaded, model=_ending_at(loaded.model, max_depth_m))
    expected = check_output(loaded.model, path=Path(path))
    loaded.model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    written = load_model(folder, device="cpu", dtype="float32")
    if not torch.equal(check_output(written.model, path=folder), expected):
        raise ModelError(f"{folder}: does not give what {path} gives; please report this")
    return Conversion(
        folder=folder,
        task=loaded.task,
        kind=loaded.kind,
        num_parameters=sum(parameter.numel() for parameter in loaded.model.parameters()),
        low=float(expected.min()),
        high=float(expected.max()),
    )


def _ending_at(model: Pretrained, max_depth_m: float) -> Pretrained:
    """The model with another largest depth. Raises ConfigError where it has none."""
    changed = type(model)(model.config.with_max_depth(max_depth_m))
    changed.load_state_dict(model.state_dict())
    return changed.eval()


@torch.inference_mode()
def check_output(model: Pretrained, *, path: Path) -> Tensor:
    """The model's output for fixed random pixels. Raises ModelError when it is not finite."""
    generator = torch.Generator().manual_seed(0)
    side: int | None = getattr(model.config, "min_side", None)
    hw = CHECK_HW if side is None else (side, side)
    output: Tensor = model(torch.randn(1, 3, *hw, generator=generator), return_dict=False)[0]
    if not output.isfinite().all():
        raise ModelError(f"{path}: gives values that are not finite; fetch the file again")
    return output
