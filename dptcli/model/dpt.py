"""Vision Transformers for Dense Prediction (Ranftl et al. 2021): the model and its two tasks.

Image -> backbone -> feature maps -> neck (reassemble, fuse) -> head. Names follow the hub's state
dict, so that public checkpoints load strictly.

B batch, N tokens (the class token first), D width, H×W pixels, h×w patches.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn as nn
from torch import Tensor

from dptcli.errors import ConfigError, ShapeError
from dptcli.kinds import kind_of
from dptcli.model.backbones.auto import AutoBackbone
from dptcli.model.backbones.hybrid import HybridEmbeddings
from dptcli.model.backbones.vit import Encoder, ViTEmbeddings, ViTLayer
from dptcli.model.base_config import Config
from dptcli.model.config import DPTConfig
from dptcli.model.heads import AuxiliaryHead, DepthHead, Head, SegmentationHead
from dptcli.model.layers import ActivationLayer, FeatureMap, Features, map_from_tokens
from dptcli.model.losses import depth_loss, segmentation_loss
from dptcli.model.neck import Neck
from dptcli.model.outputs import (
    BaseModelOutputWithPoolingAndIntermediateActivations,
    DepthEstimatorOutput,
    SemanticSegmenterOutput,
)
from dptcli.model.pretrained import Pretrained


class Pooler(nn.Module):
    """A linear layer and an activation over the class token."""

    def __init__(self, config: DPTConfig) -> None:
        super().__init__()
        size = config.pooler_output_size or config.hidden_size
        self.dense = nn.Linear(config.hidden_size, size)
        self.activation = ActivationLayer(config.pooler_act)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, P)."""
        return self.activation(self.dense(tokens[:, 0]))


