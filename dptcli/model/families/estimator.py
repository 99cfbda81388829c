"""What the plain depth models share: a backbone, a neck and a head in a row, run in that order."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from dptcli.kinds import Kind, kind_of
from dptcli.model.backbones.auto import AutoBackbone
from dptcli.model.dpt import asked_for
from dptcli.model.losses import depth_loss
from dptcli.model.neck import Neck
from dptcli.model.outputs import DepthEstimatorOutput, ModelOutput
from dptcli.model.pretrained import Pretrained


class DepthEstimator(Pretrained):
    """The forward of a model with one set of feature maps and one neck; a child brings the head.

    output_class: what it answers with. B batch, C channels of the fused maps, H×W pixels.
    """

    output_class: ClassVar[type[ModelOutput]] = DepthEstimatorOutput

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.backbone = AutoBackbone.from_config(config.backbone_config)
        self.neck = Neck(config)
        self.head = self.head_of(config)
        self.initialize()

    def head_of(self, config: Any) -> nn.Module:
        """The head, as the configuration has it."""
        raise NotImplementedError

    def maps_of(self, fused: Sequence[Tensor], image_hw: tuple[int, int]) -> dict[str, Tensor]:
        """Fused maps (B, C, ·, ·) and the size of the pixels -> the output's maps by name."""
        raise NotImplementedError

    def kind_of_loss(self) -> Kind:
        """As what labels are compared."""
        return kind_of(self.config)

    def forward(
        self,
        pixel_values: Tensor,
        head_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Estimate depth.

        pixel_values: (B, C, H, W), normalised. labels: measured depths (B, H', W'), not measured
        where zero, negative or not finite; in the unit of the model's own values, if they have one.
        Returns the maps that the class tells of, an `output_class` or with return_dict=False its
        tuple; the loss for the labels; and what was asked for.
        """
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        found = self.backbone.features(
            pixel_values, head_mask=head_mask, need_states=want_states, need_weights=want_weights
        )
        image_hw = (pixel_values.shape[-2], pixel_values.shape[-1])
        maps = self.maps_of(self.neck(found.maps), image_hw)
        loss = None
        if labels is not None:
            loss = depth_loss(maps["predicted_depth"], labels, kind=self.kind_of_loss())
        output = self.output_class(
            loss=loss, **maps, hidden_states=found.hidden_states, attentions=found.attentions
        )
        return output if as_object else output.to_tuple()
