"""Depth Anything 3, for one photograph: DINOv2-L, a DPT neck, heads for depth and for the sky."""

from collections.abc import Mapping
from typing import Any

from dptcli.model.families.family import DEPTH, Family

MODEL_NAMES = ("da3mono-large", "da3metric-large")
ARCHITECTURE = "DepthAnything3ForDepthEstimation"


def _in_authors_layout(values: Mapping[str, Any]) -> str | None:
    """Their config.json holds the network's name and its parts, and no architecture."""
    return ARCHITECTURE if values.get("model_name") in MODEL_NAMES else None


def _told_by(values: Mapping[str, Any]) -> str | None:
    gives = dict(zip(MODEL_NAMES, ("depth", "metric"), strict=True))
    return gives.get(values.get("model_name", ""))


FAMILY = Family(
    package=__name__,
    title="Depth Anything 3",
    tasks={ARCHITECTURE: DEPTH},
    processor="DepthAnything3ImageProcessor",
    has_originals=True,
    public={"DepthAnything3Config": "config"},
    authors_layout=_in_authors_layout,
    told_by=_told_by,
)
