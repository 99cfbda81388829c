"""DPT: the paper's networks, MiDaS 3.1's and those over DINOv2. Its model is `dptcli.model.dpt`."""

from collections.abc import Mapping
from typing import Any

from dptcli.model.families.family import DEPTH, SEGMENT, Family


def _told_by(values: Mapping[str, Any]) -> str | None:
    """DINOv2's own depth heads alone have the projection; all of them answer metres."""
    backbone = values.get("backbone_config")
    is_dinov2 = isinstance(backbone, Mapping) and backbone.get("model_type") == "dinov2"
    return "metric" if is_dinov2 and values.get("add_projection") is True else None


FAMILY = Family(
    package=__name__,
    title="DPT",
    tasks={"DPTForDepthEstimation": DEPTH, "DPTForSemanticSegmentation": SEGMENT},
    models="dptcli.model.dpt",
    has_originals=True,
    told_by=_told_by,
)
