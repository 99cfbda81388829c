"""The image encoder of TIPSv2 (2026): DINOv2 with registers, under its own files' names."""

from typing import ClassVar

from dptcli.model.backbones.plain_config import Tipsv2VisionConfig
from dptcli.model.backbones.vit import Dinov2WithRegistersBackbone

_BLOCK = (
    ("norm{m}.{q}", "norm{m}.{q}"),
    ("attn.qkv.{q}", "attention.attention.{qkv}.{q}"),
    ("attn.proj.{q}", "attention.output.dense.{q}"),
    ("ls{m}.gamma", "layer_scale{m}.lambda1"),
    ("mlp.c_fc.{q}", "mlp.fc1.{q}"),
    ("mlp.c_proj.{q}", "mlp.fc2.{q}"),
    ("mlp.w12.{q}", "mlp.weights_in.{q}"),
    ("mlp.w3.{q}", "mlp.weights_out.{q}"),
)
_NAMES = (
    ("cls_token", "embeddings.cls_token"),
    ("mask_token", "embeddings.mask_token"),
    ("register_tokens", "embeddings.register_tokens"),
    ("pos_embed", "embeddings.position_embeddings"),
    ("patch_embed.proj.{q}", "embeddings.patch_embeddings.projection.{q}"),
    ("norm.{q}", "layernorm.{q}"),
    *((f"blocks.{{n}}.{theirs}", f"encoder.layer.{{n}}.{ours}") for theirs, ours in _BLOCK),
)


def encoder_names(prefix: str) -> tuple[tuple[str, str], ...]:
    """(theirs, ours) for the encoder; prefix: what ours stands under, with its dot."""
    return tuple((f"vision_encoder.{theirs}", f"{prefix}{ours}") for theirs, ours in _NAMES)


class Tipsv2VisionBackbone(Dinov2WithRegistersBackbone):
    """TIPSv2's image encoder as a backbone. Any height and width of at least one patch."""

    config_class = Tipsv2VisionConfig
    config: Tipsv2VisionConfig
    # Its own files have no prefix; those of the whole TIPSv2 have, and an encoder of text.
    file_names: ClassVar[tuple[tuple[str, str], ...]] = (*_NAMES, *encoder_names(""))
    spare_keys = (r"text_encoder\..*", r"temperature")