class DPTModel(Pretrained):
    """The bare transformer of a DPT: plain ViT, or a hybrid over convolutional maps."""

    config_class = DPTConfig
    base_prefix = "dpt"
    optional_keys = (r"pooler\..*",)
    init_options = ("add_pooling_layer",)
    config: DPTConfig

    def __init__(self, config: DPTConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings: ViTEmbeddings | HybridEmbeddings
        if config.is_hybrid:
            assert config.backbone_config is not None
            stem = AutoBackbone.from_config(config.backbone_config)
            self.embeddings = HybridEmbeddings(config, stem)
        else:
            self.embeddings = ViTEmbeddings(config, position_mode="bilinear")
        layers = (ViTLayer(config) for _ in range(config.num_hidden_layers))
        self.encoder = Encoder(layers, num_heads=config.num_attention_heads)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = Pooler(config) if add_pooling_layer else None
        self.initialize()

    def features(
        self,
        pixel_values: Tensor,
        *,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
        need_states: bool = False,
    ) -> Features:
        """(B, C, H, W) -> one FeatureMap (B, D, h, w) for each of the taps.

        A hybrid's first two are the stem's maps, of their own width and size.
        """
        taps = self.config.taps
        x, grid_hw, stem_maps = self._embed(pixel_values)
        tapped, _, states, weights = self.encoder(
            x, taps=taps, head_mask=head_mask, need_weights=need_weights, need_states=need_states
        )
        maps: list[FeatureMap] = [map_from_tokens(tapped[tap], grid_hw) for tap in taps]
        return Features([*stem_maps, *maps], hidden_states=states, attentions=weights)

    def _embed(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int], list[FeatureMap]]:
        """(B, C, H, W) -> tokens (B, 1 + h·w, D), (h, w), and a hybrid's maps for the neck."""
        if isinstance(self.embeddings, HybridEmbeddings):
            return self.embeddings(pixel_values)
        tokens, grid_hw = self.embeddings(pixel_values)
        return tokens, grid_hw, []

    def forward(
        self,
        pixel_values: Tensor,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPoolingAndIntermediateActivations | tuple[Any, ...]:
        """Encode an image.

        pixel_values: (B, C, H, W), normalised. head_mask: (A,) or (num_layers, A), 1 keeps a head.
        Returns last_hidden_state (B, 1 + h·w, D) after the final norm, pooler_output, what was
        asked for, and a hybrid's two convolutional maps. Raises ShapeError for a wrong shape.
        """
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        x, _, stem_maps = self._embed(pixel_values)
        _, x, states, weights = self.encoder(
            x, taps=(), head_mask=head_mask, need_weights=want_weights, need_states=want_states
        )
        x = self.layernorm(x)
        output = BaseModelOutputWithPoolingAndIntermediateActivations(
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(x),
            hidden_states=states,
            attentions=weights,
            intermediate_activations=tuple(feature.map for feature in stem_maps) or None,
        )
        return output if as_object else output.to_tuple()


class Predictor(Pretrained):
    """A backbone, a neck and a head: what several tasks on one backbone may share."""

    neck: Neck
    head: Head

    def features(self, pixel_values: Tensor | None, **wanted: Any) -> Features:
        """The backbone's feature maps, whichever backbone it is. Raises ShapeError for None."""
        raise NotImplementedError

    def beside(self, maps: Sequence[FeatureMap]) -> dict[str, Any]:  # noqa: ARG002
        """What it makes of the feature maps beside its own map, {name: (B, H, W)}."""
        return {}


class DensePredictor(Predictor):
    """A DPT's backbone and neck, which both tasks share. Either task takes any backbone."""

    config_class = DPTConfig
    config: DPTConfig
    optional_keys = (r"backbone\.embeddings\.mask_token", r".*\.num_batches_tracked")

    def __init__(self, config: DPTConfig) -> None:
        super().__init__(config)
        self.backbone = None
        self.dpt = None
        if config.backbone_config is not None and not config.is_hybrid:
            self.backbone = AutoBackbone.from_config(config.backbone_config)
        else:
            self.dpt = DPTModel(config, add_pooling_layer=False)
        self._check_maps()
        self.neck = Neck(config)

    def _check_maps(self) -> None:
        """Refuse a neck whose widths the backbone's maps do not have. Raises ConfigError."""
        unchanged: list[int]
        config, widths = self.config, list(self.config.neck_hidden_sizes)
        if self.backbone is not None:
            channels = self.backbone.channels
            if len(channels) != len(widths):
                raise ConfigError(
                    f"neck_hidden_sizes: {widths} must hold one width for each of the backbone's "
                    f"{len(channels)} out_features {list(self.backbone.out_features)}"
                )
            unchanged = [] if config.reassembles else channels
        else:
            assert self.dpt is not None
            embeddings = self.dpt.embeddings
            unchanged = []
            if isinstance(embeddings, HybridEmbeddings):
                unchanged = embeddings.backbone.channels[:2]
        if unchanged != widths[: len(unchanged)]:
            raise ConfigError(
                f"neck_hidden_sizes: {widths} must begin with {unchanged}, the channels of the "
                "backbone's maps, which go to the neck as they are"
            )

    def features(self, pixel_values: Tensor | None, **wanted: Any) -> Features:
        """The backbone's feature maps, whichever backbone it is. Raises ShapeError for None."""
        if pixel_values is None:
            raise ShapeError("pixel_values: None; give a batch (batch, channels, height, width)")
        source = self.dpt if self.backbone is None else self.backbone
        assert source is not None
        return source.features(pixel_values, **wanted)


class DPTForDepthEstimation(DensePredictor):
    """A DPT with a depth head."""

    head: DepthHead

    def __init__(self, config: DPTConfig) -> None:
        super().__init__(config)
        self.head = DepthHead(config)
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
        Returns predicted_depth (B, H'', W''): inverse depth, large is near (relative), or metres
        (metric); and the loss for the labels (scale-and-shift-invariant, or SILog when metric).
        """
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        found = self.features(
            pixel_values, head_mask=head_mask, need_states=want_states, need_weights=want_weights
        )
        predicted_depth = self.head(self.neck(found.maps))
        loss = None
        if labels is not None:
            loss = depth_loss(predicted_depth, labels, kind=kind_of(self.config))
        output = DepthEstimatorOutput(
            loss=loss,
            predicted_depth=predicted_depth,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        return output if as_object else output.to_tuple()


class DPTForSemanticSegmentation(DensePredictor):
    """A DPT with a segmentation head and, for training, an auxiliary one."""

    spare_keys = (r"auxiliary_head\..*",)  # only training uses it
    head: SegmentationHead

    def __init__(self, config: DPTConfig) -> None:
        super().__init__(config)
        self.head = SegmentationHead(config)
        self.auxiliary_head = AuxiliaryHead(config) if config.use_auxiliary_head else None
        self.initialize()

    def forward(
        self,
        pixel_values: Tensor | None = None,
        head_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SemanticSegmenterOutput | tuple[Any, ...]:
        """Score every class at every place.

        pixel_values: (B, C, H, W), normalised. labels: class ids (B, H', W'), from 0 to
        num_labels - 1; `semantic_loss_ignore_index` does not count.
        Returns logits (B, num_labels, H'', W''), smaller than the input, and the loss for the
        labels. Raises ConfigError for labels with a single class.
        """
        if labels is not None and self.config.num_labels == 1:
            raise ConfigError("num_labels: 1 leaves nothing to learn from labels; use at least 2")
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        found = self.features(
            pixel_values, head_mask=head_mask, need_states=want_states, need_weights=want_weights
        )
        fused = self.neck(found.maps)
        logits = self.head(fused)
        loss = None
        if labels is not None:
            loss = segmentation_loss(
                logits,
                None if self.auxiliary_head is None else self.auxiliary_head(fused),
                labels,
                ignore_index=self.config.semantic_loss_ignore_index,
                auxiliary_weight=self.config.auxiliary_loss_weight,
            )
        output = SemanticSegmenterOutput(
            loss=loss,
            logits=logits,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )
        return output if as_object else output.to_tuple()


def asked_for(
    config: Config, states: bool | None, weights: bool | None, as_object: bool | None
) -> tuple[bool, bool, bool]:
    """The call's wishes, each falling back on the configuration's."""
    return (
        config.output_hidden_states if states is None else states,
        config.output_attentions if weights is None else weights,
        config.use_return_dict if as_object is None else as_object,
    )
