"""What every backbone is: `features` for the neck, `forward` as the reference answers."""

import inspect
from typing import Any

import torch
from torch import Tensor

from dptcli.model.backbones.config import BackboneConfig
from dptcli.model.layers import FeatureMap, Features
from dptcli.model.outputs import BackboneOutput
from dptcli.model.pretrained import Pretrained


class Backbone(Pretrained):
    """A network that turns an image into feature maps; children implement `features`."""

    base_prefix = "backbone"
    config: BackboneConfig

    def features(
        self,
        pixel_values: Tensor,
        *,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
        need_states: bool = False,
    ) -> Features:
        """(B, C, H, W) -> one FeatureMap for each stage of `out_features`, shallow to deep."""
        raise NotImplementedError

    @property
    def channels(self) -> list[int]:
        """The number of channels of each feature map."""
        config: Any = self.config
        return [config.hidden_size for _ in self.out_features]

    @property
    def taps(self) -> list[int]:
        """The blocks behind which the stages' maps are taken, from 0; stage 0 is the stem."""
        return [stage - 1 for stage in self.config.out_indices or ()]

    @property
    def stage_names(self) -> list[str]:
        """The names of all stages, the stem's first."""
        return self.config.stage_names

    @property
    def num_features(self) -> list[int]:
        """The number of channels of each stage, whether it is handed out or not."""
        config: Any = self.config
        widths = getattr(config, "stage_widths", None)
        return [config.hidden_size] * len(self.stage_names) if widths is None else list(widths)

    @property
    def out_feature_channels(self) -> dict[str, int]:
        """{stage: its number of channels}."""
        return dict(zip(self.stage_names, self.num_features, strict=True))

    @property
    def out_features(self) -> list[str]:
        """The names of the stages whose maps are handed out; they can be set."""
        return list(self.config.out_features or ())

    @out_features.setter
    def out_features(self, names: list[str]) -> None:
        self.config.out_features = names

    @property
    def out_indices(self) -> list[int]:
        """The indices of those stages among `stage_names`; they can be set."""
        return list(self.config.out_indices or ())

    @out_indices.setter
    def out_indices(self, indices: list[int]) -> None:
        self.config.out_indices = indices

    def forward_with_filtered_kwargs(self, *args: Any, **kwargs: Any) -> Any:
        """The forward, without the keywords that this backbone does not take."""
        known = inspect.signature(self.forward).parameters
        return self(*args, **{name: value for name, value in kwargs.items() if name in known})

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> BackboneOutput | tuple[Any, ...]:
        """Feature maps in the reference's form.

        Each is (B, D, h, w); with `reshape_hidden_states=False`, tokens (B, 1 + R + h·w, D) for
        backbones that have a class token, and R registers. With `return_class_token` of a
        configuration, their class tokens (B, D) beside them.
        """
        config = self.config
        states, weights = output_hidden_states, output_attentions
        found = self.features(
            pixel_values,
            need_states=config.output_hidden_states if states is None else states,
            need_weights=config.output_attentions if weights is None else weights,
        )
        as_maps = getattr(config, "reshape_hidden_states", True)
        with_class = getattr(config, "return_class_token", False)
        output = BackboneOutput(
            feature_maps=tuple(
                feature.map if as_maps else self.tokens_of(feature) for feature in found.maps
            ),
            hidden_states=found.hidden_states,
            attentions=found.attentions,
            cls_tokens=_class_tokens(found) if with_class else None,
        )
        as_object = config.use_return_dict if return_dict is None else return_dict
        return output if as_object else output.to_tuple()

    @staticmethod
    def tokens_of(feature: FeatureMap) -> Tensor:
        """A feature map as the reference hands out tokens."""
        return to_tokens(feature)


def _class_tokens(found: Features) -> tuple[Tensor, ...]:
    return tuple(feature.readout for feature in found.maps if feature.readout is not None)


def to_tokens(feature: FeatureMap) -> Tensor:
    """(B, D, h, w), its class token and R registers -> (B, 1 + R + h·w, D)."""
    tokens = feature.map.flatten(2).transpose(1, 2)
    if feature.readout is None:
        return tokens
    special = [feature.readout.unsqueeze(1)]
    special += [] if feature.registers is None else [feature.registers]
    return torch.cat((*special, tokens), dim=1)
