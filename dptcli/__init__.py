"""dpt: depth and segmentation with Dense Prediction Transformers.

The public names are imported when they are first used, so that `dpt --help` needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# public name -> the module that defines it
_PUBLIC = {
    "AutoBackbone": "dptcli.model.backbones.auto",
    "AutoImageProcessor": "dptcli.processing.auto",
    "BeitBackbone": "dptcli.model.backbones.beit",
    "BeitConfig": "dptcli.model.backbones.plain_config",
    "BitBackbone": "dptcli.model.backbones.hybrid",
    "BitConfig": "dptcli.model.backbones.hierarchical_config",
    "DINOv3ViTBackbone": "dptcli.model.backbones.dinov3",
    "DINOv3ViTConfig": "dptcli.model.backbones.plain_config",
    "DPTConfig": "dptcli.model.config",
    "DPTFeatureExtractor": "dptcli.processing.processor",
    "DPTForDepthEstimation": "dptcli.model.dpt",
    "DPTForSemanticSegmentation": "dptcli.model.dpt",
    "DPTImageProcessor": "dptcli.processing.processor",
    "DPTModel": "dptcli.model.dpt",
    "Dinov2Backbone": "dptcli.model.backbones.vit",
    "Dinov2Config": "dptcli.model.backbones.plain_config",
    "Dinov2WithRegistersBackbone": "dptcli.model.backbones.vit",
    "Dinov2WithRegistersConfig": "dptcli.model.backbones.plain_config",
    "Swinv2Backbone": "dptcli.model.backbones.swinv2",
    "Swinv2Config": "dptcli.model.backbones.hierarchical_config",
    "VitDetBackbone": "dptcli.model.backbones.vitdet",
    "VitDetConfig": "dptcli.model.backbones.plain_config",
    "load_model": "dptcli.weights.load",
    "predict_depth": "dptcli.predict",
    "predict_segments": "dptcli.predict",
}

__all__ = [
    "AutoBackbone",
    "AutoImageProcessor",
    "BeitBackbone",
    "BeitConfig",
    "BitBackbone",
    "BitConfig",
    "DINOv3ViTBackbone",
    "DINOv3ViTConfig",
    "DPTConfig",
    "DPTFeatureExtractor",
    "DPTForDepthEstimation",
    "DPTForSemanticSegmentation",
    "DPTImageProcessor",
    "DPTModel",
    "Dinov2Backbone",
    "Dinov2Config",
    "Dinov2WithRegistersBackbone",
    "Dinov2WithRegistersConfig",
    "Swinv2Backbone",
    "Swinv2Config",
    "VitDetBackbone",
    "VitDetConfig",
    "__version__",
    "load_model",
    "predict_depth",
    "predict_segments",
]

if TYPE_CHECKING:
    from dptcli.model.backbones.auto import AutoBackbone
    from dptcli.model.backbones.beit import BeitBackbone
    from dptcli.model.backbones.dinov3 import DINOv3ViTBackbone
    from dptcli.model.backbones.hierarchical_config import BitConfig, Swinv2Config
    from dptcli.model.backbones.hybrid import BitBackbone
    from dptcli.model.backbones.plain_config import (
        BeitConfig,
        Dinov2Config,
        Dinov2WithRegistersConfig,
        DINOv3ViTConfig,
        VitDetConfig,
    )
    from dptcli.model.backbones.swinv2 import Swinv2Backbone
    from dptcli.model.backbones.vit import Dinov2Backbone, Dinov2WithRegistersBackbone
    from dptcli.model.backbones.vitdet import VitDetBackbone
    from dptcli.model.config import DPTConfig
    from dptcli.model.dpt import DPTForDepthEstimation, DPTForSemanticSegmentation, DPTModel
    from dptcli.predict import predict_depth, predict_segments
    from dptcli.processing.auto import AutoImageProcessor
    from dptcli.processing.processor import DPTFeatureExtractor, DPTImageProcessor
    from dptcli.weights.load import load_model


def _of_families() -> dict[str, str]:
    """What the families beside DPT add to the public names, {name: module}."""
    from dptcli.model.families import families

    return {name: where for family in families() for name, where in family.public_names().items()}


def __getattr__(name: str) -> Any:
    where = _PUBLIC.get(name) or _of_families().get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(where), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_of_families()})
