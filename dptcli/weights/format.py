"""The hub's file formats: config.json, model.safetensors, shards with an index."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dptcli.errors import ModelError
from dptcli.files import atomic_path, write_text

if TYPE_CHECKING:
    from dptcli.model.pretrained import Pretrained

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ModelError when it is missing or not one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{path}: no such file; a model is a folder with {CONFIG_NAME} and {WEIGHTS_NAME}"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); fetch it again") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: holds a {type(values).__name__}, not an object; fetch it again")
    return values


def read_config(folder: str | Path) -> dict[str, Any]:
    """The dictionary in a folder's config.json."""
    return read_json(Path(folder) / CONFIG_NAME)


class Checkpoint:
    """The tensors of a folder, by name, read one at a time.

    Files are mapped into memory, so a tensor costs nothing until it is asked for, and no second
    copy is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, Any] = {}
        self._where = dict(self._locate())

    def _locate(self) -> Iterator[tuple[str, Path]]:
        index = self.folder / INDEX_NAME
        if (self.folder / WEIGHTS_NAME).is_file() or not index.is_file():
            path = self.folder / WEIGHTS_NAME
            yield from ((name, path) for name in self._open(path).keys())  # noqa: SIM118
            return
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ModelError(f"{index}: has no weight_map; fetch it again")
        for name, file_name in weight_map.items():
            yield name, self._shard(str(file_name))

    def _shard(self, file_name: str) -> Path:
        """A shard lies in the folder or in one beside it, where models share a backbone."""
        path = (self.folder / file_name).resolve()
        if not path.is_relative_to(self.folder.resolve().parent):
            raise ModelError(
                f"{self.folder / INDEX_NAME}: {file_name!r} points outside the model's folder"
            )
        return path

    def _open(self, path: Path) -> Any:
        if path not in self._files:
            try:
                self._files[path] = safe_open(path, framework="pt")
            except FileNotFoundError as error:
                raise ModelError(
                    f"{path}: no such file; a model is a folder with {CONFIG_NAME} and "
                    f"{WEIGHTS_NAME}"
                ) from error
            except (OSError, SafetensorError) as error:
                raise ModelError(
                    f"{path}: is not a whole safetensors file ({error}); fetch it again"
                ) from error
        return self._files[path]

    def names(self) -> list[str]:
        """The names of all tensors."""
        return list(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, from the header alone."""
        return tuple(self._slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        """One tensor, as stored."""
        self._slice(name)
        tensor: Tensor = self._open(self._where[name]).get_tensor(name)
        return tensor

    def _slice(self, name: str) -> Any:
        path = self._where[name]
        try:
            return self._open(path).get_slice(name)
        except SafetensorError as error:
            raise ModelError(
                f"{path}: lacks the tensor {name!r} that the index promises; fetch it again"
            ) from error


def save_model(model: "Pretrained", folder: Path, *, max_shard_size: int | str) -> None:
    """Write config.json and the weights; in shards with an index when larger than asked."""
    from huggingface_hub import split_torch_state_dict_into_shards

    values = {
        **model.config.to_dict(),
        "architectures": [type(model).__name__],
        "dtype": str(model.dtype).removeprefix("torch."),
    }
    text = type(model.config).from_dict(values).to_json_string()
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    plan = split_torch_state_dict_into_shards(state, max_shard_size=max_shard_size)
    for stale in (WEIGHTS_NAME, INDEX_NAME):
        (folder / stale).unlink(missing_ok=True)
    for file_name, names in plan.filename_to_tensors.items():
        with atomic_path(folder / file_name) as temporary:
            # The reference refuses files whose metadata does not say which library wrote them.
            save_file({name: state[name] for name in names}, temporary, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_text(folder / INDEX_NAME, json.dumps(index, indent=2, sort_keys=True) + "\n")
    write_text(folder / CONFIG_NAME, text)


def dtype_from(name: str | torch.dtype) -> torch.dtype:
    """A floating dtype by its name ("float32", "torch.float16", …). ModelError otherwise."""
    dtype = getattr(torch, str(name).removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ModelError(f"dtype {name!r} must be one of float32, bfloat16, float16")
    return dtype
