"""A model from its configuration and its tensors: from_pretrained's work, strict or not."""

import dataclasses
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dptcli.errors import ConfigError, ModelError
from dptcli.fast.memory import clean_file_ranges, let_go
from dptcli.model.access import Access
from dptcli.model.base_config import Config
from dptcli.model.loading import AUTO, Loading
from dptcli.model.pretrained import Pretrained
from dptcli.weights.folder import CONFIG_NAME, HERE, is_authors_folder, read_config
from dptcli.weights.format import Checkpoint, GivenTensors, RenamedTensors, dtype_from
from dptcli.weights.joined import with_joined
from dptcli.weights.names import NEVER_RUN, misfits_of, names_for
from dptcli.weights.originals import OriginalTensors, read_original

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=Pretrained)

_LARGE = 32_000_000  # weights of a model whose file is dropped from memory as it is copied


def load_pretrained(
    model_class: type[Model],
    source: str | Path,
    *,
    config: Config | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str = "cpu",
    overrides: Mapping[str, Any] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Model:
    """Build a model without memory, then give it the file's tensors, strictly.

    See `Pretrained.from_pretrained`. checkpoint: instead of the folder's tensors.
    """
    model, _ = load_with_info(
        model_class,
        Path(source),
        config=config,
        overrides=overrides,
        checkpoint=checkpoint,
        loading=Loading(dtype=dtype, device=device),
    )
    return model


def load_with_info(
    model_class: type[Model],
    folder: Path | None,
    *,
    config: Config | None = None,
    overrides: Mapping[str, Any] | None = None,
    checkpoint: Checkpoint | None = None,
    access: Access = HERE,
    loading: Loading,
) -> tuple[Model, dict[str, Any]]:
    """As load_pretrained, with all of from_pretrained's wishes; and what did not fit, by kind."""
    changes = dict(overrides or {})
    init = {name: changes.pop(name) for name in model_class.init_options if name in changes}
    if config is None and checkpoint is None and folder is not None and is_authors_folder(folder):
        original = read_original(folder)
        config, changes = model_class.config_class.from_dict(original.config, **changes), {}
        checkpoint = OriginalTensors(original)
    config = _config_for(model_class, folder, config, changes)
    if checkpoint is None and loading.state_dict is not None:
        checkpoint = GivenTensors(loading.state_dict)
    if checkpoint is None:
        checkpoint = Checkpoint(_required(folder), access)
        if model_class.file_names:
            checkpoint = RenamedTensors(checkpoint, model_class.file_names)
    with torch.device("meta"):  # no memory until the tensors come
        model = model_class(config, **init)
    checkpoint = with_joined(checkpoint, model.state_dict().keys())
    named = names_for(model, checkpoint)
    misfits = misfits_of(model, checkpoint, named)
    if loading.strict:
        misfits.refuse(folder or "state_dict", type(model).__name__)
    elif misfits:
        logger.warning("%s: %s", folder or "state_dict", misfits.said(type(model).__name__))
    clean_file_ranges.cache_clear()  # the files have just been opened
    dtype = _wanted_dtype(loading.dtype, config, checkpoint)
    # Looking up what is mapped takes 40 ms, which a small model does not repay.
    frees = sum(weight.numel() for weight in model.parameters()) >= _LARGE
    state = {
        name: _cast(checkpoint.tensor(key), dtype, loading.device, frees=frees)
        for name, key in named.items()
        if name not in misfits.unusable
    }
    saved = model.state_dict().keys()
    unsaved = {name for name, _ in model.named_buffers()} - saved  # of a user's own class
    if misfits.missing or misfits.misshapen or unsaved:
        fresh = model_class(config, **init).to(loading.device, dtype)
        state = {**fresh.state_dict(), **state}
    state.update(_first_weights(model, set(state), dtype, loading.device))
    model.load_state_dict(state, assign=True)
    for name in unsaved:
        place, _, last = name.rpartition(".")
        model.get_submodule(place).register_buffer(last, fresh.get_buffer(name), persistent=False)
    return model.eval(), misfits.info()


def config_of(model_class: type[Pretrained], folder: Path) -> Config:
    """The configuration of a folder's model. Raises ModelError."""
    return _config_for(model_class, folder, None, {})


def _config_for(
    model_class: type[Pretrained],
    folder: Path | None,
    config: Config | None,
    changes: Mapping[str, Any],
) -> Config:
    """The configuration to build from: the one that is given, or the folder's with the changes."""
    if config is not None:
        if changes:
            raise ConfigError(
                f"{', '.join(changes)}: cannot stand beside config=; change that configuration"
            )
        return config
    folder = _required(folder)
    try:
        config = model_class.config_class.from_pretrained(folder, **changes)
        _refuse_unknown(changes, config, folder)
    except ConfigError as error:
        raise ModelError(f"{folder / CONFIG_NAME}: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        # A value of a type that no check foresaw, such as text where a list belongs.
        raise ModelError(
            f"{folder / CONFIG_NAME}: holds a value of a wrong kind ({error}); fetch it again"
        ) from error
    return config


def _required(folder: Path | None) -> Path:
    if folder is None:
        raise ModelError("no folder or name is given; only config= with state_dict= need none")
    return folder


def _refuse_unknown(changes: Mapping[str, Any], config: Config, folder: Path) -> None:
    """Raise ConfigError for a change that means nothing, which would be kept without effect."""
    known = {field.name for field in dataclasses.fields(config)} | {"num_labels", "gives"}
    known |= read_config(folder).keys()
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: neither a value of config.json nor an option")


def _wanted_dtype(
    wanted: torch.dtype | str | None, config: Config, checkpoint: Checkpoint
) -> torch.dtype:
    if wanted is None:
        return dtype_from(config.dtype or "float32")
    if wanted != AUTO:
        return dtype_from(wanted)
    if config.dtype:
        return dtype_from(config.dtype)
    real = (name for name in checkpoint.names() if checkpoint.is_floating_point(name))
    first = next(real, None)
    return torch.float32 if first is None else checkpoint.tensor(first).dtype


def _cast(tensor: Tensor, dtype: torch.dtype, device: torch.device | str, *, frees: bool) -> Tensor:
    """A file's tensor as it is wanted; frees: where that is a copy, the file's pages leave."""
    found = tensor.to(device, dtype if tensor.is_floating_point() else None)
    if frees and found is not tensor:
        let_go(tensor)
    return found


def _first_weights(
    model: nn.Module, given: set[str], dtype: torch.dtype, device: torch.device | str
) -> dict[str, Tensor]:
    """First weights for the optional tensors that a file lacks."""
    std = getattr(model.config, "initializer_range", 0.02)
    first = {}
    for name, tensor in model.state_dict().items():
        if name in given:
            continue
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        fresh = torch.zeros(tensor.shape, dtype=kind, device=device)
        if name.endswith(".weight") and not re.fullmatch(NEVER_RUN, name):
            nn.init.trunc_normal_(fresh, std=std)
            logger.warning("%s is not in the file: it starts from random weights", name)
        first[name] = fresh
    return first
