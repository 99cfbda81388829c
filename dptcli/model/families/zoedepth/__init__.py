"""ZoeDepth: BEiT, a DPT neck, metric bins over relative depth."""

from dptcli.model.families.entry import METRIC
from dptcli.model.families.family import DEPTH, Family

FAMILY = Family(
    package=__name__,
    title="ZoeDepth",
    tasks={"ZoeDepthForDepthEstimation": DEPTH},
    processor="ZoeDepthImageProcessor",
    public={"ZoeDepthConfig": "config"},
    gives=METRIC,
)
