"""What a training step sees: batches drawn from (seed, step), with frozen features kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dptcli.errors import UsageError
from dptcli.model.dpt import DensePredictor, DPTForSemanticSegmentation
from dptcli.model.layers import FeatureMap
from dptcli.training.data import IGNORE_LABEL, Example, Normalization, load_sample


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a model is trained.

    shapes_hw: sizes of the crops; every batch has one of them. variants: augmented variants of
    each image, whose features are kept in memory when the backbone is frozen (up to
    `cache_gb`); 0 draws a new one every time. average: decay of the weights' moving average.
    patience: validations without a better loss before training stops; 0 never stops. zoom: crops
    of different scales, which metric depth does not bear. normalization: the model's own.
    """

    steps: int = 1000
    batch_size: int = 8
    learning_rate: float = 1e-3
    backbone_rate: float = 0.0
    weight_decay: float = 0.01
    warmup: int = 50
    average: float = 0.99
    accumulate: int = 1
    shapes_hw: tuple[tuple[int, int], ...] = ((210, 280), (280, 210), (168, 364))
    variants: int = 4
    cache_gb: float = 4.0
    seed: int = 0
    checkpoint_every: int = 100
    validate_every: int = 200
    patience: int = 0
    zoom: bool = True
    normalization: Normalization = field(default_factory=Normalization)
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "checkpoint_every", "validate_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: {getattr(self, name)} must be at least 1")
        if not self.learning_rate > 0:
            raise UsageError(f"learning_rate: {self.learning_rate} must be above 0")
        if not 0 <= self.average < 1:
            raise UsageError(f"average: {self.average} must lie in [0, 1)")

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone keeps its weights."""
        return self.backbone_rate == 0


def precision(model: DensePredictor, options: TrainOptions) -> torch.autocast:
    """The context in which the network runs in the chosen dtype."""
    dtype = getattr(torch, options.dtype)
    return torch.autocast(model.device.type, dtype=dtype, enabled=dtype is not torch.float32)


@dataclass
class Batch:
    """Features or pixels (B, …) with their targets (B, H, W), on the model's device."""

    maps: list[FeatureMap] | None
    pixel_values: Tensor | None
    inverse_depth: Tensor
    valid: Tensor
    labels: Tensor


@dataclass
class _Item:
    """One cached sample: its features and targets, on the CPU."""

    maps: list[tuple[Tensor, Tensor | None]] | None
    pixel_values: Tensor | None
    inverse_depth: Tensor
    valid: Tensor
    labels: Tensor


@dataclass
class FeatureCache:
    """Samples with their features, by (example, variant), for all tasks on one backbone."""

    items: dict[tuple[int, int], _Item] = field(default_factory=dict)
    num_bytes: int = 0

    def add(self, key: tuple[int, int], item: _Item, *, limit: float) -> None:
        """Keep an item while the sum stays below `limit` bytes."""
        tensors = [item.inverse_depth, item.valid, item.labels]
        for part, readout in item.maps or []:
            tensors += [part] if readout is None else [part, readout]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if self.num_bytes + size < limit:
            self.items[key] = item
            self.num_bytes += size


@dataclass
class Source:
    """Batches of a list of examples, with the features of a frozen backbone kept in memory."""

    model: DensePredictor
    examples: Sequence[Example]
    options: TrainOptions
    augment: bool = True
    cache: FeatureCache = field(default_factory=FeatureCache)

    def batch(self, step: int) -> Batch:
        """The batch of a step, drawn from (seed, step)."""
        options = self.options
        rng = np.random.default_rng([options.seed, 1, step])
        shape = int(rng.integers(len(options.shapes_hw)))
        indices = rng.choice(
            len(self.examples), options.batch_size, replace=len(self.examples) < options.batch_size
        )
        num = len(options.shapes_hw)
        rounds = options.variants or 2**20
        # Variant v of an image always has shape v modulo the number of shapes.
        return self._collate(
            [self._item(int(i), int(rng.integers(rounds)) * num + shape) for i in indices]
        )

    def batches(self) -> "list[Batch]":
        """Every example once, whole and undistorted, in batches of one."""
        return [self._collate([self._item(index, 0)]) for index in range(len(self.examples))]

    def _item(self, index: int, variant: int) -> _Item:
        key = (index, variant)
        if key in self.cache.items:
            return self.cache.items[key]
        options = self.options
        example = self.examples[index]
        hw = options.shapes_hw[variant % len(options.shapes_hw)]
        sample = load_sample(
            example,
            hw,
            seed=options.seed,
            index=index,
            variant=variant,
            augment=self.augment,
            zoom=options.zoom,
            normalization=options.normalization,
        )
        if isinstance(self.model, DPTForSemanticSegmentation):
            _check_labels(sample.labels, self.model.config.num_labels, example)
        pixels = torch.from_numpy(sample.pixel_values)
        maps = None
        if options.is_frozen:
            with torch.no_grad(), precision(self.model, options):
                found = self.model.features(pixels[None].to(self.model.device))
            # Rounded whether it is kept or not, so that the cache changes nothing.
            maps = [
                (m.map[0].half().cpu(), None if m.readout is None else m.readout[0].half().cpu())
                for m in found.maps
            ]
        item = _Item(
            maps=maps,
            pixel_values=None if options.is_frozen else pixels,
            inverse_depth=torch.from_numpy(sample.inverse_depth),
            valid=torch.from_numpy(sample.valid),
            labels=torch.from_numpy(sample.labels).to(torch.uint8),
        )
        if options.variants or not self.augment:
            self.cache.add(key, item, limit=options.cache_gb * 1e9)
        return item

    def _collate(self, items: list[_Item]) -> Batch:
        device = self.model.device
        maps = None
        if items[0].maps is not None:
            maps = []
            for level in range(len(items[0].maps)):
                parts = [item.maps[level] for item in items if item.maps is not None]
                readouts = [readout.float() for _, readout in parts if readout is not None]
                maps.append(
                    FeatureMap(
                        torch.stack([part.float() for part, _ in parts]).to(device),
                        torch.stack(readouts).to(device) if readouts else None,
                    )
                )
        pixels = [item.pixel_values for item in items if item.pixel_values is not None]
        return Batch(
            maps=maps,
            pixel_values=torch.stack(pixels).to(device) if pixels else None,
            inverse_depth=torch.stack([item.inverse_depth for item in items]).to(device),
            valid=torch.stack([item.valid for item in items]).to(device),
            labels=torch.stack([item.labels for item in items]).to(device),
        )


def _check_labels(labels: NDArray[np.int64], num_labels: int, example: Example) -> None:
    unknown = np.unique(labels[(labels >= num_labels) & (labels != IGNORE_LABEL)])
    if unknown.size:
        name = example.labels.target if example.labels is not None else example.image
        raise UsageError(
            f"{name} has the class {unknown[0]}, the model {num_labels} classes from 0; name all "
            "classes in classes.txt beside the pairs, one a line"
        )
