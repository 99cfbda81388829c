"""Frozen features that are kept: in memory up to a limit, or in a folder for later runs."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from dptcli.results.files import atomic_path

Key = tuple[str, int, int, tuple[int, int]]
"""Path of an image, seed and number of its variant, size (H, W)."""


@dataclass
class Item:
    """One sample, on the CPU: features (float16) or pixels, and its targets (H, W)."""

    maps: list[tuple[Tensor, Tensor | None]] | None
    pixel_values: Tensor | None
    inverse_depth: Tensor
    valid: Tensor
    labels: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a file of the item holds."""
        found = {
            "inverse_depth": self.inverse_depth,
            "valid": self.valid,
            "labels": self.labels,
        }
        for stage, (part, readout) in enumerate(self.maps or []):
            found[f"map{stage}"] = part.contiguous()
            if readout is not None:
                found[f"readout{stage}"] = readout.contiguous()
        return found


@dataclass
class FeatureCache:
    """Samples with their features, for all tasks on one backbone.

    folder: keep them there, without a limit, where another process or a later run finds them;
    one folder is for one backbone and one way of augmentation.
    """

    folder: Path | None = None
    items: dict[Key, Item] = field(default_factory=dict)
    num_bytes: int = 0

    def get(self, key: Key) -> Item | None:
        """The kept item, if there is one."""
        if self.folder is None:
            return self.items.get(key)
        path = self._path(key)
        if not path.is_file():
            return None
        found = load_file(path)
        stages = sum(name.startswith("map") for name in found)
        return Item(
            maps=[(found[f"map{k}"], found.get(f"readout{k}")) for k in range(stages)],
            pixel_values=None,
            inverse_depth=found["inverse_depth"],
            valid=found["valid"],
            labels=found["labels"],
        )

    def add(self, key: Key, item: Item, *, limit: float) -> None:
        """Keep an item: in memory while the sum stays below `limit` bytes."""
        tensors = item.tensors()
        if self.folder is not None and item.maps is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._path(key)) as temporary:
                save_file(tensors, temporary)
            return
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if self.num_bytes + size < limit:
            self.items[key] = item
            self.num_bytes += size

    def _path(self, key: Key) -> Path:
        assert self.folder is not None
        image, seed, variant, (height, width) = key
        digest = hashlib.sha256(image.encode()).hexdigest()[:12]
        name = f"{Path(image).stem}-{digest}-{seed}-{variant}-{height}x{width}.safetensors"
        return self.folder / name
