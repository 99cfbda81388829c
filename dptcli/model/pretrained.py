"""The base of the public models: files in, files out, first weights.

The one bridge from `model` to the files: `weights` is imported inside the methods only, so that
building and running a model never needs it.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, overload

import torch
from torch import Tensor, nn

from dptcli.errors import ConfigError
from dptcli.model.access import split_access
from dptcli.model.base_config import Config, refuse_push
from dptcli.model.block import Block
from dptcli.model.loading import split_loading


class Pretrained(nn.Module):
    """A module with a configuration that lives in a folder in the hub's layout."""

    config_class: ClassVar[type[Config]]
    # The name under which task models hold this one; "" for task models themselves.
    base_prefix: ClassVar[str] = ""
    # Parameters that a file may lack: they get their first weights, and a warning is logged.
    optional_keys: ClassVar[tuple[str, ...]] = ()
    # What a file may hold though the configuration asks for no such part.
    spare_keys: ClassVar[tuple[str, ...]] = ()
    # What files of other ages call a tensor -> our name for it; "" leaves the tensor out. Models
    # built over this one honour its entries too.
    old_keys: ClassVar[Mapping[str, str]] = {}
    # What the public files call the tensors, where that is another order than ours: (theirs, ours),
    # as in `families/original.py`. Files are read and written by it.
    file_names: ClassVar[tuple[tuple[str, str], ...]] = ()
    # Arguments of the class itself, beside the configuration, that from_pretrained passes on.
    init_options: ClassVar[tuple[str, ...]] = ()
    main_input_name: ClassVar[str] = "pixel_values"
    supports_gradient_checkpointing: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        wanted = getattr(self, "config_class", Config)
        if not isinstance(config, wanted):
            raise ConfigError(
                f"config: {type(self).__name__} takes a {wanted.__name__}, "
                f"not {type(config).__name__}"
            )
        config.belongs_to_model()
        self.config: Any = config

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first parameter."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The device of the first parameter."""
        return next(self.parameters()).device

    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *,
        config: Any = None,
        output_loading_info: Literal[True],
        **overrides: Any,
    ) -> tuple[Self, dict[str, Any]]: ...

    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *,
        config: Any = None,
        output_loading_info: bool = False,
        **overrides: Any,
    ) -> Self: ...

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *,
        config: Any = None,
        output_loading_info: bool = False,
        **overrides: Any,
    ) -> Any:
        """Load a model, ready for inference (eval mode).

        pretrained_model_name_or_path: a folder in the hub's layout, a name that `dpt models` lists,
        or `owner/name[@revision]` on the hub, which is downloaded; None with config and state_dict.
        config: instead of its config.json, a configuration or where to read one. `overrides`
        change single values of config.json, or are arguments of the class, or keywords of the
        document: those of `Access` (revision, token, cache_dir, subfolder, force_download,
        local_files_only, variant, use_safetensors) and of `Loading` (dtype, device or device_map,
        state_dict, ignore_mismatched_sizes). Unknown ones are refused.

        Loading is strict: ModelError lists every missing, unexpected and misshapen tensor. With
        `ignore_mismatched_sizes=True` (or `strict=False`) what does not fit is left out, what is
        missing starts from first weights, and the log names both: so a backbone gets another head.
        output_loading_info: give (model, what was missing, unexpected and mismatched).
        """
        from dptcli.weights.build import load_with_info
        from dptcli.weights.sources import model_folder

        access, others = split_access(overrides)
        loading, changes = split_loading(others)
        folder = None
        if pretrained_model_name_or_path is not None:
            folder = model_folder(
                pretrained_model_name_or_path,
                model_class=cls.__name__,
                access=access,
                any_task=not loading.strict,
            )
        if isinstance(config, str | Path):
            config = cls.config_class.from_pretrained(config)
        model, info = load_with_info(
            cls, folder, config=config, overrides=changes, access=access, loading=loading
        )
        return (model, info) if output_loading_info else model

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        save_function: Callable[..., Any] | None = None,
        push_to_hub: bool = False,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        variant: str | None = None,
        **_kwargs: Any,
    ) -> None:
        """Write config.json and model.safetensors (in shards with an index when larger).

        is_main_process: False writes nothing, for all but one of several processes. state_dict:
        tensors to write instead of the model's own. safe_serialization: False writes
        pytorch_model.bin, by `save_function` where there is one. variant: a word in the names of
        the files of weights. Raises ConfigError for push_to_hub.
        """
        from dptcli.weights.format import save_model

        refuse_push(push_to_hub)
        if is_main_process:
            save_model(
                self,
                Path(save_directory),
                max_shard_size=max_shard_size,
                state=state_dict,
                variant=variant,
                pickle_by=None if safe_serialization else save_function or torch.save,
            )

    @property
    def base_model(self) -> nn.Module:
        """The bare model within a task's model; the model itself where there is none."""
        for part in self.children():
            if isinstance(part, Pretrained):
                return part
        return self

    @property
    def base_model_prefix(self) -> str:
        """The name under which this model holds its bare model."""
        return next(
            (name for name, part in self.named_children() if isinstance(part, Pretrained)),
            self.base_prefix,
        )

    def get_input_embeddings(self) -> nn.Module:
        """What turns pixels into tokens or first maps: the patch embeddings, or a stem."""
        embeddings: Any = getattr(self.base_model, "embeddings", self.base_model)
        found: nn.Module = getattr(embeddings, "patch_embeddings", embeddings)
        return found

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """How many numbers the parameters hold; embeddings are those that take the pixels."""
        embeddings = self.get_input_embeddings().parameters() if exclude_embeddings else ()
        left_out = {id(parameter) for parameter in embeddings}
        return sum(
            parameter.numel()
            for parameter in self.parameters()
            if id(parameter) not in left_out and (parameter.requires_grad or not only_trainable)
        )

    @property
    def is_activation_checkpointing(self) -> bool:
        """Whether blocks compute their activations again when gradients are taken."""
        return any(block.checkpoint_options is not None for block in self._blocks())

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """While training, keep no activations within blocks: less memory, a third more time.

        activation_checkpointing_kwargs: options of torch.utils.checkpoint.checkpoint.
        every_n_layers: leave out the blocks between. Raises ConfigError for offload.
        """
        if offload:
            raise ConfigError("offload: activations stay where they are or are computed anew")
        options = {"use_reentrant": False, **(activation_checkpointing_kwargs or {})}
        for index, block in enumerate(self._blocks()):
            block.checkpoint_options = options if index % every_n_layers == 0 else None

    def activation_checkpointing_disable(self) -> None:
        """Keep activations again, as at first."""
        for block in self._blocks():
            block.checkpoint_options = None

    @property
    def is_gradient_checkpointing(self) -> bool:
        """The older name of is_activation_checkpointing."""
        return self.is_activation_checkpointing

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        """The older name of activation_checkpointing_enable."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs)

    def gradient_checkpointing_disable(self) -> None:
        """The older name of activation_checkpointing_disable."""
        self.activation_checkpointing_disable()

    def _blocks(self) -> Iterator[Block]:
        return (module for module in self.modules() if isinstance(module, Block))

    @classmethod
    def can_generate(cls) -> bool:
        """False: these models write no text; the reference's pipelines ask."""
        return False

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
