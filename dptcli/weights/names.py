"""Which tensor of a file is which of a model, and whether they fit each other."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dptcli.errors import ModelError
from dptcli.model.pretrained import Pretrained
from dptcli.weights.format import Checkpoint

MAX_LISTED = 8  # names in an error message before it says how many more
# Names that other releases use, tried where the name itself is unknown: (pattern, replacement).
RENAMES = (
    (r"(.*norm\w*)\.gamma", r"\1.weight"),
    (r"(.*norm\w*)\.beta", r"\1.bias"),
    # How the reference's 5.x holds DINOv2's and BEiT's attention in memory; its files don't.
    (r"(.*\.attention)\.q_proj\.(\w+)", r"\1.attention.query.\2"),
    (r"(.*\.attention)\.k_proj\.(\w+)", r"\1.attention.key.\2"),
    (r"(.*\.attention)\.v_proj\.(\w+)", r"\1.attention.value.\2"),
    (r"(.*\.attention)\.o_proj\.(\w+)", r"\1.output.dense.\2"),
    (r"(.*\.mlp)\.down_proj\.(\w+)", r"\1.weights_out.\2"),
)
# What older files hold beyond the model's parameters: tables that follow from the configuration,
# counters, and a token for masked images that only pretraining uses.
IGNORED = (
    r".*\.relative_position_index",
    r".*\.relative_coords_table",
    r".*\.position_ids",
    r".*\.num_batches_tracked",
    r"(.*\.)?embeddings\.mask_token",
)
# The first fusion block gets no skip map, so its first unit never runs. The reference's modules
# hold it all the same, and published files may lack it: Intel/dpt-large does.
NEVER_RUN = r"(.*\.)?neck\.fusion_stage\.layers\.0\.residual_layer1\..*"


def names_for(model: Pretrained, checkpoint: Checkpoint) -> dict[str, str]:
    """{the model's name: the file's name}. A bare model takes its part of a task's file."""
    wanted = model.state_dict().keys()
    names = checkpoint.names()
    prefix = f"{model.base_prefix}."
    if model.base_prefix and any(name.startswith(prefix) for name in names):
        named = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    else:
        named = {_inside(name, model): name for name in names}
    for part in model.modules():
        old_keys = part.old_keys if isinstance(part, Pretrained) else {}
        for pattern, name in old_keys.items():
            named = {re.sub(pattern, name, ours): key for ours, key in named.items()}
    named = {_renamed(ours, wanted): key for ours, key in named.items()}
    needless = re.compile("|".join((*IGNORED, *model.spare_keys, *_optional_patterns(model))))
    return {
        ours: key
        for ours, key in named.items()
        if ours in wanted or not (ours == "" or needless.fullmatch(ours))
    }


def _inside(name: str, model: Pretrained) -> str:
    """A name of a bare model's own file as a task's model knows it, with the part's prefix."""
    for prefix, part in model.named_children():
        if isinstance(part, Pretrained) and part.base_prefix == prefix:
            head = name.partition(".")[0]
            if not hasattr(model, head) and hasattr(part, head):
                return f"{prefix}.{name}"
    return name


def _renamed(name: str, wanted: Collection[str]) -> str:
    """The name that the model knows a tensor of an older file by."""
    for pattern, replacement in RENAMES:
        match = re.fullmatch(pattern, name, re.IGNORECASE)
        if name not in wanted and match is not None and match.expand(replacement) in wanted:
            return match.expand(replacement)
    return name


@dataclass(frozen=True, kw_only=True)
class Misfits:
    """What of a file and a model does not fit each other.

    misshapen: {name: why}, with the shapes (file's, model's) in `shapes` where these differ.
    """

    missing: list[str]
    unexpected: list[str]
    misshapen: dict[str, str]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)

    @property
    def unusable(self) -> set[str]:
        """The tensors of the file that the model cannot take."""
        return {*self.unexpected, *self.misshapen}

    def problems(self) -> str:
        """All of it in one line, the first names of each kind."""
        kinds = (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("misshapen", [f"{name} {why}" for name, why in self.misshapen.items()]),
        )
        return "; ".join(f"{len(names)} {kind}: {listed(names)}" for kind, names in kinds if names)

    def refuse(self, place: Path | str, model: str) -> None:
        """Raise ModelError where there are any."""
        if self:
            raise ModelError(
                f"{place}: the tensors do not fit {model} as config.json describes it: "
                f"{self.problems()} (in Python, ignore_mismatched_sizes=True loads what fits)"
            )

    def said(self, model: str) -> str:
        """What loading without strictness makes of them."""
        return (
            f"not everything fits {model}: {self.problems()}; what is missing or misshapen starts "
            "from first weights, to be trained, and what is unexpected is left out"
        )

    def info(self) -> dict[str, Any]:
        """The reference's table of them (output_loading_info)."""
        return {
            "missing_keys": set(self.missing),
            "unexpected_keys": set(self.unexpected),
            "mismatched_keys": {(name, *self.shapes[name]) for name in self.shapes},
            "error_msgs": [],
        }


def misfits_of(model: Pretrained, checkpoint: Checkpoint, named: Mapping[str, str]) -> Misfits:
    """Every missing, unexpected and misshapen tensor."""
    wanted = model.state_dict()
    optional = re.compile("|".join(_optional_patterns(model)))
    missing = [name for name in wanted if name not in named and not optional.fullmatch(name)]
    unexpected = [name for name in named if name not in wanted]
    shapes = {
        name: (checkpoint.shape(key), tuple(wanted[name].shape))
        for name, key in named.items()
        if name in wanted and checkpoint.shape(key) != tuple(wanted[name].shape)
    }
    misshapen = {name: f"is {found}, must be {needed}" for name, (found, needed) in shapes.items()}
    misshapen |= {
        name: "holds whole numbers"
        for name, key in named.items()
        if name in wanted
        and wanted[name].is_floating_point()
        and not checkpoint.is_floating_point(key)
    }
    return Misfits(missing=missing, unexpected=unexpected, misshapen=misshapen, shapes=shapes)


def listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:MAX_LISTED])
    return shown if len(names) <= MAX_LISTED else f"{shown} and {len(names) - MAX_LISTED} more"


def _optional_patterns(model: Pretrained) -> list[str]:
    parts = (part for part in model.modules() if isinstance(part, Pretrained))
    return [NEVER_RUN, *dict.fromkeys(pattern for part in parts for pattern in part.optional_keys)]
