"""TIPSv2-DPT: metric depth, surface normals and classes by three heads on one backbone."""

from dptcli.model.families.family import DEPTH, NORMALS, SEGMENT, Family

FAMILY = Family(
    package=__name__,
    title="TIPSv2-DPT",
    tasks={
        "Tipsv2DptForDepthEstimation": DEPTH,
        "Tipsv2DptForSemanticSegmentation": SEGMENT,
        "Tipsv2DptForDepthAndNormals": DEPTH,
        "Tipsv2DptForDensePrediction": DEPTH,
    },
    parts={
        "Tipsv2DptForDensePrediction": {
            DEPTH: "Tipsv2DptForDepthEstimation",
            SEGMENT: "Tipsv2DptForSemanticSegmentation",
            NORMALS: "Tipsv2DptForDepthAndNormals",
        }
    },
    processor="Tipsv2DptImageProcessor",
    public={"Tipsv2DptConfig": "config", "Tipsv2DptForNormalEstimation": "model"},
)
