"""What from_pretrained's keywords ask of loading weights; access.py has where the files lie."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dptcli.errors import ConfigError

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How weights are loaded.

    dtype: what they are cast to; "auto" keeps the file's; None follows config.json, else float32.
    device: where they go. strict: refuse whatever does not fit; else it is left out or starts from
    first weights, and the log says so. state_dict: tensors to take instead of a file's.
    """

    dtype: torch.dtype | str | None = None
    device: torch.device | str = "cpu"
    strict: bool = True
    state_dict: Mapping[str, Tensor] | None = None


_NAMES = (
    "dtype",
    "torch_dtype",
    "device",
    "device_map",
    "strict",
    "ignore_mismatched_sizes",
    "state_dict",
    "attn_implementation",
)
# What the reference loads with less memory, or not at once: here a model is always built without
# memory and given its tensors from the mapped file.
_WITHOUT_EFFECT = (
    "low_cpu_mem_usage",
    "offload_folder",
    "offload_state_dict",
    "offload_buffers",
    "max_memory",
    "weights_only",
    "_fast_init",
)
# Refused unless they say no.
_REFUSED = {
    "quantization_config": "8 bits come with load_model(…, dtype='int8', optimized=True)",
    "load_in_8bit": "8 bits come with load_model(…, dtype='int8', optimized=True)",
    "load_in_4bit": "8 bits come with load_model(…, dtype='int8', optimized=True)",
    "from_tf": "convert the file to safetensors first",
    "from_flax": "convert the file to safetensors first",
    "gguf_file": "convert the file to safetensors first",
    "key_mapping": "rename the tensors and give them as state_dict",
    "tp_plan": "one model runs on one device",
    "tp_size": "one model runs on one device",
    "device_mesh": "one model runs on one device",
    "use_kernels": "load_model(…, optimized=True) has the fast kernels",
}
_ATTENTIONS = (None, "eager", "sdpa")


def split_loading(values: Mapping[str, Any]) -> tuple[Loading, dict[str, Any]]:
    """What keywords say about loading, and the other keywords. Raises ConfigError."""
    for name, remedy in _REFUSED.items():
        if values.get(name) not in (None, False):
            raise ConfigError(f"{name}: is not taken; {remedy}")
    attention = values.get("attn_implementation")
    if attention not in _ATTENTIONS:
        raise ConfigError(
            f"attn_implementation: {attention!r} must be sdpa or eager; both give the same numbers"
        )
    dtype, older = values.get("dtype"), values.get("torch_dtype")
    loading = Loading(
        dtype=older if dtype is None else dtype,
        device=_device(values.get("device"), values.get("device_map")),
        strict=bool(values.get("strict", True)) and not values.get("ignore_mismatched_sizes"),
        state_dict=values.get("state_dict"),
    )
    taken = {*_NAMES, *_WITHOUT_EFFECT, *_REFUSED}
    return loading, {name: value for name, value in values.items() if name not in taken}


def _device(device: Any, device_map: Any) -> torch.device | str:
    """The one device that `device`, or the reference's device_map, names."""
    if isinstance(device_map, Mapping):
        devices = set(device_map.values())
        if len(devices) != 1:
            raise ConfigError(f"device_map: {dict(device_map)} must name one device for all parts")
        [device_map] = devices
    named = device_map if device is None else device
    if named is None:
        return "cpu"
    if named in (AUTO, "balanced", "balanced_low_0", "sequential"):
        return "cuda" if torch.cuda.is_available() else "cpu"
    if isinstance(named, int):
        return torch.device("cuda", named)
    found: torch.device | str = named
    return found
