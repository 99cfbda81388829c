"""Both tasks on one backbone that learns: what the built-in models share stays shared."""

from collections.abc import Mapping, Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from dptcli.model.dpt import DensePredictor, DPTForDepthEstimation, DPTForSemanticSegmentation
from dptcli.model.layers import FeatureMap


class Twins(nn.Module):
    """A depth and a segmentation model; the second one's backbone becomes the first one's."""

    def __init__(self, depth: DPTForDepthEstimation, segment: DPTForSemanticSegmentation) -> None:
        super().__init__()
        segment.backbone = depth.backbone
        self.depth = depth
        self.segment = segment

    @classmethod
    def of(cls, models: Mapping[str, DensePredictor]) -> Self:
        """Join the models of "depth" and "segment"."""
        depth, segment = models["depth"], models["segment"]
        assert isinstance(depth, DPTForDepthEstimation)
        assert isinstance(segment, DPTForSemanticSegmentation)
        return cls(depth, segment)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.depth.device

    @property
    def backbone(self) -> nn.Module:
        """The one that both share."""
        return cast(nn.Module, self.depth.backbone)

    def features(self, pixel_values: Tensor) -> list[FeatureMap]:
        """Pixels (B, 3, H, W) -> the maps that both necks read, from shallow to deep."""
        return self.depth.features(pixel_values).maps


Learner = DensePredictor | Twins
"""What the loop trains."""


def segmenter(model: Learner) -> DPTForSemanticSegmentation | None:
    """The part that tells classes, if the model has one."""
    part = model.segment if isinstance(model, Twins) else model
    return part if isinstance(part, DPTForSemanticSegmentation) else None


def feature_maps(model: Learner, pixel_values: Tensor) -> list[FeatureMap]:
    """Pixels (B, 3, H, W) -> the maps that the neck reads, from shallow to deep."""
    found = model.features(pixel_values)
    return found if isinstance(found, list) else found.maps


def backbone_of(model: Learner) -> nn.Module:
    """The part that turns pixels into maps."""
    part = model.backbone if model.backbone is not None else getattr(model, "dpt", None)
    assert isinstance(part, nn.Module)
    return part


def select(maps: Sequence[FeatureMap], wanted: Tensor) -> list[FeatureMap]:
    """Maps (B, …) of the images where `wanted` (bool, B) holds."""
    return [
        FeatureMap(part.map[wanted], None if part.readout is None else part.readout[wanted])
        for part in maps
    ]
