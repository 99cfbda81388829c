"""Random models of every family, and what they predict, plain and optimised."""

import copy
import functools

import torch
from parity import TOLERANCE, difference, randomize

from dptcli import (
    BeitConfig,
    BitConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DINOv3ViTConfig,
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    Swinv2Config,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)
from dptcli.fast.kernels import Kernels
from dptcli.fast.optimize import optimize

NECK = {"neck_hidden_sizes": [16, 24, 32, 48], "fusion_hidden_size": 64}


WIDE = {"hidden_size": 64, "num_attention_heads": 4}


CPU = torch.device("cpu")


# What this processor would not choose by itself works too.
FORMS = {
    "chosen": None,
    "packed": Kernels(linear="packed", fuse_gelu=True, conv=True, few_heads=True),
    "packed, gelu after": Kernels(linear="packed", conv=True),
    "conv1x1": Kernels(linear="conv1x1", conv=True),
    "plain": Kernels(),
}
if hasattr(torch.ops.mkl, "_mkl_linear"):  # PyTorch is built with it for x86
    FORMS["mkl"] = Kernels(linear="mkl", conv=True)


def dpt(**changes):
    values = {
        **WIDE,
        "intermediate_size": 128,
        "num_hidden_layers": 5,
        "image_size": 64,
        "backbone_out_indices": [0, 1, 2, 3],
        "readout_type": "project",
    }
    return DPTConfig(**{**values, **NECK, **changes})


def dinov2(**changes):
    stages = {"num_hidden_layers": 5, "out_indices": [1, 2, 3, 4], "image_size": 56}
    return Dinov2Config(**{**WIDE, "patch_size": 14, "layerscale_value": 0.5, **stages, **changes})


def dinov3(**changes):
    stages = {"num_hidden_layers": 5, "out_indices": [1, 2, 3, 4], "intermediate_size": 128}
    shape = {"num_register_tokens": 3, "layerscale_value": 0.5}
    return DINOv3ViTConfig(**{**WIDE, **shape, **stages, **changes})


def beit(**changes):
    stages = {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4], "image_size": 64}
    shape = {"intermediate_size": 128, "layer_scale_init_value": 0.5}
    return BeitConfig(**{**WIDE, **shape, **stages, **changes})


def swinv2():
    return Swinv2Config(
        embed_dim=16,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        window_size=4,
        image_size=64,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def hybrid():
    stem = BitConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 64],
        depths=[1, 1, 2],
        num_groups=8,
        layer_type="bottleneck",
        embedding_dynamic_padding=True,
        global_padding="same",
        out_features=["stage1", "stage2", "stage3"],
    )
    return dpt(
        is_hybrid=True,
        backbone_config=stem,
        backbone_featmap_shape=[1, 64, 4, 4],
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 32, 32, 48],
    )


def over(backbone, **changes):
    return dpt(backbone_config=backbone, hidden_size=64, **changes)


def zoedepth(**changes):
    return ZoeDepthConfig(
        backbone_config=beit(),
        neck_hidden_sizes=[16, 24, 32, 48],
        fusion_hidden_size=32,
        bottleneck_features=32,
        num_relative_features=16,
        **changes,
    )


MODELS = {
    "vit, project": (DPTForDepthEstimation, dpt),
    "vit, add": (DPTForDepthEstimation, lambda: dpt(readout_type="add", add_projection=True)),
    "vit, batch norm": (
        DPTForDepthEstimation,
        lambda: dpt(use_batch_norm_in_fusion_residual=True, hidden_act="relu", qkv_bias=False),
    ),
    "vit, segmentation": (
        DPTForSemanticSegmentation,
        lambda: dpt(num_labels=7, use_batch_norm_in_fusion_residual=True),
    ),
    "dinov2": (DPTForDepthEstimation, lambda: over(dinov2(), readout_type="project")),
    "dinov2, gated": (
        DPTForSemanticSegmentation,
        lambda: over(dinov2(use_swiglu_ffn=True, apply_layernorm=False), num_labels=5),
    ),
    "dinov3": (DPTForDepthEstimation, lambda: over(dinov3(), readout_type="project")),
    "dinov3, gated": (
        DPTForDepthEstimation,
        lambda: over(dinov3(use_gated_mlp=True, mlp_bias=False), readout_type="add"),
    ),
    "beit": (DPTForDepthEstimation, lambda: over(beit(), readout_type="project")),
    "beit, shared bias": (
        DPTForDepthEstimation,
        lambda: over(
            beit(use_shared_relative_position_bias=True, layer_scale_init_value=0.0),
            readout_type="ignore",
        ),
    ),
    "swin v2": (
        DPTForDepthEstimation,
        lambda: dpt(backbone_config=swinv2(), neck_hidden_sizes=[16, 32, 64, 128]),
    ),
    "hybrid": (DPTForDepthEstimation, hybrid),
    "depth anything": (
        DepthAnythingForDepthEstimation,
        lambda: DepthAnythingConfig(
            backbone_config=dinov2(),
            patch_size=14,
            reassemble_hidden_size=64,
            **{**NECK, "fusion_hidden_size": 32},
        ),
    ),
    "zoedepth": (ZoeDepthForDepthEstimation, zoedepth),
}


def build(name, *, seed=0):
    model_class, config = MODELS[name]
    return above_zero(randomize(model_class(config()), seed=seed))


def above_zero(model):
    """Behind a ReLU, weights above zero keep the last ReLU from making a random depth zero."""
    if isinstance(model, DPTForDepthEstimation):
        model.head.head[4].weight.data.abs_()
    return model


def predict(model, pixels):
    with torch.inference_mode():
        output = model(pixels)
    return output.logits if hasattr(output, "logits") else output.predicted_depth


def pixels_for(name, *, batch=2, seed=3):
    hw = (70, 98) if "dinov2" in name or name == "depth anything" else (64, 96)
    return torch.randn(batch, 3, *hw, generator=torch.Generator().manual_seed(seed))


@functools.cache
def known(name):
    """A plain model, pixels, and what it predicts for them; nobody changes any of it."""
    plain, pixels = build(name), pixels_for(name)
    expected = predict(plain, pixels)
    assert expected.std() > 0
    return plain, pixels, expected


def assert_same(name, **options):
    plain, pixels, expected = known(name)
    optimized = optimize(copy.deepcopy(plain), **options)
    assert difference(predict(optimized, pixels), expected) <= TOLERANCE
    return plain, optimized
