"""Depth Anything 3 for any views (Lin et al. 2025): depth, confidence and cameras of one scene.

Depth is an exponential, large is far, without a unit, but one for all views of a scene and for
their cameras' places. Names follow Depth Anything's state dict.
B scenes, S views of each, C channels of the fused maps, H×W pixels, h×w patches.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.errors import ConfigError, ShapeError
from dptcli.model.backbones.auto import AutoBackbone
from dptcli.model.dpt import asked_for
from dptcli.model.families.depth_anything.model import DepthAnythingHead
from dptcli.model.families.depth_anything_3_views.camera import CameraHead
from dptcli.model.families.depth_anything_3_views.config import DepthAnything3ViewsConfig
from dptcli.model.families.depth_anything_3_views.given import CameraEncoder, numbers_of
from dptcli.model.families.depth_anything_3_views.positions import (
    PositionedReassemble,
    with_positions,
)
from dptcli.model.layers import FeatureMap
from dptcli.model.losses import depth_loss
from dptcli.model.neck import Neck
from dptcli.model.outputs import DepthAndCameraOutput
from dptcli.model.pretrained import Pretrained


class DepthAnything3ViewsHead(DepthAnythingHead):
    """Depth Anything's head with positions before its last two convolutions, for two maps."""

    def __init__(self, config: DepthAnything3ViewsConfig) -> None:
        super().__init__(config)
        self.conv3 = nn.Conv2d(config.head_hidden_size, 2, kernel_size=1)

    def forward(  # type: ignore[override]  # two maps
        self, fused: Sequence[Tensor], image_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Fused maps (B, C, ·, ·) -> depth and confidence (B, H', W'), the image in whole patches.

        Confidence is 1 or more.
        """
        x = self.grown(fused, image_hw)
        x = with_positions(x, aspect=x.shape[-1] / x.shape[-2])
        depth, confidence = self.conv3(F.relu(self.conv2(x))).exp().unbind(1)
        return depth, confidence + 1


class DepthAnything3ViewsForDepthEstimation(Pretrained):
    """Depth Anything 3's networks for any views. Any height and width of at least one patch."""

    config_class = DepthAnything3ViewsConfig
    config: DepthAnything3ViewsConfig
    spare_keys: ClassVar[tuple[str, ...]] = (r"camera_encoder\..*",)
    takes_cameras: ClassVar[bool] = False
    # Of so many views maps are made together; they take many times their tokens' memory.
    views_at_once: ClassVar[int] = 8

    def __init__(self, config: DepthAnything3ViewsConfig) -> None:
        super().__init__(config)
        assert config.backbone_config is not None
        self.backbone = AutoBackbone.from_config(config.backbone_config)
        self.neck = Neck(config, reassemble_stage=PositionedReassemble)
        self.head = DepthAnything3ViewsHead(config)
        self.camera_head = CameraHead(config.backbone_width)
        self.camera_encoder = CameraEncoder(config) if self.takes_cameras else None
        self.initialize()

    def forward(
        self,
        pixel_values: Tensor,
        head_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        extrinsics: Tensor | None = None,
        intrinsics: Tensor | None = None,
    ) -> DepthAndCameraOutput | tuple[Any, ...]:
        """Estimate depth, how sure it is, and the cameras.

        pixel_values: (B, C, H, W), normalised, each image a scene of its own; or (B, S, C, H, W),
        the S views of B scenes. labels: measured depths (B, H', W') or (B, S, H', W') in any unit,
        not measured where zero, negative or not finite. extrinsics, intrinsics: the views' cameras,
        where they are known, see `numbers_of`; both or none, and with a camera encoder alone.
        Returns, with S where the pixels have it: predicted_depth and confidence
        (B, S, h·patch, w·patch); intrinsics (B, S, 3, 3) and extrinsics (B, S, 3, 4), see
        CameraHead, as the network has them in any case; and the loss for the labels, which neither
        scale nor shift changes.
        """
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        views = pixel_values.shape[:2] if pixel_values.ndim == 5 else pixel_values.shape[:1]
        pixels = pixel_values.flatten(0, 1) if len(views) == 2 else pixel_values
        scene: dict[str, Any] = {"num_views": views[1]} if len(views) == 2 else {}
        if extrinsics is not None or intrinsics is not None:
            scene["camera_tokens"] = self._tokens_of(extrinsics, intrinsics, views, pixels)
        found = self.backbone.features(
            pixels,
            head_mask=head_mask,
            need_states=want_states,
            need_weights=want_weights,
            **scene,
        )
        image_hw = (pixels.shape[-2], pixels.shape[-1])
        depth, confidence = self._maps(found.maps, image_hw, chunk=len(views) == 2)
        readout = found.maps[-1].readout
        assert readout is not None
        intrinsics, extrinsics = self.camera_head(readout, depth.shape[-2:])
        loss = None
        if labels is not None:
            flat = labels.flatten(0, 1) if labels.ndim == 4 else labels
            loss = depth_loss(depth, flat, kind="depth")
        output = DepthAndCameraOutput(
            loss=loss,
            predicted_depth=depth.unflatten(0, views),
            confidence=confidence.unflatten(0, views),
            intrinsics=intrinsics.unflatten(0, views),
            extrinsics=extrinsics.unflatten(0, views),
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        return output if as_object else output.to_tuple()

    def _tokens_of(
        self,
        extrinsics: Tensor | None,
        intrinsics: Tensor | None,
        views: torch.Size,
        pixels: Tensor,
    ) -> Tensor:
        """The tokens of cameras that are known (B, S, D). Raises ConfigError, ShapeError."""
        if extrinsics is None or intrinsics is None:
            raise ConfigError("extrinsics, intrinsics: cameras have both; give the other one too")
        if self.camera_encoder is None:
            raise ConfigError(
                f"extrinsics: a {type(self).__name__} finds the cameras by itself; a model with a "
                "camera encoder takes them"
            )
        if extrinsics.shape[:-2] != views or intrinsics.shape[:-2] != views:
            raise ShapeError(
                f"extrinsics, intrinsics: {tuple(extrinsics.shape)} and {tuple(intrinsics.shape)} "
                f"must begin with {tuple(views)}, as pixel_values do"
            )
        if len(views) == 1:
            extrinsics, intrinsics = extrinsics[:, None], intrinsics[:, None]
        # Few numbers, and not every device has double precision.
        numbers = numbers_of(extrinsics.cpu(), intrinsics.cpu(), pixels.shape[-2:])
        tokens: Tensor = self.camera_encoder(numbers.to(pixels.device))
        return tokens

    def _maps(
        self, features: Sequence[FeatureMap], image_hw: tuple[int, int], *, chunk: bool
    ) -> tuple[Tensor, Tensor]:
        """The features of all views -> their depth and confidence (B·S, H', W')."""
        if not chunk:
            return self.head(self.neck(features), image_hw)
        parts = []
        for start in range(0, len(features[0].map), self.views_at_once):
            some = slice(start, start + self.views_at_once)
            part = [FeatureMap(feature.map[some], None) for feature in features]
            parts.append(self.head(self.neck(part), image_hw))
        depths, confidences = zip(*parts, strict=True)
        return torch.cat(depths), torch.cat(confidences)


class DepthAnything3PosedViewsForDepthEstimation(DepthAnything3ViewsForDepthEstimation):
    """The same with its camera encoder, by which cameras may be given."""

    spare_keys: ClassVar[tuple[str, ...]] = ()
    takes_cameras: ClassVar[bool] = True
