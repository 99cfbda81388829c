"""What reading the authors' own files shares: kinds, tables of names, sizes from shapes.

In a table's names, `{n}` and `{m}` are numbers that stay as they are, `{q}` the rest of the name;
`{s}` counts from 1 there and from 0 here; `{r}` counts refinement blocks from the shallow end there
and from the deep end here; `{qkv}` here means that one tensor there holds query, key and value.
An empty name leaves a tensor out: nothing in the network uses it.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dptcli.errors import ModelError

HEAD_WIDTH = 64  # of every published ViT and DINOv2
NUM_STAGES = 4
QKV = ("query", "key", "value")
IMAGENET: dict[str, Any] = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

Table = tuple[tuple[str, str], ...]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the tensors of a file cannot tell.

    network_hw: the size its authors ran it at. metric: configuration for metres.
    hint: how the public file's name says it. taps: {number of blocks: 0-based taps}.
    """

    name: str
    network_hw: tuple[int, int]
    metric: Mapping[str, Any]
    hint: str
    taps: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class OriginalFormat:
    """One layout of the authors' files.

    title: as messages name it. fits: whether a file's tensors are of this layout. kinds: what the
    tensors cannot tell; the first whose hint is in the file's name counts. fallback: the kind of a
    file whose name says nothing, None where that is refused. config: the config.json, from the
    tensors. table: their names and ours. processor: what preprocessor_config.json says beside the
    size.
    """

    title: str
    fits: Callable[[Tensors], bool]
    kinds: tuple[Kind, ...]
    fallback: Kind | None = None
    config: Callable[[Tensors, Kind, Path], dict[str, Any]]
    table: Callable[[Tensors], Table]
    processor: Mapping[str, Any]


def vit_config(
    tensors: Mapping[str, Tensor], prefix: str, *, patch: int, path: Path
) -> dict[str, Any]:
    """The transformer's sizes, from the shapes of its tensors."""
    num_positions, width = shape_of(tensors, f"{prefix}.pos_embed", path, dims=3)[1:]
    blocks = re.compile(rf"{re.escape(prefix)}\.blocks\.(\d+)\.norm1\.weight")
    if width % HEAD_WIDTH:
        raise ModelError(f"{path}: a width of {width} is not a multiple of {HEAD_WIDTH}")
    return {
        "hidden_size": width,
        "num_hidden_layers": sum(1 for name in tensors if blocks.fullmatch(name)),
        "num_attention_heads": width // HEAD_WIDTH,
        "image_size": math.isqrt(num_positions - 1) * patch,
        "patch_size": patch,
        "qkv_bias": f"{prefix}.blocks.0.attn.qkv.bias" in tensors,
    }


def neck_config(tensors: Mapping[str, Tensor], prefix: str, path: Path) -> dict[str, Any]:
    """The widths of the neck."""
    shapes = [
        shape_of(tensors, f"{prefix}.layer{stage}_rn.weight", path, dims=4) for stage in range(1, 5)
    ]
    return {
        "neck_hidden_sizes": [shape[1] for shape in shapes],
        "fusion_hidden_size": shapes[0][0],
    }


def taps_of(taps: Mapping[int, tuple[int, ...]], num_layers: int, path: Path) -> tuple[int, ...]:
    if num_layers not in taps:
        raise ModelError(
            f"{path}: has {num_layers} blocks; files with {', '.join(map(str, taps))} are known"
        )
    return taps[num_layers]


def shape_of(tensors: Mapping[str, Tensor], name: str, path: Path, *, dims: int) -> tuple[int, ...]:
    if name not in tensors:
        raise ModelError(f"{path}: lacks the tensor {name!r}; fetch it again")
    shape = tuple(tensors[name].shape)
    if len(shape) != dims or 0 in shape:
        raise ModelError(f"{path}: {name!r} has the shape {shape}, which no model has")
    return shape


_FIELDS = {"n": r"\d+", "m": r"\d+", "q": r"[\w.]+", "s": r"[1-4]", "r": r"[1-4]"}


def rename(tensors: Mapping[str, Tensor], table: Table) -> tuple[dict[str, Tensor], list[str]]:
    """{our name: tensor}, and the names in the file that the table does not know."""
    rules = _rules(table)
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        found = _matching(name, rules)
        if found is None:
            unknown.append(name)
        elif found:
            renamed.update(_placed(found, tensor))
    return renamed, unknown


def our_names(name: str, table: Table) -> tuple[str, ...]:
    """What a tensor of a file is here: one name, three where it holds query, key and value, none.

    A name that the table does not know stays.
    """
    found = _matching(name, _rules(table))
    if found is None:
        return (name,)
    if "{qkv}" not in found:
        return (found,) if found else ()
    return tuple(found.format(qkv=part) for part in QKV)


def to_theirs(state: Mapping[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Tensors under the names of the files: the table read backwards, where it counts nothing.

    What the table does not know stays as it is.
    """
    rules = [
        (_pattern(ours.replace("{qkv}", part)), theirs)
        for theirs, ours in table
        for part in (QKV if "{qkv}" in ours else ("",))
    ]
    gathered: dict[str, list[Tensor]] = {}
    for name, tensor in state.items():  # in the order of query, key and value
        gathered.setdefault(_matching(name, rules) or name, []).append(tensor)
    return {
        name: tensors[0] if len(tensors) == 1 else torch.cat(tensors)
        for name, tensors in gathered.items()
    }


Rules = list[tuple[re.Pattern[str], str]]


@cache
def _rules(table: Table) -> Rules:
    return [(_pattern(theirs), ours) for theirs, ours in table]


def _matching(name: str, rules: Rules) -> str | None:
    """The other name of a tensor, {qkv} still open; None where no rule knows it."""
    matches = ((pattern.fullmatch(name), other) for pattern, other in rules)
    return next((_filled(other, match.groupdict()) for match, other in matches if match), None)


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    named = (f"(?P<{part}>{_FIELDS[part]})" for part in parts[1::2])
    fixed = map(re.escape, parts[::2])
    return re.compile("".join(_interleaved(fixed, named)))


def _interleaved(fixed: Iterable[str], named: Iterable[str]) -> Iterable[str]:
    rest = iter(named)
    for text in fixed:
        yield text
        yield next(rest, "")


def _filled(template: str, found: Mapping[str, str]) -> str:
    values = dict(found)
    if "s" in values:
        values["s"] = str(int(values["s"]) - 1)
    if "r" in values:
        values["r"] = str(NUM_STAGES - int(values["r"]))
    return template.format(**values, qkv="{qkv}")


def _placed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if "{qkv}" not in name:
        return {name: tensor}
    parts = tensor.chunk(len(QKV), dim=0)
    return {name.format(qkv=part): value for part, value in zip(QKV, parts, strict=False)}
