"""From a name or a folder to a model that is ready to run."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from dptcli.errors import ConfigError, ModelError
from dptcli.fast.int8 import int8_engine
from dptcli.fast.optimize import optimize
from dptcli.fast.precision import keep_tail_float32, native_dtype, take_float32
from dptcli.kinds import Kind, check_gives, kind_of
from dptcli.model.base_config import Config
from dptcli.model.clip_window import ClipWindow
from dptcli.model.families import families
from dptcli.model.families.family import DEPTH, SEGMENT, Family
from dptcli.model.pretrained import Pretrained
from dptcli.processing.processor import DPTImageProcessor
from dptcli.weights.build import config_of, load_pretrained
from dptcli.weights.calibration import Calibration, calibration_of, result_kind
from dptcli.weights.catalog import find_model
from dptcli.weights.folder import files_of, is_authors_folder, read_config
from dptcli.weights.format import dtype_from
from dptcli.weights.gives import entry_of
from dptcli.weights.names import listed
from dptcli.weights.originals import Original, OriginalTensors, read_original

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=Pretrained)

INT8 = "int8"  # among the dtypes, though no torch.dtype: inputs and results are float32


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model with what belongs to it.

    dtype: what it computes in; whichever that is, it takes float32 pixels and gives float32.
    labels: class id -> name, empty for depth. optimized: made cheaper, so it only predicts. int8:
    its linear layers are in 8 bits then, and its dtype is float32. runtime: what runs it, with
    version and device where that is not PyTorch.
    """

    model: Pretrained
    processor: DPTImageProcessor
    name: str
    task: str
    folder: Path
    device: torch.device
    dtype: torch.dtype
    labels: dict[int, str]
    optimized: bool = False
    int8: bool = False
    runtime: str = "torch"

    @property
    def pixel_dtype(self) -> torch.dtype:
        """What pixels are handed to it in: another runtime narrows them by itself."""
        return self.dtype if self.runtime == "torch" else torch.float32

    @property
    def dtype_name(self) -> str:
        """As `--dtype` has it."""
        return INT8 if self.int8 else str(self.dtype).removeprefix("torch.")

    @property
    def kind(self) -> Kind:
        """What the values of a depth model are, once they are calibrated."""
        return result_kind(self.model.config)

    @property
    def calibration(self) -> Calibration | None:
        """What makes metres of the network's values, where its folder has it."""
        return calibration_of(self.model.config)

    @property
    def is_metric(self) -> bool:
        """Whether depth comes in metres."""
        return self.kind == "depth_m"

    @property
    def takes_prompt(self) -> bool:
        """Whether it wants measured depths beside each photograph."""
        return bool(getattr(self.model.config, "takes_prompt", False))

    @property
    def clip_window(self) -> ClipWindow | None:
        """How it goes through a clip, where it sees several frames at once."""
        found: ClipWindow | None = getattr(self.model.config, "clip_window", None)
        return found


def load_model(
    name: str | Path,
    *,
    task: str | None = None,
    device: str = "auto",
    dtype: str | None = None,
    offline: bool = False,
    kind: str | None = None,
    gives: str | None = None,
    optimized: bool = False,
    normals: bool = False,
    poses: bool = False,
    with_weights: bool = True,
) -> LoadedModel:
    """Load a model by name, repository, folder or original file, with its processor, on a device.

    task: "depth", "segment", or None for whatever the model does. device: auto, cpu, cuda[:n] or
    mps. dtype: float32, bfloat16, float16, auto (what the device is fast in) or, on the CPU and
    optimized, int8; None is auto when optimized, else float32 on every machine. offline: never
    download. kind: of an original file, see `read_original`. gives: metres, inverse or depth, for a
    model that says nothing or the wrong thing of its values; they stay as they are. optimized: the
    same function, cheaper, for predictions alone. normals: with what gives surface normals beside
    depth; poses: with what reads given cameras; where its files have that. with_weights: False
    gives a model without any (on the meta device), for who needs all the rest.
    Raises ModelError when the model is unknown, broken or for another task.
    """
    check_gives(gives)
    folder = find_model(name, task=task, offline=offline)
    is_original = folder.is_file() or is_authors_folder(folder)
    original = read_original(folder, kind=kind) if is_original else None
    if original is None:
        files_of(folder)
    values = read_config(folder) if original is None else original.config
    architecture, family = architecture_of(values, folder=folder, task=task)
    architecture = family.part_for(architecture, task, normals=normals, poses=poses)
    found_task, model_class = family.tasks[architecture], family.model_class(architecture)
    processor_class = family.processor_class() or DPTImageProcessor
    if task is not None and found_task != task:
        raise ModelError(f"model {str(name)!r} is for `dpt {found_task}`, not for `dpt {task}`")
    target = resolve_device(device)
    dtype = dtype or ("auto" if optimized else "float32")
    int8 = dtype == INT8
    if int8:
        require_int8(target)
    target_dtype = torch.float32 if int8 else resolve_dtype(dtype, target)
    if not with_weights:
        model = _without_weights(model_class, folder, original)
    elif original is None:
        model = load_pretrained(model_class, folder, dtype=target_dtype, device=target)
    else:
        model = build_original(original, model_class, dtype=target_dtype, device=target)
    if original is None:
        processor = load_processor(processor_class, folder)
    else:
        processor = processor_class(**original.processor)
    if gives is not None:
        if found_task == SEGMENT:
            raise ModelError(f"model {str(name)!r} gives classes; --gives is for models of depth")
        model.config = model.config.replace(gives=gives)
    if found_task == DEPTH:
        try:
            kind_of(model.config)
        except ConfigError as error:
            raise ModelError(f"{folder}: {error}; say it with --gives") from error
        try:
            calibration_of(model.config)
        except ConfigError as error:
            raise ModelError(f"{folder}: {error}") from error
    _warn_of(folder)
    if target_dtype is not torch.float32:
        take_float32(model)
        keep_tail_float32(model)
    if optimized:
        optimize(model, int8=int8)
    labels = dict(model.config.id2label) if found_task == SEGMENT else {}
    return LoadedModel(
        model=model,
        processor=processor,
        name=str(name),
        task=found_task,
        folder=folder,
        device=target,
        dtype=target_dtype,
        labels=labels,
        optimized=optimized,
        int8=int8,
    )


