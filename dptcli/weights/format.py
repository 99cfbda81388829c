"""The files that hold tensors: safetensors, shards with an index, old pickles; and saving them."""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dptcli.errors import MissingModelError, ModelError
from dptcli.model.access import Access
from dptcli.model.families.original import Table, our_names, to_theirs
from dptcli.results.files import atomic_path, write_text
from dptcli.weights.folder import (
    CONFIG_NAME,
    HERE,
    WEIGHT_NAMES,
    WEIGHTS_NAME,
    shards_of,
    variant_name,
    weights_among,
)

if TYPE_CHECKING:
    from dptcli.model.pretrained import Pretrained


class Checkpoint:
    """The tensors of a folder, by name, read one at a time.

    Files are mapped into memory, so a tensor costs nothing until it is asked for, and no second
    copy is made.
    """

    def __init__(self, folder: Path, access: Access = HERE) -> None:
        self.folder = folder
        self._access = access
        self._files: dict[Path, SafetensorsFile | PickleFile] = {}
        self._where = dict(self._locate())

    def _locate(self) -> Iterator[tuple[str, Path]]:
        present = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        weights = weights_among(present, self._access)
        if weights is None:
            raise MissingModelError(
                f"{self.folder}: has no weights; a model is a folder with {CONFIG_NAME} and "
                f"{variant_name(WEIGHTS_NAME, self._access.variant)}"
            )
        path = self.folder / weights
        if not weights.endswith(".json"):
            yield from ((name, path) for name in self._open(path).names())
            return
        for name, file_name in shards_of(path).items():
            yield name, self._shard(file_name, index=path)

    def _shard(self, file_name: str, *, index: Path) -> Path:
        """A shard lies in the folder or in one beside it, where models share a backbone."""
        # Not resolved: in the hub's cache each file is a link to a blob elsewhere.
        path = self.folder / file_name
        parts = Path(file_name).parts
        if Path(file_name).is_absolute() or ".." in parts[1:]:
            raise ModelError(f"{index}: {file_name!r} points outside the model's folder")
        return path

    def _open(self, path: Path) -> "SafetensorsFile | PickleFile":
        if path not in self._files:
            is_safetensors = path.suffix == ".safetensors"
            self._files[path] = SafetensorsFile(path) if is_safetensors else PickleFile(path)
        return self._files[path]

    def names(self) -> list[str]:
        """The names of all tensors."""
        return list(self._where)

    def files(self) -> list[Path]:
        """The files that hold them."""
        return sorted(set(self._where.values()))

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, from the header alone."""
        return self._holder(name).shape(name)

    def is_floating_point(self, name: str) -> bool:
        """Whether a tensor holds real numbers, from the header alone."""
        return self._holder(name).is_floating_point(name)

    def tensor(self, name: str) -> Tensor:
        """One tensor, as stored."""
        return self._holder(name).tensor(name)

    def _holder(self, name: str) -> "SafetensorsFile | PickleFile":
        path = self._where[name]
        opened = self._open(path)
        if name not in opened.names():
            raise ModelError(
                f"{path}: lacks the tensor {name!r} that the index promises; fetch it again"
            )
        return opened


class GivenTensors(Checkpoint):
    """A state dict in memory, as loading asks for its tensors."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def names(self) -> list[str]:
        return list(self._tensors)

    def files(self) -> list[Path]:
        return []

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def is_floating_point(self, name: str) -> bool:
        return self._tensors[name].is_floating_point()

    def tensor(self, name: str) -> Tensor:
        return self._tensors[name].detach()


