"""The file of Depth Pro's authors: depth_pro.pt."""

from pathlib import Path
from typing import Any

from dptcli.model.families.original import (
    Kind,
    OriginalFormat,
    Table,
    Tensors,
    shape_of,
    vit_config,
)

KIND = Kind(
    name="depth-pro", network_hw=(1536, 1536), metric={}, hint="depth_pro", taps={24: (5, 11)}
)
_MARK = "encoder.upsample_latent0.0.weight"
_LEVELS = 5  # maps of the decoder: theirs from fine to coarse, ours from coarse to fine


def _encoder(theirs: str, ours: str) -> Table:
    """A Vision Transformer of timm's."""
    block = f"{ours}.encoder.layer.{{n}}"
    return (
        (f"{theirs}.cls_token", f"{ours}.embeddings.cls_token"),
        (f"{theirs}.pos_embed", f"{ours}.embeddings.position_embeddings"),
        (
            f"{theirs}.patch_embed.proj.{{q}}",
            f"{ours}.embeddings.patch_embeddings.projection.{{q}}",
        ),
        (f"{theirs}.blocks.{{n}}.norm{{m}}.{{q}}", f"{block}.norm{{m}}.{{q}}"),
        (f"{theirs}.blocks.{{n}}.attn.qkv.{{q}}", f"{block}.attention.attention.{{qkv}}.{{q}}"),
        (f"{theirs}.blocks.{{n}}.attn.proj.{{q}}", f"{block}.attention.output.dense.{{q}}"),
        (f"{theirs}.blocks.{{n}}.ls{{m}}.gamma", f"{block}.layer_scale{{m}}.lambda1"),
        (f"{theirs}.blocks.{{n}}.mlp.fc{{m}}.{{q}}", f"{block}.mlp.fc{{m}}.{{q}}"),
        (f"{theirs}.norm.{{q}}", f"{ours}.layernorm.{{q}}"),
    )


def _fusion(level: int) -> Table:
    """A block of the decoder: their residual is a sequence, whose second and fourth convolve."""
    theirs = f"decoder.fusions.{level}"
    ours = "fusion_stage."
    ours += "final" if level == 0 else f"intermediate.{_LEVELS - 1 - level}"
    residual = f"{theirs}.resnet{{n}}.residual"
    return (
        (f"{residual}.1.{{q}}", f"{ours}.residual_layer{{n}}.convolution1.{{q}}"),
        (f"{residual}.3.{{q}}", f"{ours}.residual_layer{{n}}.convolution2.{{q}}"),
        (f"{theirs}.deconv.{{q}}", f"{ours}.deconv.{{q}}"),
        (f"{theirs}.out_conv.{{q}}", f"{ours}.projection.{{q}}"),
    )


_PARTS, _GROW = "depth_pro.encoder", "depth_pro.neck.feature_upsample"
TABLE: Table = (
    *_encoder("encoder.patch_encoder", f"{_PARTS}.patch_encoder.model"),
    *_encoder("encoder.image_encoder", f"{_PARTS}.image_encoder.model"),
    *_encoder("fov.encoder.0", "fov_model.fov_encoder.model"),
    ("encoder.upsample_latent0.{n}.{q}", f"{_GROW}.intermediate.1.layers.{{n}}.{{q}}"),
    ("encoder.upsample_latent1.{n}.{q}", f"{_GROW}.intermediate.0.layers.{{n}}.{{q}}"),
    ("encoder.upsample0.{n}.{q}", f"{_GROW}.scaled_images.2.layers.{{n}}.{{q}}"),
    ("encoder.upsample1.{n}.{q}", f"{_GROW}.scaled_images.1.layers.{{n}}.{{q}}"),
    ("encoder.upsample2.{n}.{q}", f"{_GROW}.scaled_images.0.layers.{{n}}.{{q}}"),
    ("encoder.upsample_lowres.{q}", f"{_GROW}.image_block.layers.0.{{q}}"),
    ("encoder.fuse_lowres.{q}", "depth_pro.neck.fuse_image_with_low_res.{q}"),
    *(
        (
            f"decoder.convs.{level}.{{q}}",
            f"depth_pro.neck.feature_projection.projections.{_LEVELS - 1 - level}.{{q}}",
        )
        for level in range(_LEVELS)
    ),
    *(row for level in range(_LEVELS) for row in _fusion(level)),
    ("head.{n}.{q}", "head.layers.{n}.{q}"),
    ("fov.encoder.1.{q}", "fov_model.fov_encoder.neck.{q}"),
    ("fov.downsample.0.{q}", "fov_model.conv.{q}"),
    ("fov.head.{n}.{q}", "fov_model.head.layers.{n}.{q}"),
)


def _config(tensors: Tensors, _kind: Kind, path: Path) -> dict[str, Any]:
    """The config.json of a Depth Pro."""

    def encoder(prefix: str) -> dict[str, Any]:
        patch = shape_of(tensors, f"{prefix}.patch_embed.proj.weight", path, dims=4)[-1]
        sizes = vit_config(tensors, prefix, patch=patch, path=path)
        return {**sizes, "model_type": "dinov2", "use_mask_token": False}

    def channels(name: str) -> int:
        return shape_of(tensors, f"encoder.{name}.weight", path, dims=4)[1]

    patches = encoder("encoder.patch_encoder")
    has_fov = "fov.encoder.0.pos_embed" in tensors
    return {
        "model_type": "depth_pro",
        "architectures": ["DepthProForDepthEstimation"],
        "patch_size": patches["image_size"],
        "patch_model_config": patches,
        "image_model_config": encoder("encoder.image_encoder"),
        "fov_model_config": encoder("fov.encoder.0") if has_fov else patches,
        "use_fov_model": has_fov,
        "fusion_hidden_size": shape_of(tensors, "decoder.fusions.0.out_conv.weight", path, dims=4)[
            0
        ],
        "scaled_images_feature_dims": [channels(f"upsample{level}.1") for level in (2, 1, 0)],
        "intermediate_feature_dims": [channels(f"upsample_latent{i}.2") for i in (1, 0)],
    }


FORMATS = (
    OriginalFormat(
        title="Depth Pro",
        fits=lambda tensors: _MARK in tensors,
        kinds=(KIND,),
        config=_config,
        table=lambda _: TABLE,
        processor={
            "image_processor_type": "DepthProImageProcessor",
            "keep_aspect_ratio": False,
            "resample": 2,
        },
    ),
)
