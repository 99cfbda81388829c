"""Which tensor of a file is which of a model, and whether they fit each other."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from dptcli.errors import ModelError
from dptcli.model.pretrained import Pretrained
from dptcli.weights.format import Checkpoint

MAX_LISTED = 8  # names in an error message before it says how many more
# Names that older files use, tried where the name itself is unknown: (pattern, replacement).
RENAMES = (
    (r"(.*norm\w*)\.gamma", r"\1.weight"),
    (r"(.*norm\w*)\.beta", r"\1.bias"),
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
NEVER_RUN = r"neck\.fusion_stage\.layers\.0\.residual_layer1\..*"


def names_for(model: Pretrained, checkpoint: Checkpoint) -> dict[str, str]:
    """{the model's name: the file's name}. A bare model takes its part of a task's file."""
    wanted = model.state_dict().keys()
    names = checkpoint.names()
    prefix = f"{model.base_prefix}."
    if model.base_prefix and any(name.startswith(prefix) for name in names):
        named = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    else:
        named = {name: name for name in names}
    for part in model.modules():
        old_keys = part.old_keys if isinstance(part, Pretrained) else {}
        for pattern, name in old_keys.items():
            named = {re.sub(pattern, name, ours): key for ours, key in named.items()}
    named = {_renamed(ours, wanted): key for ours, key in named.items()}
    needless = re.compile("|".join((*IGNORED, *_optional_patterns(model))))
    return {
        ours: key
        for ours, key in named.items()
        if ours in wanted or not (ours == "" or needless.fullmatch(ours))
    }


def _renamed(name: str, wanted: Collection[str]) -> str:
    """The name that the model knows a tensor of an older file by."""
    for pattern, replacement in RENAMES:
        match = re.fullmatch(pattern, name, re.IGNORECASE)
        if name not in wanted and match is not None and match.expand(replacement) in wanted:
            return match.expand(replacement)
    return name


def check_names(
    model: Pretrained, checkpoint: Checkpoint, named: Mapping[str, str], *, folder: Path
) -> None:
    """Raise ModelError that lists every missing, unexpected and misshapen tensor."""
    wanted = model.state_dict()
    optional = re.compile("|".join(_optional_patterns(model)))
    missing = [name for name in wanted if name not in named and not optional.fullmatch(name)]
    unexpected = [name for name in named if name not in wanted]
    misshapen = [
        f"{name} is {checkpoint.shape(key)}, must be {tuple(wanted[name].shape)}"
        for name, key in named.items()
        if name in wanted and checkpoint.shape(key) != tuple(wanted[name].shape)
    ]
    misshapen += [
        f"{name} holds whole numbers"
        for name, key in named.items()
        if name in wanted
        and wanted[name].is_floating_point()
        and not checkpoint.is_floating_point(key)
    ]
    problems = [
        f"{len(names)} {kind}: {listed(names)}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("misshapen", misshapen),
        )
        if names
    ]
    if problems:
        raise ModelError(
            f"{folder}: the tensors do not fit {type(model).__name__} as config.json describes it: "
            f"{'; '.join(problems)}"
        )


def listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:MAX_LISTED])
    return shown if len(names) <= MAX_LISTED else f"{shown} and {len(names) - MAX_LISTED} more"


def _optional_patterns(model: Pretrained) -> list[str]:
    parts = (part for part in model.modules() if isinstance(part, Pretrained))
    return [NEVER_RUN, *dict.fromkeys(pattern for part in parts for pattern in part.optional_keys)]