def _without_weights(
    model_class: type[Pretrained], folder: Path, original: Original | None
) -> Pretrained:
    config = (
        config_of(model_class, folder)
        if original is None
        else _config_of_original(model_class, original)
    )
    with torch.device("meta"):
        return model_class(config).eval()


def _warn_of(folder: Path) -> None:
    """Say what is known to be wrong with a published file."""
    entry = entry_of(folder)
    if entry is not None and entry.caution:
        logger.warning("%s: %s", entry.name, entry.caution)


def architecture_of(
    values: Mapping[str, Any], *, folder: Path, task: str | None
) -> tuple[str, Family]:
    """The architecture that a config.json names, and its family.

    A config.json without a name means the wanted task's architecture of its model_type.
    """
    known = {name: family for family in families() for name in family.tasks}
    names = values.get("architectures")
    names = names if isinstance(names, list) else []
    for name in names:
        if name in known:
            return name, known[name]
    if not names and task is not None:
        for name, family in known.items():
            of_type = family.model_class(name).config_class.model_type == values.get("model_type")
            if of_type and family.tasks[name] == task:
                return name, family
    raise ModelError(f"{folder}: architectures {names} must name one of {', '.join(sorted(known))}")


def build_original(
    original: Original, model_class: type[Model], *, dtype: torch.dtype, device: torch.device
) -> Model:
    """The model of an original file, as strict as that of a folder."""
    config = _config_of_original(model_class, original)
    checkpoint = OriginalTensors(original)
    return load_pretrained(
        model_class,
        original.path,
        config=config,
        dtype=dtype,
        device=device,
        checkpoint=checkpoint,
    )


def _config_of_original(model_class: type[Pretrained], original: Original) -> Config:
    try:
        return model_class.config_class.from_dict(original.config)
    except ConfigError as error:
        raise ModelError(f"{original.path}: its shapes make no model ({error})") from error


def load_processor(processor_class: type[DPTImageProcessor], folder: Path) -> DPTImageProcessor:
    """The processor of a folder in the hub's layout. Raises ModelError for a broken one."""
    try:
        return processor_class.from_pretrained(folder)
    except ConfigError as error:
        raise ModelError(f"{error}; fetch it again") from error


def resolve_device(name: str) -> torch.device:
    """A torch device; "auto" takes CUDA, then MPS, then the CPU. ModelError if it is absent."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device {name!r} must be auto, cpu, cuda, cuda:N or mps") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise ModelError(f"device {name!r} must be auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; "
            "use --device cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError(f"device {name!r}: this machine has no MPS; use --device cpu")
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """A torch dtype; "auto" is bfloat16 where the device computes it natively, else float32.

    float16 is refused on the CPU, where it is not computed.
    """
    dtype = native_dtype(device) if name == "auto" else dtype_from(name)
    if dtype is torch.float16 and device.type == "cpu":
        raise ModelError("dtype 'float16' is slow and inexact on the CPU; use bfloat16 or float32")
    return dtype


def require_int8(device: torch.device) -> None:
    """Raise ModelError where linear layers cannot run in 8 bits."""
    if device.type != "cpu":
        raise ModelError(f"dtype 'int8' is for the CPU, not for {device}; use --device cpu")
    if int8_engine() is None:
        raise ModelError("dtype 'int8': this PyTorch has no 8-bit products; use float32")


def require_finite(loaded: LoadedModel) -> None:
    """Raise ModelError when weights hold NaN or infinity, which a whole model has none of."""
    plain = loaded.model
    if loaded.optimized:  # its weights are packed, under other names
        plain = load_model(loaded.folder, task=loaded.task, device="cpu", dtype="float32").model
    broken = non_finite(plain)
    if broken:
        raise ModelError(
            f"{loaded.folder}: the weights hold NaN or infinity in {listed(broken)}; fetch it again"
        )


def non_finite(model: nn.Module) -> list[str]:
    """The names of the tensors that hold NaN or infinity, which a whole model has none of.

    It reads every weight once, so loading leaves it to `dpt models verify` and to whoever sees
    a prediction that is not finite.
    """
    return [
        name
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
