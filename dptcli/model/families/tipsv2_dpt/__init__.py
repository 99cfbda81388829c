"""TIPSv2-DPT: metric depth, surface normals and classes by three heads on one backbone."""

from dptcli.model.families.entry import METRIC
from dptcli.model.families.family import DEPTH, NORMALS, SEGMENT, Family

_PARTS = {
    DEPTH: "Tipsv2DptForDepthEstimation",
    SEGMENT: "Tipsv2DptForSemanticSegmentation",
    NORMALS: "Tipsv2DptForDepthAndNormals",
}

FAMILY = Family(
    package=__name__,
    title="TIPSv2-DPT",
    tasks={
        "Tipsv2DptForDepthEstimation": DEPTH,
        "Tipsv2DptForSemanticSegmentation": SEGMENT,
        "Tipsv2DptForDepthAndNormals": DEPTH,
        "TIPSv2DPTModel": DEPTH,  # as its publisher's own code calls the whole
        "Tipsv2DptForDensePrediction": DEPTH,
    },
    parts={"Tipsv2DptForDensePrediction": _PARTS, "TIPSv2DPTModel": _PARTS},
    processor="Tipsv2DptImageProcessor",
    public={"Tipsv2DptConfig": "config", "Tipsv2DptForNormalEstimation": "model"},
    gives=METRIC,
)
