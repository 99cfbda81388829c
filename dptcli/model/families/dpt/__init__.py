"""DPT: the paper's networks, MiDaS 3.1's and those over DINOv2. Its model is `dptcli.model.dpt`."""

from dptcli.model.families.family import DEPTH, SEGMENT, Family

FAMILY = Family(
    package=__name__,
    title="DPT",
    tasks={"DPTForDepthEstimation": DEPTH, "DPTForSemanticSegmentation": SEGMENT},
    models="dptcli.model.dpt",
    has_originals=True,
)
