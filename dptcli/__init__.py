"""dpt: depth and segmentation with Dense Prediction Transformers.

The public names are imported when they are first used, so that `dpt --help` needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# public name -> the module that defines it
_PUBLIC = {
    "AutoBackbone": "dptcli.model.auto",
    "AutoImageProcessor": "dptcli.processing.auto",
    "BeitBackbone": "dptcli.model.beit",
    "BeitConfig": "dptcli.model.backbone_config",
    "BitBackbone": "dptcli.model.hybrid",
    "BitConfig": "dptcli.model.hierarchical_config",
    "DPTConfig": "dptcli.model.config",
    "DPTFeatureExtractor": "dptcli.processing.processor",
    "DPTForDepthEstimation": "dptcli.model.dpt",
    "DPTForSemanticSegmentation": "dptcli.model.dpt",
    "DPTImageProcessor": "dptcli.processing.processor",
    "DPTModel": "dptcli.model.dpt",
    "DepthAnythingConfig": "dptcli.model.depth_anything",
    "DepthAnythingForDepthEstimation": "dptcli.model.depth_anything",
    "Dinov2Backbone": "dptcli.model.vit",
    "Dinov2Config": "dptcli.model.backbone_config",
    "Dinov2WithRegistersBackbone": "dptcli.model.vit",
    "Dinov2WithRegistersConfig": "dptcli.model.backbone_config",
    "Swinv2Backbone": "dptcli.model.swinv2",
    "Swinv2Config": "dptcli.model.hierarchical_config",
    "VitDetBackbone": "dptcli.model.vitdet",
    "VitDetConfig": "dptcli.model.backbone_config",
    "ZoeDepthConfig": "dptcli.model.zoedepth_config",
    "ZoeDepthForDepthEstimation": "dptcli.model.zoedepth",
    "ZoeDepthImageProcessor": "dptcli.processing.zoe",
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
    "DPTConfig",
    "DPTFeatureExtractor",
    "DPTForDepthEstimation",
    "DPTForSemanticSegmentation",
    "DPTImageProcessor",
    "DPTModel",
    "DepthAnythingConfig",
    "DepthAnythingForDepthEstimation",
    "Dinov2Backbone",
    "Dinov2Config",
    "Dinov2WithRegistersBackbone",
    "Dinov2WithRegistersConfig",
    "Swinv2Backbone",
    "Swinv2Config",
    "VitDetBackbone",
    "VitDetConfig",
    "ZoeDepthConfig",
    "ZoeDepthForDepthEstimation",
    "ZoeDepthImageProcessor",
    "__version__",
    "load_model",
    "predict_depth",
    "predict_segments",
]

if TYPE_CHECKING:
    from dptcli.model.auto import AutoBackbone
    from dptcli.model.backbone_config import (
        BeitConfig,
        Dinov2Config,
        Dinov2WithRegistersConfig,
        VitDetConfig,
    )
    from dptcli.model.beit import BeitBackbone
    from dptcli.model.config import DPTConfig
    from dptcli.model.depth_anything import (
        DepthAnythingConfig,
        DepthAnythingForDepthEstimation,
    )
    from dptcli.model.dpt import DPTForDepthEstimation, DPTForSemanticSegmentation, DPTModel
    from dptcli.model.hierarchical_config import BitConfig, Swinv2Config
    from dptcli.model.hybrid import BitBackbone
    from dptcli.model.swinv2 import Swinv2Backbone
    from dptcli.model.vit import Dinov2Backbone, Dinov2WithRegistersBackbone
    from dptcli.model.vitdet import VitDetBackbone
    from dptcli.model.zoedepth import ZoeDepthForDepthEstimation
    from dptcli.model.zoedepth_config import ZoeDepthConfig
    from dptcli.predict import predict_depth, predict_segments
    from dptcli.processing.auto import AutoImageProcessor
    from dptcli.processing.processor import DPTFeatureExtractor, DPTImageProcessor
    from dptcli.processing.zoe import ZoeDepthImageProcessor
    from dptcli.weights.load import load_model


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
