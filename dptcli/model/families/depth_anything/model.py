"""Depth Anything v1 and V2 (Yang et al. 2024): DINOv2, DPT's neck, a head at the image's size.

Relative models answer inverse depth (large is near); metric ones a fraction of `max_depth` in
metres. Names follow the hub's state dict.
B batch, C channels of the fused maps, H×W pixels, h×w patches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.errors import ConfigError
from dptcli.model.backbones.auto import AutoBackbone
from dptcli.model.backbones.plain_config import backbone_config_from
from dptcli.model.checks import (
    Activation,
    check_neck,
    pair_of,
    require_choice,
    require_int,
    require_number,
)
from dptcli.model.config import DEPTH_TYPES, Config
from dptcli.model.dpt import asked_for
from dptcli.model.layers import GrowBilinear
from dptcli.model.losses import depth_loss
from dptcli.model.neck import Neck
from dptcli.model.outputs import DepthEstimatorOutput
from dptcli.model.pretrained import Pretrained

# The small model's backbone, which a file without one means.
SMALL_BACKBONE = {
    "model_type": "dinov2",
    "image_size": 518,
    "hidden_size": 384,
    "num_attention_heads": 6,
    "out_indices": [9, 10, 11, 12],
    "reshape_hidden_states": False,
}


@dataclass(frozen=True, init=False)
class DepthAnythingConfig(Config):
    """The architecture of a Depth Anything model, with the reference's names and defaults.

    max_depth: metres that the head's 1 stands for in a metric model; the reference scales
    relative models by it too (1 by default), and so do we. None means 1.

    Raises ConfigError naming the field, the value and what is allowed.
    """

    model_type: ClassVar[str] = "depth_anything"
    # What the neck asks: no class token, plain fusion blocks, each as large as the next map.
    readout_type: ClassVar[str] = "ignore"
    neck_ignore_stages: ClassVar[Sequence[int]] = ()
    reassembles: ClassVar[bool] = True
    hidden_act: ClassVar[Activation] = "gelu"
    use_batch_norm_in_fusion_residual: ClassVar[bool] = False
    use_bias_in_fusion_residual: ClassVar[bool | None] = True
    fuses_to_next_map: ClassVar[bool] = True

    backbone_config: Config | Mapping[str, Any] | None = None
    patch_size: int | Sequence[int] = 14
    initializer_range: float = 0.02
    reassemble_hidden_size: int = 384
    reassemble_factors: Sequence[float] = (4, 2, 1, 0.5)
    neck_hidden_sizes: Sequence[int] = (48, 96, 192, 384)
    fusion_hidden_size: int = 64
    head_in_index: int = -1
    head_hidden_size: int = 32
    depth_estimation_type: str = "relative"
    max_depth: float | None = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        named = SMALL_BACKBONE if self.backbone_config is None else self.backbone_config
        if isinstance(named, Mapping):
            named = backbone_config_from({"model_type": "dinov2", **named})
        if not isinstance(named, Config):
            raise ConfigError(
                f"backbone_config: {named!r} must be a backbone configuration or its dictionary"
            )
        self._set("backbone_config", named)
        for name, theirs in (
            ("patch_size", "patch_size"),
            ("reassemble_hidden_size", "hidden_size"),
        ):
            expected = getattr(named, theirs, None)
            if expected is not None and expected != getattr(self, name):
                raise ConfigError(
                    f"{name}: {getattr(self, name)!r} must be the backbone's {theirs} {expected!r}"
                )
        check_neck(self)
        require_int("head_hidden_size", self.head_hidden_size, low=1)
        require_choice("depth_estimation_type", self.depth_estimation_type, DEPTH_TYPES)
        if self.max_depth is not None:
            require_number("max_depth", self.max_depth, low=0.0)

    @property
    def backbone_width(self) -> int:
        """The width of the tokens that the neck reassembles."""
        return self.reassemble_hidden_size


class DepthAnythingHead(nn.Module):
    """Three convolutions; the map grows to the image's size after the first."""

    def __init__(self, config: DepthAnythingConfig) -> None:
        super().__init__()
        channels = config.fusion_hidden_size
        self.index = config.head_in_index
        self.patch_hw = pair_of("patch_size", config.patch_size)
        self.metric = config.depth_estimation_type == "metric"
        self.max_depth = 1.0 if config.max_depth is None else config.max_depth
        self.conv1 = nn.Conv2d(channels, channels // 2, kernel_size=3, padding=1)
        self.grow = GrowBilinear()
        self.conv2 = nn.Conv2d(channels // 2, config.head_hidden_size, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(config.head_hidden_size, 1, kernel_size=1)

    def forward(self, fused: Sequence[Tensor], image_hw: tuple[int, int]) -> Tensor:
        """Fused maps (B, C, ·, ·) -> depth (B, H', W'), the image without an incomplete patch."""
        height, width = (
            side // patch * patch for side, patch in zip(image_hw, self.patch_hw, strict=True)
        )
        x = self.grow(self.conv1(fused[self.index]), (height, width))
        x = self.conv3(F.relu(self.conv2(x)))
        x = torch.sigmoid(x) if self.metric else F.relu(x)
        return (x * self.max_depth).squeeze(1)


class DepthAnythingForDepthEstimation(Pretrained):
    """A Depth Anything model. Any height and width of at least one patch."""

    config_class = DepthAnythingConfig
    config: DepthAnythingConfig

    def __init__(self, config: DepthAnythingConfig) -> None:
        super().__init__(config)
        assert config.backbone_config is not None
        self.backbone = AutoBackbone.from_config(config.backbone_config)
        self.neck = Neck(config)
        self.head = DepthAnythingHead(config)
        self.initialize()

    def forward(
        self,
        pixel_values: Tensor,
        head_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> DepthEstimatorOutput | tuple[Any, ...]:
        """Estimate depth.

        pixel_values: (B, C, H, W), normalised. labels: measured depths (B, H', W'), not measured
        where zero, negative or not finite; in metres for a metric model.
        Returns predicted_depth (B, h·patch, w·patch): inverse depth, large is near (relative), or
        metres (metric); and the loss for the labels.
        """
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        found = self.backbone.features(
            pixel_values, head_mask=head_mask, need_states=want_states, need_weights=want_weights
        )
        image_hw = (pixel_values.shape[-2], pixel_values.shape[-1])
        predicted_depth = self.head(self.neck(found.maps), image_hw)
        loss = None
        if labels is not None:
            metric = self.config.depth_estimation_type == "metric"
            loss = depth_loss(predicted_depth, labels, metric=metric)
        output = DepthEstimatorOutput(
            loss=loss,
            predicted_depth=predicted_depth,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        return output if as_object else output.to_tuple()
