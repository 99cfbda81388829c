"""Depth Anything 3 for any views: depth, confidence and camera of one photograph or of a scene."""

from collections.abc import Mapping
from typing import Any

from dptcli.model.families.family import DEPTH, POSES, Family

MODEL_NAMES = ("da3-small", "da3-base", "da3-large", "da3-giant")
ARCHITECTURE = "DepthAnything3ViewsForDepthEstimation"
WITH_POSES = "DepthAnything3PosedViewsForDepthEstimation"


def _in_authors_layout(values: Mapping[str, Any]) -> str | None:
    """Their config.json holds the network's name and its parts, and no architecture."""
    return ARCHITECTURE if values.get("model_name") in MODEL_NAMES else None


def _told_by(values: Mapping[str, Any]) -> str | None:
    return "depth" if values.get("model_name") in MODEL_NAMES else None


FAMILY = Family(
    package=__name__,
    title="Depth Anything 3, any views",
    tasks={ARCHITECTURE: DEPTH, WITH_POSES: DEPTH},
    parts={WITH_POSES: {DEPTH: ARCHITECTURE, POSES: WITH_POSES}},
    processor="DepthAnything3ImageProcessor",
    has_originals=True,
    public={"DepthAnything3ViewsConfig": "config"},
    authors_layout=_in_authors_layout,
    told_by=_told_by,
)
