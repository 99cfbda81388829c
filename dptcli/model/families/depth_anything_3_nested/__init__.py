"""Depth Anything 3 nested: a scene's depth and cameras in metres, by two networks together."""

from collections.abc import Mapping
from typing import Any

from dptcli.model.families.family import DEPTH, POSES, Family

MODEL_NAME = "da3nested-giant-large"
ARCHITECTURE = "DepthAnything3NestedForDepthEstimation"
WITH_POSES = "DepthAnything3PosedNestedForDepthEstimation"


def _in_authors_layout(values: Mapping[str, Any]) -> str | None:
    """Their config.json holds the network's name and its parts, and no architecture."""
    return ARCHITECTURE if values.get("model_name") == MODEL_NAME else None


def _told_by(values: Mapping[str, Any]) -> str | None:
    return "metric" if values.get("model_name") == MODEL_NAME else None


FAMILY = Family(
    package=__name__,
    title="Depth Anything 3, nested",
    tasks={ARCHITECTURE: DEPTH, WITH_POSES: DEPTH},
    parts={WITH_POSES: {DEPTH: ARCHITECTURE, POSES: WITH_POSES}},
    processor="DepthAnything3ImageProcessor",
    has_originals=True,
    public={"DepthAnything3NestedConfig": "config"},
    authors_layout=_in_authors_layout,
    told_by=_told_by,
)
