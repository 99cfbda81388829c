"""The base of the public models: files in, files out, first weights.

The one bridge from `model` to the files: `weights` is imported inside the methods only, so that
building and running a model never needs it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from dptcli.errors import ConfigError
from dptcli.model.base_config import Config


class Pretrained(nn.Module):
    """A module with a configuration that lives in a folder in the hub's layout."""

    config_class: ClassVar[type[Config]]
    # The name under which task models hold this one; "" for task models themselves.
    base_prefix: ClassVar[str] = ""
    # Parameters that a file may lack: they get their first weights, and a warning is logged.
    optional_keys: ClassVar[tuple[str, ...]] = ()
    # What files of other ages call a tensor -> our name for it; "" leaves the tensor out. Models
    # built over this one honour its entries too.
    old_keys: ClassVar[Mapping[str, str]] = {}
    # Arguments of the class itself, beside the configuration, that from_pretrained passes on.
    init_options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Config) -> None:
        super().__init__()
        wanted = getattr(self, "config_class", Config)
        if not isinstance(config, wanted):
            raise ConfigError(
                f"config: {type(self).__name__} takes a {wanted.__name__}, "
                f"not {type(config).__name__}"
            )
        self.config: Any = config

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first parameter."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The device of the first parameter."""
        return next(self.parameters()).device

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        config: Config | None = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device: torch.device | str = "cpu",
        local_files_only: bool = False,
        **overrides: Any,
    ) -> Self:
        """Load a model, ready for inference (eval mode).

        source: a folder in the hub's layout, a name that `dpt models` lists, or
        `owner/name[@revision]` on the hub, which is downloaded unless local_files_only. config:
        instead of its config.json; `overrides` change single values of that (and are refused where
        it has no such value) or are arguments of the class. dtype: what the weights are cast to;
        None follows config.json, else float32; torch_dtype is its older name.

        Loading is strict: ModelError lists every missing, unexpected and misshapen tensor.
        """
        from dptcli.weights.load import load_pretrained
        from dptcli.weights.sources import model_folder

        return load_pretrained(
            cls,
            model_folder(source, model_class=cls.__name__, offline=local_files_only),
            config=config,
            dtype=torch_dtype if dtype is None else dtype,
            device=device,
            overrides=overrides,
        )

    def save_pretrained(self, folder: str | Path, *, max_shard_size: int | str = "5GB") -> None:
        """Write config.json and model.safetensors (in shards with an index when larger)."""
        from dptcli.weights.format import save_model

        save_model(self, Path(folder), max_shard_size=max_shard_size)

    def initialize(self) -> None:
        """Give every layer its first weights, as the reference does (normal, zero biases)."""
        std = getattr(self.config, "initializer_range", 0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                _normal(module.weight, std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _normal(weight: Tensor, std: float) -> None:
    if not weight.is_meta:
        nn.init.trunc_normal_(weight, std=std)
