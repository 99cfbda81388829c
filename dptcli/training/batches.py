"""What a training step sees: batches drawn from (seed, step), with frozen features kept."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dptcli.errors import UsageError
from dptcli.model.layers import FeatureMap
from dptcli.training.data import (
    IGNORE_LABEL,
    Example,
    Normalization,
    draw_shape,
    load_sample,
    number_of,
)
from dptcli.training.features import FeatureCache, Item
from dptcli.training.twins import Learner, feature_maps, segmenter


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a model is trained.

    shapes_hw: sizes of the crops; every batch has one of them, and images come rather in those of
    their own aspect. variants: augmented variants of each image, whose features are kept in
    memory when the backbone is frozen (up to `cache_gb`); 0 draws a new one every time. levels:
    which of the neck's fused maps, from deep to shallow, the head reads, drawn for every step; -1
    is the finest, the one that counts in the end, 1 has a quarter of its sides and costs an
    eighth of its time. average: decay of the weights' moving average.
    backbone_from: the first block of a plain ViT that learns with `backbone_rate`; those before it
    and the embeddings keep their weights, and need no backward pass.
    patience: validations without a better loss before training stops; 0 never stops. zoom: crops
    of different scales, which metric depth does not bear. normalization: the model's own.
    optimizer: "adamw" or "muon", see `make_optimizers`. groups: sets of classes of which a label
    may say no more than that it is one of them, see `Example.meanings`.
    """

    steps: int = 1000
    batch_size: int = 8
    learning_rate: float = 1e-3
    backbone_rate: float = 0.0
    backbone_from: int = 0
    weight_decay: float = 0.01
    warmup: int = 50
    average: float = 0.99
    accumulate: int = 1
    shapes_hw: tuple[tuple[int, int], ...] = ((210, 280), (280, 210), (168, 364))
    variants: int = 4
    levels: tuple[int, ...] = (-1,)
    cache_gb: float = 4.0
    seed: int = 0
    checkpoint_every: int = 100
    validate_every: int = 200
    patience: int = 0
    zoom: bool = True
    normalization: Normalization = field(default_factory=Normalization)
    dtype: str = "float32"
    optimizer: str = "adamw"
    groups: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "checkpoint_every", "validate_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: {getattr(self, name)} must be at least 1")
        if not self.learning_rate > 0:
            raise UsageError(f"learning_rate: {self.learning_rate} must be above 0")
        if self.optimizer not in ("adamw", "muon"):
            raise UsageError(f"optimizer: {self.optimizer!r} must be adamw or muon")
        if not 0 <= self.average < 1:
            raise UsageError(f"average: {self.average} must lie in [0, 1)")

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone keeps its weights."""
        return self.backbone_rate == 0


def precision(model: Learner, options: TrainOptions) -> torch.autocast:
    """The context in which the network runs in the chosen dtype."""
    dtype = getattr(torch, options.dtype)
    return torch.autocast(model.device.type, dtype=dtype, enabled=dtype is not torch.float32)


@dataclass
class Batch:
    """Features or pixels (B, …) with their targets (B, H, W).

    level: the fused map that the head reads, from deep to shallow; -1 the finest. absent: bool
    (B, num_labels), classes that unlabelled pixels are not; None where nothing is known of them.
    groups: bool (G, num_labels), what the labels from num_labels on mean; None without any.
    """

    maps: list[FeatureMap] | None
    pixel_values: Tensor | None
    inverse_depth: Tensor
    valid: Tensor
    labels: Tensor
    level: int = -1
    absent: Tensor | None = None
    groups: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        maps = self.maps and [
            FeatureMap(one.map.to(device), None if one.readout is None else one.readout.to(device))
            for one in self.maps
        ]
        pixels, absent, groups = self.pixel_values, self.absent, self.groups
        return Batch(
            maps=maps,
            pixel_values=None if pixels is None else pixels.to(device),
            inverse_depth=self.inverse_depth.to(device),
            valid=self.valid.to(device),
            labels=self.labels.to(device),
            level=self.level,
            absent=None if absent is None else absent.to(device),
            groups=None if groups is None else groups.to(device),
        )

    def where(self, wanted: Tensor) -> "Batch":
        """The targets of the images where `wanted` (bool, B) holds, without features or pixels."""
        return Batch(
            maps=None,
            pixel_values=None,
            inverse_depth=self.inverse_depth[wanted],
            valid=self.valid[wanted],
            labels=self.labels[wanted],
            level=self.level,
            absent=None if self.absent is None else self.absent[wanted],
            groups=self.groups,
        )


@dataclass
class Source:
    """Batches of a list of examples, with the features of a frozen backbone kept."""

    model: Learner
    examples: Sequence[Example]
    options: TrainOptions
    augment: bool = True
    cache: FeatureCache = field(default_factory=FeatureCache)

    def __post_init__(self) -> None:
        self._pools = self._shape_pools()

    def _shape_pools(self) -> dict[int, list[tuple[int, int]]]:
        """{index of a shape: the (example, variant) pairs that have it}; empty without variants."""
        pools: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for index in range(len(self.examples)):
            for variant in range(self.options.variants if self.augment else 0):
                pools[self._shape_of(index, variant)].append((index, variant))
        return pools

    def _shape_of(self, index: int, variant: int) -> int:
        options = self.options
        return draw_shape(
            self.examples[index], options.shapes_hw, seed=options.seed, variant=variant
        )

    def batch(self, step: int) -> Batch:
        """The batch of a step, drawn from (seed, step)."""
        options = self.options
        rng = np.random.default_rng([options.seed, 1, step])
        level = options.levels[int(rng.integers(len(options.levels)))]
        index = int(rng.integers(len(self.examples)))
        # Common shapes come more often.
        shape = self._shape_of(index, int(rng.integers(options.variants or 2**20)))
        if options.variants:
            pool = self._pools[shape]
            chosen = rng.choice(
                len(pool), options.batch_size, replace=len(pool) < options.batch_size
            )
            pairs = [pool[int(i)] for i in chosen]
        else:
            count = len(self.examples)
            chosen = rng.choice(count, options.batch_size, replace=count < options.batch_size)
            pairs = [(int(i), int(rng.integers(2**20))) for i in chosen]
        items = [self.item(i, variant, options.shapes_hw[shape]) for i, variant in pairs]
        return self._collate(items, level, [self.examples[i] for i, _ in pairs])

    def batches(self) -> "list[Batch]":
        """Every example once for each level, whole and undistorted, in batches of one."""
        shapes = self.options.shapes_hw
        return [
            self._collate([self.item(index, 0, shapes[self._nearest(index)])], level, [example])
            for index, example in enumerate(self.examples)
            for level in dict.fromkeys(self.options.levels)
        ]

    def _nearest(self, index: int) -> int:
        return draw_shape(self.examples[index], self.options.shapes_hw, seed=None, variant=0)

    def fill(self) -> int:
        """Compute and keep the features of every variant; the number of samples."""
        pairs = [(pair, shape) for shape, pool in self._pools.items() for pair in pool]
        for (index, variant), shape in pairs:
            self.item(index, variant, self.options.shapes_hw[shape])
        return len(pairs)

    def item(self, index: int, variant: int, hw: tuple[int, int]) -> Item:
        """A variant of an example at size `hw`, from the cache where it is kept."""
        options = self.options
        example = self.examples[index]
        key = (str(example.image), options.seed, variant, hw)
        kept = self.cache.get(key)
        # Features of a frozen backbone are nothing for one that learns.
        if kept is not None and (kept.maps is not None) == options.is_frozen:
            return kept
        sample = load_sample(
            example,
            hw,
            seed=options.seed,
            index=number_of(example),
            variant=variant,
            augment=self.augment,
            zoom=options.zoom,
            normalization=options.normalization,
        )
        teller = segmenter(self.model)
        if teller is not None:
            most = teller.config.num_labels + len(options.groups)
            _check_labels(sample.labels, most, example)
        pixels = torch.from_numpy(sample.pixel_values)
        maps = None
        if options.is_frozen:
            with torch.no_grad(), precision(self.model, options):
                found = feature_maps(self.model, pixels[None].to(self.model.device))
            # Rounded whether it is kept or not, so that the cache changes nothing.
            maps = [
                (m.map[0].half().cpu(), None if m.readout is None else m.readout[0].half().cpu())
                for m in found
            ]
        item = Item(
            maps=maps,
            pixel_values=None if options.is_frozen else pixels,
            inverse_depth=torch.from_numpy(sample.inverse_depth),
            valid=torch.from_numpy(sample.valid),
            labels=torch.from_numpy(sample.labels).to(torch.int16),
        )
        if options.variants or not self.augment:
            self.cache.add(key, item, limit=options.cache_gb * 1e9)
        return item

    def _collate(self, items: list[Item], level: int, examples: Sequence[Example]) -> Batch:
        maps = None
        if items[0].maps is not None:
            maps = []
            for stage in range(len(items[0].maps)):
                parts = [item.maps[stage] for item in items if item.maps is not None]
                readouts = [readout.float() for _, readout in parts if readout is not None]
                maps.append(
                    FeatureMap(
                        torch.stack([part.float() for part, _ in parts]),
                        torch.stack(readouts) if readouts else None,
                    )
                )
        pixels = [item.pixel_values for item in items if item.pixel_values is not None]
        return Batch(
            maps=maps,
            pixel_values=torch.stack(pixels) if pixels else None,
            inverse_depth=torch.stack([item.inverse_depth for item in items]),
            valid=torch.stack([item.valid for item in items]),
            labels=torch.stack([item.labels for item in items]),
            level=level,
            absent=self._absent(examples),
            groups=self._groups(),
        )

    def _absent(self, examples: Sequence[Example]) -> Tensor | None:
        """The classes that unlabelled pixels are not, bool (B, num_labels)."""
        teller = segmenter(self.model)
        if teller is None or not any(example.absent for example in examples):
            return None
        absent = torch.zeros(len(examples), teller.config.num_labels, dtype=torch.bool)
        for row, example in zip(absent, examples, strict=True):
            row[list(example.absent)] = True
        return absent

    def _groups(self) -> Tensor | None:
        """The options' groups, bool (G, num_labels)."""
        teller = segmenter(self.model)
        if teller is None or not self.options.groups:
            return None
        groups = torch.zeros(len(self.options.groups), teller.config.num_labels, dtype=torch.bool)
        for row, group in zip(groups, self.options.groups, strict=True):
            row[list(group)] = True
        return groups


def _check_labels(labels: NDArray[np.int64], num_labels: int, example: Example) -> None:
    unknown = np.unique(labels[(labels >= num_labels) & (labels != IGNORE_LABEL)])
    if unknown.size:
        name = example.labels.target if example.labels is not None else example.image
        raise UsageError(
            f"{name} has the class {unknown[0]}, the model {num_labels} classes from 0; name all "
            "classes in classes.txt beside the pairs, one a line"
        )
