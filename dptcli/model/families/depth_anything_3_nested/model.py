"""Depth Anything 3 nested (Lin et al. 2025): depth and cameras of one scene, in metres.

A network for any views finds depth and cameras without a unit, a metric one sees each view on its
own; one factor for the whole scene brings the first to the second's metres.
B scenes, S views of each, H×W pixels, h×w patches.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dptcli.errors import ConfigError
from dptcli.model.dpt import asked_for
from dptcli.model.families.depth_anything_3.model import DepthAnything3ForDepthEstimation
from dptcli.model.families.depth_anything_3_nested.aligning import align
from dptcli.model.families.depth_anything_3_nested.config import DepthAnything3NestedConfig
from dptcli.model.families.depth_anything_3_views.model import (
    DepthAnything3PosedViewsForDepthEstimation,
    DepthAnything3ViewsForDepthEstimation,
)
from dptcli.model.outputs import ModelOutput, Tensors
from dptcli.model.pretrained import Pretrained


class MetricSceneOutput(ModelOutput):
    """predicted_depth (B, H, W), metres; confidence (B, H, W), 1 or more, and 1 in the sky.

    sky (B, H, W), large where it is; sky_depth (B,): the metres that its pixels are to have.
    intrinsics (B, 3, 3), extrinsics (B, 3, 4): see DepthAndCameraOutput, in metres. (B, S, …) of S
    views of a scene.
    """

    predicted_depth: Tensor | None = None
    confidence: Tensor | None = None
    sky: Tensor | None = None
    sky_depth: Tensor | None = None
    intrinsics: Tensor | None = None
    extrinsics: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


class DepthAnything3NestedForDepthEstimation(Pretrained):
    """Both networks. Any height and width of at least one patch."""

    config_class = DepthAnything3NestedConfig
    config: DepthAnything3NestedConfig
    spare_keys: ClassVar[tuple[str, ...]] = (r"views\.camera_encoder\..*",)
    views_class: ClassVar[type[DepthAnything3ViewsForDepthEstimation]] = (
        DepthAnything3ViewsForDepthEstimation
    )
    # The networks are joined by what they say, behind all of their arithmetic.
    ends_by_values: ClassVar[bool] = True

    def __init__(self, config: DepthAnything3NestedConfig) -> None:
        super().__init__(config)
        self.views = self.views_class(config.views)
        self.metric = DepthAnything3ForDepthEstimation(config.metric)

    @property
    def views_at_once(self) -> int:
        """Of how many views maps are made together, as the network for any views has it."""
        return self.views.views_at_once

    @property
    def camera_encoder(self) -> nn.Module | None:
        """What reads cameras that are given."""
        return self.views.camera_encoder

    def get_input_embeddings(self) -> nn.Module:
        return self.views.get_input_embeddings()

    def forward(
        self,
        pixel_values: Tensor,
        head_mask: None = None,
        labels: None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        extrinsics: Tensor | None = None,
        intrinsics: Tensor | None = None,
    ) -> MetricSceneOutput | tuple[Any, ...]:
        """Estimate depth in metres, how sure it is, the cameras and the sky.

        pixel_values, extrinsics, intrinsics: as DepthAnything3ViewsForDepthEstimation takes them.
        The sky's depths stay as the networks have them. States and attentions are those of the
        network for any views. Raises ConfigError for labels: its parts are trained on their own.
        """
        if labels is not None or head_mask is not None:
            raise ConfigError("labels, head_mask: two networks predict here; train one of them")
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        found = self.views(
            pixel_values,
            output_attentions=want_weights,
            output_hidden_states=want_states,
            return_dict=True,
            extrinsics=extrinsics,
            intrinsics=intrinsics,
        )
        views = found.intrinsics.shape[:-2]
        metric, sky = self._metric(pixel_values, chunk=len(views) == 2)
        focal_px = (found.intrinsics[..., 0, 0] + found.intrinsics[..., 1, 1]) / 2
        reference_px = self.config.metric.reference_focal_px
        assert reference_px is not None
        metric = metric.unflatten(0, views) * (focal_px / reference_px)[..., None, None]
        sky = sky.unflatten(0, views)
        is_sky = sky >= self.config.sky_threshold
        scenes = zip(found.predicted_depth, found.confidence, metric, is_sky, strict=True)
        aligned = [align(*maps, max_sky_m=self.config.max_sky_m) for maps in scenes]
        scale, sky_m = (torch.stack(each) for each in zip(*aligned, strict=True))  # (B,)
        if len(views) == 2:
            scale, sky_m = (each[:, None].expand(views) for each in (scale, sky_m))  # -> (B, S)
        places = found.extrinsics[..., 3:] * scale[..., None, None]
        output = MetricSceneOutput(
            predicted_depth=found.predicted_depth * scale[..., None, None],
            confidence=found.confidence.masked_fill(is_sky, 1.0),
            sky=sky,
            sky_depth=sky_m,
            intrinsics=found.intrinsics,
            extrinsics=torch.cat((found.extrinsics[..., :3], places), dim=-1),
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        return output if as_object else output.to_tuple()

    def _metric(self, pixel_values: Tensor, *, chunk: bool) -> tuple[Tensor, Tensor]:
        """Images -> the metric network's depth and sky of each, (B·S, H', W')."""
        if not chunk:
            found = self.metric(pixel_values, return_dict=True)
            return found.predicted_depth, found.sky
        parts = [
            self.metric(some, return_dict=True)
            for some in pixel_values.flatten(0, 1).split(self.views_at_once)
        ]
        return (
            torch.cat([part.predicted_depth for part in parts]),
            torch.cat([part.sky for part in parts]),
        )


class DepthAnything3PosedNestedForDepthEstimation(DepthAnything3NestedForDepthEstimation):
    """The same with a camera encoder, by which cameras may be given."""

    spare_keys: ClassVar[tuple[str, ...]] = ()
    views_class: ClassVar[type[DepthAnything3ViewsForDepthEstimation]] = (
        DepthAnything3PosedViewsForDepthEstimation
    )