class RenamedTensors(Checkpoint):
    """The tensors of files that have other names for them, under ours; see `file_names`."""

    def __init__(self, stored: Checkpoint, table: Table) -> None:
        self.folder = getattr(stored, "folder", Path())
        self._stored = stored
        # our name -> theirs, and which of how many equal parts of it
        self._parts: dict[str, tuple[str, int, int]] = {}
        for name in stored.names():
            ours = our_names(name, table)
            self._parts |= {one: (name, part, len(ours)) for part, one in enumerate(ours)}

    def names(self) -> list[str]:
        return list(self._parts)

    def files(self) -> list[Path]:
        return self._stored.files()

    def shape(self, name: str) -> tuple[int, ...]:
        theirs, _, count = self._parts[name]
        first, *others = self._stored.shape(theirs) or (count,)
        return (first // count, *others) if count > 1 else self._stored.shape(theirs)

    def is_floating_point(self, name: str) -> bool:
        return self._stored.is_floating_point(self._parts[name][0])

    def tensor(self, name: str) -> Tensor:
        theirs, part, count = self._parts[name]
        tensor = self._stored.tensor(theirs)
        return tensor if count == 1 else tensor.chunk(count, dim=0)[part]


class SafetensorsFile:
    """A safetensors file. Its header is checked against its length when it is opened."""

    def __init__(self, path: Path) -> None:
        try:
            self._file: Any = safe_open(path, framework="pt")
        except FileNotFoundError as error:
            raise MissingModelError(
                f"{path}: no such file; a model is a folder with {CONFIG_NAME} and {WEIGHTS_NAME}"
            ) from error
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{path}: is not a whole safetensors file ({error}); fetch it again"
            ) from error
        self._names = dict.fromkeys(self._file.keys())

    def names(self) -> Collection[str]:
        """The names of the tensors, in the file's order."""
        return self._names

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, from the header."""
        return tuple(self._file.get_slice(name).get_shape())

    def is_floating_point(self, name: str) -> bool:
        """Whether a tensor holds real numbers."""
        return str(self._file.get_slice(name).get_dtype()).startswith(("F", "BF"))

    def tensor(self, name: str) -> Tensor:
        """One tensor, mapped from the file."""
        tensor: Tensor = self._file.get_tensor(name)
        return tensor


class PickleFile:
    """A state dict that torch.save wrote. Nothing in it may run: only tensors are unpickled."""

    def __init__(self, path: Path) -> None:
        state = read_pickle(path)
        if not all(isinstance(tensor, Tensor) for tensor in state.values()):
            raise ModelError(
                f"{path}: is not a plain table of tensors; `dpt convert` reads original files"
            )
        self._state: dict[str, Tensor] = state

    def names(self) -> Collection[str]:
        """The names of the tensors, in the file's order."""
        return self._state

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self._state[name].shape)

    def is_floating_point(self, name: str) -> bool:
        """Whether a tensor holds real numbers."""
        return self._state[name].is_floating_point()

    def tensor(self, name: str) -> Tensor:
        """One tensor, mapped from the file."""
        return self._state[name].detach()


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a file that torch.save wrote, on the CPU, mapped where the format allows.

    Only tensors and plain containers are unpickled. Raises ModelError for a damaged file, for
    one that is not a dictionary, and for one that wants to run code: it names what.
    """
    try:
        # Files from before torch 1.6 are no zip archives and cannot be mapped.
        mapped = zipfile.is_zipfile(path)
        with warnings.catch_warnings():  # of old formats, which the errors below tell better
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError as error:
        raise MissingModelError(f"{path}: no such file") from error
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted is None:
            raise ModelError(
                f"{path}: is not a whole file of torch.save; fetch it again"
            ) from error
        raise ModelError(
            f"{path}: refused, because loading it would run {wanted.group(1)}; a file of weights "
            "holds only tensors: get a safetensors file from a source that you trust"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"{path}: is not a whole file of torch.save ({reason}); fetch it again"
        ) from error
    if not isinstance(state, dict):
        raise ModelError(f"{path}: holds a {type(state).__name__}, not a table of tensors")
    return state


def save_model(
    model: "Pretrained",
    folder: Path,
    *,
    max_shard_size: int | str,
    state: Mapping[str, Tensor] | None = None,
    variant: str | None = None,
    pickle_by: Callable[..., Any] | None = None,
) -> None:
    """Write config.json and the weights; in shards with an index when larger than asked.

    state: instead of the model's own tensors. pickle_by: writes pytorch_model.bin, as torch.save.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    values = {
        **model.config.to_dict(),
        "architectures": [type(model).__name__],
        "dtype": str(model.dtype).removeprefix("torch."),
    }
    text = type(model.config).from_dict(values).to_json_string()
    state = model.state_dict() if state is None else state
    state = to_theirs(state, model.file_names)
    state = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    weights, index_name = (
        variant_name(name, variant)
        for name in (WEIGHT_NAMES[:2] if pickle_by is None else WEIGHT_NAMES[2:])
    )
    base, _, suffix = weights.rpartition(".")
    plan = split_torch_state_dict_into_shards(
        state, filename_pattern=f"{base}{{suffix}}.{suffix}", max_shard_size=max_shard_size
    )
    for file_name, names in plan.filename_to_tensors.items():
        with atomic_path(folder / file_name) as temporary:
            part = {name: state[name] for name in names}
            if pickle_by is None:
                # The reference refuses files whose metadata does not say which library wrote them.
                save_file(part, temporary, metadata={"format": "pt"})
            else:
                pickle_by(part, temporary)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_text(folder / index_name, json.dumps(index, indent=2, sort_keys=True) + "\n")
    # The other layout's file of an earlier save goes last, so that a failed save loses nothing.
    (folder / (weights if plan.is_sharded else index_name)).unlink(missing_ok=True)
    if pickle_by is not None:  # loading would take these first
        for name in WEIGHT_NAMES[:2]:
            (folder / variant_name(name, variant)).unlink(missing_ok=True)
    write_text(folder / CONFIG_NAME, text)


def dtype_from(name: str | torch.dtype) -> torch.dtype:
    """A floating dtype by its name ("float32", "torch.float16", …). ModelError otherwise."""
    dtype = getattr(torch, str(name).removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ModelError(f"dtype {name!r} must be one of float32, bfloat16, float16")
    return dtype
