"""AutoBackbone: from a configuration's `model_type` to the backbone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dptcli.errors import ConfigError
from dptcli.model.access import split_access
from dptcli.model.backbones.base import Backbone
from dptcli.model.backbones.beit import BeitBackbone
from dptcli.model.backbones.config import BackboneConfig
from dptcli.model.backbones.dinov2_views import Dinov2ViewsBackbone
from dptcli.model.backbones.dinov3 import DINOv3ViTBackbone
from dptcli.model.backbones.hybrid import BitBackbone
from dptcli.model.backbones.plain_config import backbone_config_from
from dptcli.model.backbones.swinv2 import Swinv2Backbone
from dptcli.model.backbones.tips import Tipsv2VisionBackbone
from dptcli.model.backbones.vit import Dinov2Backbone, Dinov2WithRegistersBackbone
from dptcli.model.backbones.vitdet import VitDetBackbone
from dptcli.model.base_config import Config, overridden

BACKBONES: dict[str, type[Backbone]] = {
    backbone.config_class.model_type: backbone
    for backbone in (
        BeitBackbone,
        BitBackbone,
        Dinov2Backbone,
        Dinov2ViewsBackbone,
        Dinov2WithRegistersBackbone,
        DINOv3ViTBackbone,
        Swinv2Backbone,
        Tipsv2VisionBackbone,
        VitDetBackbone,
    )
}


class AutoBackbone:
    """Chooses the backbone class by `model_type`, as the reference's class of that name."""

    def __init__(self) -> None:
        raise TypeError("AutoBackbone is not built itself: use from_config or from_pretrained")

    @classmethod
    def from_config(cls, config: Config | Mapping[str, Any], **overrides: Any) -> Backbone:
        """Build with first weights from a backbone configuration or its dictionary.

        `out_features` or `out_indices` choose the stages. Raises ConfigError for an unknown type.
        """
        values = dict(config) if isinstance(config, Mapping) else config.to_dict()
        built = backbone_config_from(overridden(values, overrides, BackboneConfig.synonyms))
        if built.model_type not in BACKBONES:
            raise ConfigError(
                f"backbone_config: model_type {built.model_type!r} must be one of "
                f"{', '.join(BACKBONES)}"
            )
        return BACKBONES[built.model_type](built)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: Config | None = None,
        **overrides: Any,
    ) -> Backbone:
        """Load a backbone from a folder in the hub's layout, or by `owner/name[@revision]`.

        The keywords are those of `Pretrained.from_pretrained`.
        """
        from dptcli.weights.folder import read_config
        from dptcli.weights.sources import model_folder

        access, _ = split_access(overrides)
        folder = model_folder(
            pretrained_model_name_or_path, model_class=cls.__name__, access=access
        )
        named = backbone_config_from(read_config(folder)) if config is None else config
        placed = {name: v for name, v in overrides.items() if name not in ("revision", "subfolder")}
        loaded: Backbone = BACKBONES[named.model_type].from_pretrained(
            folder, config=config, **placed
        )
        return loaded
