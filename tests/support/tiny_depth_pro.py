"""Random tiny Depth Pros, what they see, and their pixels as the published processor makes them."""

import random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from parity import randomize
from torch import Tensor

from dptcli import DepthProConfig, DepthProForDepthEstimation

SIDE = 32  # of a patch; the network's input is four times it
SHAPES_HW = {"square": (96, 96), "landscape": (60, 100), "portrait": (150, 90)}


def encoder(rng: random.Random, *, layers: int = 3, patch: int = 8) -> dict[str, Any]:
    return {
        "model_type": "dinov2",
        "hidden_size": 64 if rng.random() < 0.5 else 24,
        "num_attention_heads": 1,
        "num_hidden_layers": layers,
        "mlp_ratio": 2,
        "image_size": SIDE,
        "patch_size": patch,
        "layerscale_value": 0.7,
        "use_mask_token": rng.random() < 0.5,
    }


def draw(seed: int) -> dict[str, Any]:
    """A random tiny Depth Pro; the first seed has the published one's pyramid."""
    rng = random.Random(seed)
    published = seed == 0
    values = {
        "patch_size": SIDE,
        "fusion_hidden_size": rng.choice([16, 24]),
        "intermediate_hook_ids": [2, 0] if rng.random() < 0.5 else [1, 0],
        "intermediate_feature_dims": rng.choice([[16, 16], [12, 16], [16, 24]]),
        "scaled_images_feature_dims": rng.choice([[20, 20, 12], [16, 24, 16]]),
        "merge_padding_value": rng.choice([3, 1, 0]),
        "use_fov_model": True,
        "num_fov_head_layers": rng.choice([1, 2]),
        "use_batch_norm_in_fusion_residual": rng.random() < 0.3,
        **{
            f"{name}_model_config": encoder(rng, patch=4 if published else 8)
            for name in ("image", "patch", "fov")
        },
    }
    if not published and rng.random() < 0.3:
        values["scaled_images_overlap_ratios"] = [0.0, 0.0, 0.25]
    return values


def pixels(batch: int = 2, side: int = 4 * SIDE, *, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


def lifted(model: Any) -> Any:
    """The same, with depth that is not all zero, and a field of view that is an angle."""
    with torch.no_grad():
        model.head.layers[4].bias.fill_(1.0)
        if model.fov_model is not None:
            model.fov_model.head.layers[-1].bias.fill_(55.0)
    return model


def random_model(seed: int = 1, **changes: Any) -> DepthProForDepthEstimation:
    model = DepthProForDepthEstimation(DepthProConfig(**draw(seed) | changes))
    return lifted(randomize(model, seed=seed, std=0.15))


def photograph(hw: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def as_published(image: np.ndarray, side: int) -> Tensor:
    """Their order: to floats of 255, less mean and by deviation, then the plain bilinear resize."""
    planes = torch.from_numpy(image).permute(2, 0, 1).float()
    mean = std = torch.tensor([0.5, 0.5, 0.5]) * 255
    planes = (planes - mean[:, None, None]) / std[:, None, None]
    return F.interpolate(planes[None], (side, side), mode="bilinear", align_corners=False)
