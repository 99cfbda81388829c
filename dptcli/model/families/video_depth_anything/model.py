"""Video Depth Anything (Chen et al. 2025): Depth Anything V2, its neck attending along the frames.

The backbone sees each frame alone. The two deepest maps are compared along the clip after they are
reassembled, and again after each of the first two fusions; the rest is a photograph's. Relative
models answer inverse depth, on one scale for all frames; metric ones metres.
B clips, T frames, C channels, H×W pixels, h×w patches.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dptcli.errors import ShapeError
from dptcli.kinds import kind_of
from dptcli.model.backbones.auto import AutoBackbone
from dptcli.model.dpt import asked_for
from dptcli.model.families.depth_anything.model import DepthAnythingHead
from dptcli.model.families.video_depth_anything.config import VideoDepthAnythingConfig
from dptcli.model.families.video_depth_anything.temporal import TemporalModule
from dptcli.model.layers import FeatureMap
from dptcli.model.losses import depth_loss
from dptcli.model.neck import Neck
from dptcli.model.outputs import DepthEstimatorOutput
from dptcli.model.pretrained import Pretrained

# Frames of a clip that are in the large steps (backbone, last fusions) at once: bounds memory.
_FRAMES_AT_ONCE = 4
_NUM_DEEP = 2  # the maps that are compared along the frames; the others wait as tokens


class VideoDepthAnythingForDepthEstimation(Pretrained):
    """A Video Depth Anything model. Any height and width of at least one patch."""

    config_class = VideoDepthAnythingConfig
    config: VideoDepthAnythingConfig

    def __init__(self, config: VideoDepthAnythingConfig) -> None:
        super().__init__(config)
        assert config.backbone_config is not None
        self.backbone = AutoBackbone.from_config(config.backbone_config)
        self.neck = Neck(config)
        self.temporal_modules = nn.ModuleList(
            TemporalModule(
                channels, num_heads=config.num_temporal_heads, num_groups=config.num_norm_groups
            )
            for channels in config.temporal_widths
        )
        # Metres come as they are: no sigmoid, no farthest distance.
        self.head = DepthAnythingHead(config.replace(depth_estimation_type="relative", max_depth=1))
        self.initialize()
        for module in self.temporal_modules:
            assert isinstance(module, TemporalModule)
            nn.init.zeros_(module.project_out.weight)

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> DepthEstimatorOutput | tuple[Any, ...]:
        """Estimate depth.

        pixel_values: (B, T, C, H, W), clips of up to `num_frames` frames, normalised; or
        (B, C, H, W), photographs: each is a clip of `num_frames` equal frames, whose first counts,
        as the authors' code has it; the backbone sees it once. labels: measured depths of the same
        form, (B, T, H', W') or (B, H', W'), not measured where zero, negative or not finite; in
        metres for a metric model.
        Returns predicted_depth (B, T, h·patch, w·patch) or (B, h·patch, w·patch): inverse depth,
        large is near (relative), or metres (metric); and the loss for the labels. States and
        attentions are the backbone's, of all frames.
        Raises ShapeError for other shapes and for longer clips.
        """
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        is_clip = pixel_values.dim() == 5
        if not is_clip and pixel_values.dim() != 4:
            raise ShapeError(
                f"pixel_values: shape {tuple(pixel_values.shape)} must be (clips, frames, channels,"
                " height, width), or (photographs, channels, height, width)"
            )
        num_frames = pixel_values.shape[1] if is_clip else 1
        if not 0 < num_frames <= self.config.num_frames:
            raise ShapeError(
                f"pixel_values: {num_frames} frames; the model sees 1 to {self.config.num_frames}"
            )
        frames = pixel_values.flatten(0, 1) if is_clip else pixel_values
        found = [
            self.backbone.features(part, need_states=want_states, need_weights=want_weights)
            for part in self._parts(frames, is_clip=is_clip)
        ]
        maps = [part.maps for part in found]
        image_hw = (pixel_values.shape[-2], pixel_values.shape[-1])
        fused, num_seen = self._fuse_deep(maps, num_frames if is_clip else None)
        # Of a photograph's equal frames the first is wanted.
        wanted = fused if is_clip else fused[::num_seen]
        parts = zip(self._parts(wanted, is_clip=is_clip), maps, strict=True)
        predicted_depth = torch.cat(
            [self.head([self._fuse_shallow(x, shallow)], image_hw) for x, shallow in parts]
        )
        loss = None
        if labels is not None:
            flat = labels.flatten(0, 1) if is_clip else labels
            loss = depth_loss(predicted_depth, flat, kind=kind_of(self.config))
        if is_clip:
            predicted_depth = predicted_depth.unflatten(0, (-1, num_frames))
        output = DepthEstimatorOutput(
            loss=loss,
            predicted_depth=predicted_depth,
            hidden_states=_joined([part.hidden_states for part in found]),
            attentions=_joined([part.attentions for part in found]),
        )
        return output if as_object else output.to_tuple()

    def _parts(self, x: Tensor, *, is_clip: bool) -> Sequence[Tensor]:
        """Frames in the parts that are worked on at once; photographs as they come."""
        return x.split(_FRAMES_AT_ONCE) if is_clip else [x]

    def _fuse_deep(
        self, maps: Sequence[Sequence[FeatureMap]], num_frames: int | None
    ) -> tuple[Tensor, int]:
        """The backbone's maps of all parts -> the second fused map (B·T, C, ·, ·), and T.

        num_frames: T; None for photographs, whose deep maps are repeated.
        """
        neck, temporal = self.neck, self.temporal_modules
        assert neck.reassemble_stage is not None
        first = neck.num_maps - _NUM_DEEP
        deep = [
            torch.cat(stage)
            for stage in zip(
                *(neck.reassemble_stage(part[first:], first=first) for part in maps), strict=True
            )
        ]
        if num_frames is None:
            num_frames = self.config.num_frames
            deep = [x.repeat_interleave(num_frames, dim=0) for x in deep]
        deep = [temporal[i](x, num_frames=num_frames) for i, x in enumerate(deep)]
        third, fourth = (conv(x) for conv, x in zip(list(neck.convs)[first:], deep, strict=True))
        deepest, following = neck.fusion_stage.layers[:_NUM_DEEP]
        x = deepest(fourth, size=_hw(third))
        x = temporal[2](x, num_frames=num_frames)
        # The second reassembled map is twice as large as the third.
        x = following(x, third, size=self._grown_hw(maps[0]))
        return temporal[3](x, num_frames=num_frames), num_frames

    def _grown_hw(self, features: Sequence[FeatureMap]) -> tuple[int, int]:
        """The size of the second map, once it is reassembled."""
        height, width = _hw(features[1].map)
        factor = self.config.reassemble_factors[1]
        return int(height * factor), int(width * factor)

    def _fuse_shallow(self, x: Tensor, features: Sequence[FeatureMap]) -> Tensor:
        """The second fused map and the backbone's, of some frames -> the last fused map."""
        neck = self.neck
        assert neck.reassemble_stage is not None
        shallow = [
            conv(layer(feature.map))
            for conv, layer, feature in zip(
                list(neck.convs)[:-_NUM_DEEP],
                list(neck.reassemble_stage.layers)[:-_NUM_DEEP],
                features[:-_NUM_DEEP],
                strict=True,
            )
        ]
        third, last = list(neck.fusion_stage.layers)[_NUM_DEEP:]
        x = third(x, shallow[1], size=_hw(shallow[0]))
        fused: Tensor = last(x, shallow[0])
        return fused


def _hw(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


def _joined(parts: Sequence[Sequence[Tensor] | None]) -> tuple[Tensor, ...] | None:
    """What the backbone handed out for each part, one tensor a layer."""
    there = [part for part in parts if part is not None]
    return tuple(torch.cat(layer) for layer in zip(*there, strict=True)) if there else None
