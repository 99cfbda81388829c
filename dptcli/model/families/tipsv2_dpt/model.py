"""TIPSv2-DPT (Google 2026): one encoder, and a neck and head each for depth, normals and classes.

B batch, C channels of the fused maps, K bins, L classes, H×W pixels, h×w the fused map's size.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.errors import ShapeError
from dptcli.model.backbones.auto import AutoBackbone
from dptcli.model.backbones.tips import encoder_names
from dptcli.model.bins import mean_of_bins
from dptcli.model.dpt import Predictor, asked_for
from dptcli.model.families.tipsv2_dpt.config import Tipsv2DptConfig
from dptcli.model.heads import Head
from dptcli.model.layers import ActivationLayer, FeatureMap, Features
from dptcli.model.losses import depth_loss
from dptcli.model.neck import Neck
from dptcli.model.outputs import (
    DensePredictorOutput,
    DepthAndNormalsOutput,
    DepthEstimatorOutput,
    NormalEstimatorOutput,
    SemanticSegmenterOutput,
)
from dptcli.model.pretrained import Pretrained

NUM_AXES = 3


class Decoder(Head):
    """A convolution and a linear layer over each place of the last fused map."""

    def __init__(self, config: Tipsv2DptConfig, outputs: int, activation: Any = None) -> None:
        super().__init__()
        channels = config.fusion_hidden_size
        self.project = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.activation = nn.Identity() if activation is None else ActivationLayer(activation)
        self.head = nn.Linear(channels, outputs)

    def tail(self) -> tuple[nn.Conv2d | None, Sequence[nn.Module]]:
        return self.project, [self.head]

    def forward(self, fused: Sequence[Tensor]) -> Tensor:
        """Fused maps (B, C, h, w) -> (B, outputs, h, w) of the last."""
        x = self.activation(self.project(fused[-1]))
        return self.head(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # over the channels


class DepthDecoder(Decoder):
    """Depth in metres: the mean of bins of equal width."""

    def __init__(self, config: Tipsv2DptConfig) -> None:
        super().__init__(config, config.num_depth_bins, config.depth_decoder_activation)
        self.low_m, self.high_m = config.min_depth, config.max_depth

    def forward(self, fused: Sequence[Tensor]) -> Tensor:
        """Fused maps (B, C, h, w) -> metres (B, h, w)."""
        scores = super().forward(fused)
        bins = torch.linspace(self.low_m, self.high_m, scores.shape[1], device=scores.device)
        return mean_of_bins(scores, bins, floor=self.low_m)  # the floor is the reference's too


def names_of(task: str, *, neck: str = "neck", head: str = "head") -> tuple[tuple[str, str], ...]:
    """(theirs, ours) for the tensors of one task, "depth", "normals" or "segmentation"."""
    stage, fusion = f"{neck}.reassemble_stage", f"{neck}.fusion_stage.layers.{{n}}"
    return tuple(
        (f"{task}_head.{theirs}", ours)
        for theirs, ours in (
            ("reassemble.readout_projects.{n}.{q}", f"{stage}.readout_projects.{{n}}.0.{{q}}"),
            ("reassemble.out_projections.{n}.{q}", f"{stage}.layers.{{n}}.projection.{{q}}"),
            ("reassemble.resize_layers.{n}.{q}", f"{stage}.layers.{{n}}.resize.{{q}}"),
            ("convs.{q}", f"{neck}.convs.{{q}}"),
            ("fusion_blocks.{n}.out_conv.{q}", f"{fusion}.projection.{{q}}"),
            (
                "fusion_blocks.{n}.residual_unit.conv{m}.{q}",
                f"{fusion}.residual_layer1.convolution{{m}}.{{q}}",
            ),
            (
                "fusion_blocks.{n}.main_unit.conv{m}.{q}",
                f"{fusion}.residual_layer2.convolution{{m}}.{{q}}",
            ),
            ("project.{q}", f"{head}.project.{{q}}"),
            (f"{task}_head.{{q}}", f"{head}.head.{{q}}"),
        )
    )


class Tipsv2DptPredictor(Predictor):
    """The encoder, and the neck and head of one task. Any size of at least one patch."""

    config_class = Tipsv2DptConfig
    config: Tipsv2DptConfig

    def __init__(self, config: Tipsv2DptConfig, head: Head) -> None:
        super().__init__(config)
        assert config.backbone_config is not None
        self.backbone = AutoBackbone.from_config(config.backbone_config)
        self.neck = Neck(config)
        self.head = head
        self.initialize()

    def features(self, pixel_values: Tensor | None, **wanted: Any) -> Features:
        if pixel_values is None:
            raise ShapeError("pixel_values: None; give a batch (batch, channels, height, width)")
        return self.backbone.features(pixel_values, **wanted)


class Tipsv2DptForDepthEstimation(Tipsv2DptPredictor):
    """Depth alone, from a file of all three."""

    file_names: ClassVar[tuple[tuple[str, str], ...]] = (
        *encoder_names("backbone."),
        *names_of("depth"),
    )
    spare_keys = (r"(normals|segmentation)_head\..*",)

    def __init__(self, config: Tipsv2DptConfig) -> None:
        super().__init__(config, DepthDecoder(config))

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> DepthEstimatorOutput | tuple[Any, ...]:
        """Estimate depth in metres.

        pixel_values: (B, C, H, W) from 0 to 1. labels: measured depths (B, H', W') in metres, not
        measured where zero, negative or not finite.
        Returns predicted_depth (B, h, w), eight values for a patch's side; and the loss (SILog).
        """
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        found = self.features(pixel_values, need_states=want_states, need_weights=want_weights)
        depth_m = self.head(self.neck(found.maps))
        output = DepthEstimatorOutput(
            loss=None if labels is None else depth_loss(depth_m, labels, kind="depth_m"),
            predicted_depth=depth_m,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        return output if as_object else output.to_tuple()


class Tipsv2DptForDepthAndNormals(Tipsv2DptForDepthEstimation):
    """Depth, with surface normals beside it; ours, for runs that write both."""

    file_names: ClassVar[tuple[tuple[str, str], ...]] = (
        *Tipsv2DptForDepthEstimation.file_names,
        *names_of("normals", neck="normals_neck", head="normals_head"),
    )
    spare_keys = (r"segmentation_head\..*",)
    gives_normals: ClassVar[bool] = True

    def __init__(self, config: Tipsv2DptConfig) -> None:
        super().__init__(config)
        self.normals_neck, self.normals_head = Neck(config), Decoder(config, NUM_AXES)

    def beside(self, maps: Sequence[FeatureMap]) -> dict[str, Any]:
        planes = self.normals_head(self.normals_neck(maps)).unbind(1)
        return dict(zip(("normal_x", "normal_y", "normal_z"), planes, strict=True))

    def forward(  # type: ignore[override]  # more maps
        self, pixel_values: Tensor, return_dict: bool | None = None
    ) -> DepthAndNormalsOutput | tuple[Any, ...]:
        """Pixels (B, C, H, W) from 0 to 1 -> depth in metres and each axis of the normals."""
        *_, as_object = asked_for(self.config, None, None, return_dict)
        maps = self.features(pixel_values).maps
        output = DepthAndNormalsOutput(
            predicted_depth=self.head(self.neck(maps)), **self.beside(maps)
        )
        return output if as_object else output.to_tuple()


class Tipsv2DptForSemanticSegmentation(Tipsv2DptPredictor):
    """Classes alone, from a file of all three."""

    file_names: ClassVar[tuple[tuple[str, str], ...]] = (
        *encoder_names("backbone."),
        *names_of("segmentation"),
    )
    spare_keys = (r"(depth|normals)_head\..*",)

    def __init__(self, config: Tipsv2DptConfig) -> None:
        super().__init__(config, Decoder(config, config.num_labels))

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SemanticSegmenterOutput | tuple[Any, ...]:
        """Score every class at every place.

        pixel_values: (B, C, H, W) from 0 to 1. labels: class ids (B, H', W');
        `semantic_loss_ignore_index` does not count.
        Returns logits (B, L, h, w), eight for a patch's side, and the loss for the labels.
        """
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        found = self.features(pixel_values, need_states=want_states, need_weights=want_weights)
        logits = self.head(self.neck(found.maps))
        loss = None
        if labels is not None:
            resized = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear")
            ignored = self.config.semantic_loss_ignore_index
            loss = F.cross_entropy(resized, labels, ignore_index=ignored)
        output = SemanticSegmenterOutput(
            loss=loss,
            logits=logits,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        return output if as_object else output.to_tuple()


class Tipsv2DptForNormalEstimation(Tipsv2DptPredictor):
    """Surface normals alone, from a file of all three."""

    file_names: ClassVar[tuple[tuple[str, str], ...]] = (
        *encoder_names("backbone."),
        *names_of("normals"),
    )
    spare_keys = (r"(depth|segmentation)_head\..*",)

    def __init__(self, config: Tipsv2DptConfig) -> None:
        super().__init__(config, Decoder(config, NUM_AXES))

    def forward(
        self,
        pixel_values: Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> NormalEstimatorOutput | tuple[Any, ...]:
        """Pixels (B, C, H, W) from 0 to 1 -> normals (B, 3, h, w), not of length 1."""
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        found = self.features(pixel_values, need_states=want_states, need_weights=want_weights)
        output = NormalEstimatorOutput(
            normals=self.head(self.neck(found.maps)),
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        return output if as_object else output.to_tuple()


class Tipsv2DptForDensePrediction(Pretrained):
    """All three in one run of the encoder."""

    config_class = Tipsv2DptConfig
    config: Tipsv2DptConfig
    file_names: ClassVar[tuple[tuple[str, str], ...]] = (
        *encoder_names("backbone."),
        *names_of("depth", neck="depth_neck", head="depth_decoder"),
        *names_of("normals", neck="normals_neck", head="normals_decoder"),
        *names_of("segmentation", neck="segmentation_neck", head="segmentation_decoder"),
    )

    def __init__(self, config: Tipsv2DptConfig) -> None:
        super().__init__(config)
        assert config.backbone_config is not None
        self.backbone = AutoBackbone.from_config(config.backbone_config)
        self.depth_neck, self.depth_decoder = Neck(config), DepthDecoder(config)
        self.normals_neck, self.normals_decoder = Neck(config), Decoder(config, NUM_AXES)
        self.segmentation_neck = Neck(config)
        self.segmentation_decoder = Decoder(config, config.num_labels)
        self.initialize()

    def forward(
        self,
        pixel_values: Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> DensePredictorOutput | tuple[Any, ...]:
        """Pixels (B, C, H, W) from 0 to 1 -> depth (B, h, w), normals and logits (B, ·, h, w)."""
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        found = self.backbone.features(
            pixel_values, need_states=want_states, need_weights=want_weights
        )
        output = DensePredictorOutput(
            predicted_depth=self.depth_decoder(self.depth_neck(found.maps)),
            normals=self.normals_decoder(self.normals_neck(found.maps)),
            segmentation_logits=self.segmentation_decoder(self.segmentation_neck(found.maps)),
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        return output if as_object else output.to_tuple()


TIPSv2DPTModel = Tipsv2DptForDensePrediction
