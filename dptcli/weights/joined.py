"""Tensors of a file that are one tensor of a model: the reference's 5.x takes some apart in memory.

Its files hold them whole, a state dict that was saved as it is does not.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dptcli.weights.format import Checkpoint

# (the first part's name, the second's, the whole's): DINOv2's gated MLP, gate and value.
_JOINS = ((r"(.*\.mlp)\.gate_proj\.(\w+)", r"\1.up_proj.\2", r"\1.weights_in.\2"),)


def with_joined(checkpoint: Checkpoint, wanted: Collection[str]) -> Checkpoint:
    """The checkpoint, its parts as wholes where the model has these; `wanted`: its names."""
    names = checkpoint.names()
    parts = {}
    for pattern, second, whole in _JOINS:
        for first in names:
            match = re.fullmatch(pattern, first)
            if match is None or match.expand(second) not in names:
                continue
            name = match.expand(whole)
            if _has(wanted, name):
                parts[name] = (first, match.expand(second))
    return JoinedTensors(checkpoint, parts) if parts else checkpoint


def _has(wanted: Collection[str], name: str) -> bool:
    """Whether a model knows a name, with a prefix more or less: a backbone's own file has none."""
    return any(f".{each}".endswith(f".{name}") or name.endswith(f".{each}") for each in wanted)


class JoinedTensors(Checkpoint):
    """A checkpoint some of whose tensors are several of another's, their rows one after another."""

    def __init__(self, source: Checkpoint, parts: Mapping[str, tuple[str, ...]]) -> None:
        self._source = source
        self._parts = parts

    def names(self) -> list[str]:
        taken = {name for names in self._parts.values() for name in names}
        return [*(name for name in self._source.names() if name not in taken), *self._parts]

    def files(self) -> list[Path]:
        return self._source.files()

    def shape(self, name: str) -> tuple[int, ...]:
        shapes = [self._source.shape(part) for part in self._named(name)]
        return sum(shape[0] for shape in shapes), *shapes[0][1:]

    def is_floating_point(self, name: str) -> bool:
        return all(self._source.is_floating_point(part) for part in self._named(name))

    def tensor(self, name: str) -> Tensor:
        parts = [self._source.tensor(part) for part in self._named(name)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _named(self, name: str) -> tuple[str, ...]:
        return self._parts.get(name, (name,))
