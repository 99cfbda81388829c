"""Depth Pro (Bochkovskii et al. 2024): metres, and the camera, of one photograph.

predicted_depth is 1 / metres for a camera whose focal length is the picture's width; the field of
view brings it to the photograph's own. Names follow the hub's state dict.
B batch, C channels of the fused maps, H the side of the input.
"""

from typing import Any, ClassVar

from torch import Tensor, nn

from dptcli.errors import ConfigError
from dptcli.model.dpt import asked_for
from dptcli.model.families.depth_pro.config import DepthProConfig
from dptcli.model.families.depth_pro.decoder import DepthProFusion, DepthProHead, DepthProNeck
from dptcli.model.families.depth_pro.fov import FovModel
from dptcli.model.families.depth_pro.pyramid import ImageEncoder, PatchEncoder, check_side
from dptcli.model.layers import check_pixels
from dptcli.model.outputs import ModelOutput, Tensors
from dptcli.model.pretrained import Pretrained


class DepthProDepthEstimatorOutput(ModelOutput):
    """predicted_depth (B, H', H'), canonical inverse depth; field_of_view (B,), degrees across."""

    loss: Tensor | None = None
    predicted_depth: Tensor | None = None
    field_of_view: Tensor | None = None
    hidden_states: Tensors | None = None
    attentions: Tensors | None = None


class Encoders(nn.Module):
    """The pyramid's encoder and the whole image's."""

    def __init__(self, config: DepthProConfig) -> None:
        super().__init__()
        assert config.image_model_config is not None
        self.patch_encoder = PatchEncoder(config)
        self.image_encoder = ImageEncoder(config, config.image_model_config)  # type: ignore[arg-type]


class DepthProModel(nn.Module):
    """All that is before the fusion."""

    def __init__(self, config: DepthProConfig) -> None:
        super().__init__()
        self.encoder = Encoders(config)
        self.neck = DepthProNeck(config)


class DepthProForDepthEstimation(Pretrained):
    """A Depth Pro. Sees squares, of four patches along a side at least."""

    config_class = DepthProConfig
    config: DepthProConfig
    optional_keys: ClassVar[tuple[str, ...]] = (r".*\.embeddings\.mask_token",)
    spare_keys: ClassVar[tuple[str, ...]] = (r"fov_model\..*",)

    def __init__(self, config: DepthProConfig, use_fov_model: bool | None = None) -> None:
        super().__init__(config)
        self.depth_pro = DepthProModel(config)
        self.fusion_stage = DepthProFusion(config)
        self.head = DepthProHead(config)
        sees = config.use_fov_model if use_fov_model is None else use_fov_model
        self.fov_model = FovModel(config) if sees else None
        self.initialize()

    init_options: ClassVar[tuple[str, ...]] = ("use_fov_model",)

    def get_input_embeddings(self) -> nn.Module:
        found: Any = self.depth_pro.encoder.image_encoder.model.embeddings
        embeddings: nn.Module = found.patch_embeddings
        return embeddings

    def forward(
        self,
        pixel_values: Tensor,
        head_mask: None = None,
        labels: None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> DepthProDepthEstimatorOutput | tuple[Any, ...]:
        """Estimate depth and, with `use_fov_model`, the field of view.

        pixel_values: (B, 3, H, H), normalised. Returns predicted_depth (B, H', H'), H' = H for the
        published model: 1 / metres times the focal length by the width; and field_of_view (B,).
        States and attentions are those of the image's encoder. Raises ConfigError for labels, as
        the reference does, and ShapeError for an image that is not square or too small.
        """
        if labels is not None or head_mask is not None:
            raise ConfigError("labels, head_mask: a Depth Pro predicts; it is not trained here")
        want_states, want_weights, as_object = asked_for(
            self.config, output_hidden_states, output_attentions, return_dict
        )
        check_pixels(pixel_values, num_channels=3, min_hw=(1, 1))
        check_side(pixel_values, self.config)
        encoders = self.depth_pro.encoder
        maps = encoders.patch_encoder(pixel_values)
        whole = encoders.image_encoder.features(
            pixel_values, need_weights=want_weights, need_states=want_states
        )
        image = encoders.image_encoder.as_coarse(whole.maps[0].map, pixel_values.shape[-1])
        projected = self.depth_pro.neck(image, maps)
        coarsest = next(projected)
        fov_deg = None
        if self.fov_model is not None:
            fov_deg = self.fov_model(pixel_values, coarsest.detach())
        output = DepthProDepthEstimatorOutput(
            predicted_depth=self.head(self.fusion_stage(coarsest, projected)),
            field_of_view=fov_deg,
            hidden_states=whole.hidden_states,
            attentions=whole.attentions,
        )
        return output if as_object else output.to_tuple()
