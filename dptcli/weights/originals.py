"""The authors' own files (isl-org/DPT .pt, Depth-Anything .pth) as models of ours.

What a file holds is read from its tensors' names and shapes. What these cannot tell (which taps,
metres or not) is a kind: asked for, or told by the public file's name.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dptcli.errors import ModelError
from dptcli.weights.format import Checkpoint, read_pickle
from dptcli.weights.original_configs import (
    ADE,
    DEPTH_ANYTHING_KINDS,
    DPT_KINDS,
    Kind,
    depth_anything_config,
    dpt_config,
)
from dptcli.weights.original_keys import DEPTH_ANYTHING, DPT_HYBRID, DPT_VIT, rename

logger = logging.getLogger(__name__)

HALF = [0.5, 0.5, 0.5]
IMAGENET: dict[str, Any] = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
BICUBIC = 3
KINDS = tuple(kind.name for kind in (*DPT_KINDS, ADE, *DEPTH_ANYTHING_KINDS))


@dataclass(frozen=True, kw_only=True)
class Original:
    """An original file in the hub's terms: two configurations, and tensors under our names."""

    path: Path
    kind: str
    config: dict[str, Any]
    processor: dict[str, Any]
    tensors: dict[str, Tensor]


def read_original(path: str | Path, *, kind: str | None = None) -> Original:
    """Read an original file. Tensors are mapped from it, so reading costs little.

    kind: one of KINDS; None reads it from the file's name.
    Raises ModelError for a file that is none of these, or broken, or of another kind, with the
    names that it does not know.
    """
    path = Path(path)
    tensors = tensors_of(read_pickle(path), path=path)
    if "depth_head.projects.0.weight" in tensors:
        chosen = choose_kind(path, DEPTH_ANYTHING_KINDS, kind)
        config = depth_anything_config(tensors, chosen, path=path)
        table, processor = DEPTH_ANYTHING, {**IMAGENET, "ensure_multiple_of": 14}
    elif "pretrained.model.blocks.0.attn.qkv.weight" in tensors:
        segments = "scratch.output_conv.1.weight" in tensors  # its batch norm
        chosen = choose_kind(path, (ADE,) if segments else DPT_KINDS, kind)
        config = dpt_config(tensors, chosen, path=path)
        table = DPT_HYBRID if config["is_hybrid"] else DPT_VIT
        processor = {"image_mean": HALF, "image_std": HALF, "ensure_multiple_of": 32}
    else:
        raise ModelError(
            f"{path}: none of the files that can be read here (isl-org's DPT large and hybrid, "
            "Depth-Anything v1 and V2); its first tensors are "
            f"{', '.join(list(tensors)[:3]) or 'none'}. Other families: use the hub's model"
        )
    renamed, unknown = rename(tensors, table)
    if unknown:
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        raise ModelError(f"{path}: unknown tensors {', '.join(unknown[:8])}{more}")
    height, width = chosen.network_hw
    processor |= {
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": height, "width": width},
        "keep_aspect_ratio": True,
        "resample": BICUBIC,
    }
    return Original(
        path=path, kind=chosen.name, config=config, processor=processor, tensors=renamed
    )


def tensors_of(state: Mapping[str, Any], *, path: Path) -> dict[str, Tensor]:
    """The table of tensors in a file, also where training's state surrounds it."""
    for wrapper in ("model", "state_dict"):
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise ModelError(f"{path}: holds more than tensors: {', '.join(others[:8])}")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def choose_kind(path: Path, kinds: tuple[Kind, ...], wanted: str | None) -> Kind:
    """The kind that is asked for, else the one that the file's name tells."""
    names = ", ".join(kind.name for kind in kinds)
    if wanted is not None:
        for kind in kinds:
            if kind.name == wanted:
                return kind
        raise ModelError(f"{path}: its tensors fit the kinds {names}, not {wanted!r}")
    for kind in kinds:
        if kind.hint in path.name.lower().replace("-", "_"):
            return kind
    if len(kinds) == 1:
        return kinds[0]
    if kinds is DPT_KINDS:
        logger.warning("%s: taken for inverse depth without unit (kind midas)", path)
        return kinds[-1]
    raise ModelError(
        f"{path}: its tensors do not tell which of {names} it is, nor does its name; "
        "say it with `dpt convert --kind`"
    )


class OriginalTensors(Checkpoint):
    """An original file's tensors, as loading asks for them."""

    def __init__(self, original: Original) -> None:
        self.folder = original.path
        self._tensors = original.tensors

    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def is_floating_point(self, name: str) -> bool:
        """Whether a tensor holds real numbers."""
        return self._tensors[name].is_floating_point()

    def tensor(self, name: str) -> Tensor:
        return self._tensors[name].detach()
