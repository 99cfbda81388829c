"""Depth Pro: a pyramid of patches through DINOv2, a deconvolving decoder, metres and the camera."""

from dptcli.model.families.entry import METRIC
from dptcli.model.families.family import DEPTH, Family

FAMILY = Family(
    package=__name__,
    title="Depth Pro",
    tasks={"DepthProForDepthEstimation": DEPTH},
    processor="DepthProImageProcessor",
    has_originals=True,
    public={"DepthProConfig": "config"},
    gives=METRIC,
)
