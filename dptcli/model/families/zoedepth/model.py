"""ZoeDepth (Bhat et al. 2023): a DPT's relative depth, turned into metres by metric bins.

Image -> backbone -> neck -> relative head -> metric bins. Names follow the hub's state dict.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from dptcli.model.backbones.auto import AutoBackbone
from dptcli.model.families.zoedepth.config import ZoeDepthConfig
from dptcli.model.families.zoedepth.heads import MetricHead, RelativeHead, RoutedMetricHead
from dptcli.model.losses import depth_loss
from dptcli.model.neck import Neck
from dptcli.model.outputs import ZoeDepthDepthEstimatorOutput
from dptcli.model.pretrained import Pretrained


class ZoeDepthForDepthEstimation(Pretrained):
    """ZoeDepth with the bins of one domain, or of several between which it chooses."""

    config_class = ZoeDepthConfig
    config: ZoeDepthConfig
    optional_keys = (r".*\.num_batches_tracked",)
    old_keys: ClassVar[Mapping[str, str]] = {
        r"^.*\.log_binomial_transform\.k_(idx|minus_1)$": "",  # once saved; they follow from K
    }

    def __init__(self, config: ZoeDepthConfig) -> None:
        super().__init__(config)
        neck_config = config.neck_config
        assert neck_config.backbone_config is not None
        self.backbone = AutoBackbone.from_config(neck_config.backbone_config)
        self.neck = Neck(neck_config)
        self.relative_head = RelativeHead(config)
        self.metric_head: MetricHead | RoutedMetricHead
        if len(config.domains) == 1:
            self.metric_head = MetricHead(config)
        else:
            self.metric_head = RoutedMetricHead(config)
        self.initialize()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ZoeDepthDepthEstimatorOutput | tuple[Any, ...]:
        """Estimate depth in metres.

        pixel_values: (B, C, H, W), normalised. labels: measured depths (B, H', W') in metres, not
        measured where zero, negative or not finite.
        Returns predicted_depth (B, H'', W''), large is far; domain_logits (B, domains) where there
        are several domains; the loss for the labels (SILog); and what was asked for.
        """
        config = self.config
        want_states = (
            config.output_hidden_states if output_hidden_states is None else output_hidden_states
        )
        want_weights = config.output_attentions if output_attentions is None else output_attentions
        found = self.backbone.features(
            pixel_values, need_states=want_states, need_weights=want_weights
        )
        maps = self.neck.project(found.maps)
        fused = self.neck.fusion_stage(maps)
        relative_depth, features = self.relative_head(fused)
        predicted_depth, domain_logits = self.metric_head(maps[-1], fused, features, relative_depth)
        output = ZoeDepthDepthEstimatorOutput(
            loss=None if labels is None else depth_loss(predicted_depth, labels, kind="depth_m"),
            predicted_depth=predicted_depth,
            domain_logits=domain_logits,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        as_object = config.use_return_dict if return_dict is None else return_dict
        return output if as_object else output.to_tuple()
