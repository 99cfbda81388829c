"""CHMv2: the height of a canopy above the ground, in metres, from photographs taken from above."""

from dptcli.model.families.entry import HEIGHT
from dptcli.model.families.family import DEPTH, Family

FAMILY = Family(
    package=__name__,
    title="CHMv2",
    tasks={"CHMv2ForDepthEstimation": DEPTH},
    processor="CHMv2ImageProcessor",
    public={"CHMv2Config": "config"},
    gives=HEIGHT,
)
