"""Depth Anything, versions 1 and 2: DINOv2, a DPT neck, a head for depth."""

from dptcli.model.families.family import DEPTH, Family

FAMILY = Family(
    package=__name__,
    title="Depth Anything",
    tasks={"DepthAnythingForDepthEstimation": DEPTH},
    has_originals=True,
    public={"DepthAnythingConfig": "config"},
)
