"""The authors' own files (.pt, .pth) as models of ours.

What a file holds is read from its tensors' names and shapes, by the families' `originals.py`. What
these cannot tell (which taps, metres or not) is a kind: asked for, or told by the public file's
name.
"""

import csv
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dptcli.errors import ModelError
from dptcli.model.families import families
from dptcli.model.families.original import Kind, OriginalFormat, rename
from dptcli.weights.folder import CONFIG_NAME, read_json
from dptcli.weights.format import Checkpoint, read_pickle

logger = logging.getLogger(__name__)

BICUBIC = 3
_LABEL_SETS = Path(__file__).parent.parent / "segments" / "label_sets"


@dataclass(frozen=True, kw_only=True)
class Original:
    """An original file in the hub's terms: two configurations, and tensors under our names."""

    path: Path
    kind: str
    config: dict[str, Any]
    processor: dict[str, Any]
    tensors: dict[str, Tensor]


def formats() -> tuple[OriginalFormat, ...]:
    """Every layout of original files that can be read."""
    return tuple(found for family in families() for found in family.originals())


def read_original(path: str | Path, *, kind: str | None = None) -> Original:
    """Read an original file, or a folder in its authors' layout; mapped, so it costs little.

    kind: the name of a Kind; None reads it from the file's name.
    Raises ModelError for a file that is none of these, or broken, or of another kind, with the
    names that it does not know.
    """
    path = Path(path)
    tensors, name = _tensors_and_name(path)
    found = next((layout for layout in formats() if layout.fits(tensors)), None)
    if found is None:
        titles = ", ".join(dict.fromkeys(layout.title for layout in formats()))
        raise ModelError(
            f"{path}: none of the files that can be read here ({titles}); its first tensors are "
            f"{', '.join(list(tensors)[:3]) or 'none'}. Other families: use the hub's model"
        )
    chosen = choose_kind(path, found, kind, name=name)
    config = found.config(tensors, chosen, path)
    label_set = config.pop("label_set", None)
    if label_set is not None:
        config["id2label"] = dict(enumerate(label_names(label_set)))
    renamed, unknown = rename(tensors, found.table(tensors))
    if unknown:
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        raise ModelError(f"{path}: unknown tensors {', '.join(unknown[:8])}{more}")
    height, width = chosen.network_hw
    processor = {
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": height, "width": width},
        "keep_aspect_ratio": True,
        "resample": BICUBIC,
        **found.processor,
    }
    return Original(
        path=path, kind=chosen.name, config=config, processor=processor, tensors=renamed
    )


def _tensors_and_name(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file, or of a folder in its authors' layout, and what it is called."""
    if not path.is_dir():
        return tensors_of(read_pickle(path), path=path), path.name
    checkpoint = Checkpoint(path)
    tensors = {name: checkpoint.tensor(name) for name in checkpoint.names()}
    return tensors, str(read_json(path / CONFIG_NAME).get("model_name", path.name))


def label_names(label_set: str) -> list[str]:
    """The names of a public label set, such as "ade20k", in the order of their ids."""
    with (_LABEL_SETS / f"{label_set}.csv").open(encoding="utf-8", newline="") as stream:
        return [row["name"] for row in csv.DictReader(stream)]


def tensors_of(state: Mapping[str, Any], *, path: Path) -> dict[str, Tensor]:
    """The table of tensors in a file, also where training's state surrounds it."""
    for wrapper in ("model", "state_dict"):
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise ModelError(f"{path}: holds more than tensors: {', '.join(others[:8])}")
    names = [str(name) for name in state]
    trained_in = {name.partition(".")[0] for name in names}
    # Where every name begins alike, a training program's own module held the model.
    start = f"{trained_in.pop()}." if len(trained_in) == 1 and len(names) > 1 else "module."
    tensors = zip(names, state.values(), strict=True)
    return {name.removeprefix(start): tensor for name, tensor in tensors}


def choose_kind(
    path: Path, layout: OriginalFormat, wanted: str | None, *, name: str | None = None
) -> Kind:
    """The kind that is asked for, else the one that the file's name tells, or `name`."""
    names = ", ".join(kind.name for kind in layout.kinds)
    if wanted is not None:
        for kind in layout.kinds:
            if kind.name == wanted:
                return kind
        raise ModelError(f"{path}: its tensors fit the kinds {names}, not {wanted!r}")
    for kind in layout.kinds:
        if kind.hint in (name or path.name).lower().replace("-", "_"):
            return kind
    if len(layout.kinds) == 1:
        return layout.kinds[0]
    if layout.fallback is not None:
        logger.warning(
            "%s: taken for inverse depth without unit (kind %s)", path, layout.fallback.name
        )
        return layout.fallback
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
