"""Prompt Depth Anything (Lin et al. 2025): Depth Anything with a depth sensor's map as a prompt.

The prompt's smallest and largest value become 0 and 1 for the network, and its output is brought
back from there: a prompt in metres makes metres. Names follow the hub's state dict.
B batch, C channels, H×W pixels, h×w patches, h'×w' the prompt.
"""

from typing import Any

import torch
from torch import Tensor

from dptcli.errors import ShapeError
from dptcli.model.backbones.auto import AutoBackbone
from dptcli.model.dpt import asked_for
from dptcli.model.families.depth_anything.model import DepthAnythingHead
from dptcli.model.families.prompt_depth_anything.config import PromptDepthAnythingConfig
from dptcli.model.families.prompt_depth_anything.neck import PromptFusionStage
from dptcli.model.losses import depth_loss
from dptcli.model.neck import Neck
from dptcli.model.outputs import DepthEstimatorOutput
from dptcli.model.pretrained import Pretrained


class PromptDepthAnythingHead(DepthAnythingHead):
    """Depth Anything's head on the last map, from 0 to 1: the prompt's range scales it."""

    def __init__(self, config: PromptDepthAnythingConfig) -> None:
        super().__init__(config.replace(max_depth=1, head_in_index=-1))


class PromptDepthAnythingForDepthEstimation(Pretrained):
    """A Prompt Depth Anything model. Any height and width of at least one patch."""

    config_class = PromptDepthAnythingConfig
    config: PromptDepthAnythingConfig

    def __init__(self, config: PromptDepthAnythingConfig) -> None:
        super().__init__(config)
        assert config.backbone_config is not None
        self.backbone = AutoBackbone.from_config(config.backbone_config)
        self.neck = Neck(config, fusion_stage=PromptFusionStage)
        self.head = PromptDepthAnythingHead(config)
        self.initialize()

    def forward(
        self,
        pixel_values: Tensor,
        prompt_depth: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> DepthEstimatorOutput | tuple[Any, ...]:
        """Estimate depth.

        pixel_values: (B, C, H, W), normalised. prompt_depth: (B, 1, h', w'), known depths of the
        whole image in metres, without gaps (the processor fills them). labels: measured depths
        (B, H', W') in metres, not measured where zero, negative or not finite.
        Returns predicted_depth (B, h·patch, w·patch): metres, large is far; without a prompt, as
        in the reference, depth without a scale. And the loss for the labels (SILog).
        """
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        found = self.backbone.features(
            pixel_values, need_states=want_states, need_weights=want_weights
        )
        prompt, low, span = None, None, None
        if prompt_depth is not None:
            prompt, low, span = _normalized(prompt_depth, batch=len(pixel_values))
        fused = self.neck.fusion_stage(self.neck.project(found.maps), prompt=prompt)
        image_hw = (pixel_values.shape[-2], pixel_values.shape[-1])
        predicted_depth = self.head(fused, image_hw)
        if low is not None:
            predicted_depth = predicted_depth * span + low
        output = DepthEstimatorOutput(
            loss=None if labels is None else depth_loss(predicted_depth, labels, kind="depth_m"),
            predicted_depth=predicted_depth,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        return output if as_object else output.to_tuple()


def _normalized(prompt: Tensor, *, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 1, h', w') -> the same from 0 to 1, and the (B, 1, 1) of its 0 and of its range.

    One value everywhere is 0 with a range of 0: the reference's NaN helps nobody.
    """
    if prompt.dim() != 4 or len(prompt) != batch or prompt.shape[1] != 1 or 0 in prompt.shape:
        raise ShapeError(
            f"prompt_depth: shape {tuple(prompt.shape)} must be ({batch}, 1, height, width)"
        )
    low, high = (end(prompt, dim=(1, 2, 3), keepdim=True) for end in (torch.amin, torch.amax))
    span = high - low
    normalized = (prompt - low) / torch.where(span > 0, span, torch.ones_like(span))
    return normalized, low.squeeze(1), span.squeeze(1)
