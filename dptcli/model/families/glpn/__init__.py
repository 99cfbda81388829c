"""GLPN: a Mix Transformer and a light decoder that weighs local against global features."""

from dptcli.model.families.entry import METRIC
from dptcli.model.families.family import DEPTH, Family

FAMILY = Family(
    package=__name__,
    title="GLPN",
    tasks={"GLPNForDepthEstimation": DEPTH},
    processor="GLPNImageProcessor",
    public={"GLPNConfig": "config"},
    gives=METRIC,
)
