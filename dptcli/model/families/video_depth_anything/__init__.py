"""Video Depth Anything: Depth Anything V2 whose neck looks along a clip's frames."""

from dptcli.model.families.family import DEPTH, Family

FAMILY = Family(
    package=__name__,
    title="Video Depth Anything",
    tasks={"VideoDepthAnythingForDepthEstimation": DEPTH},
    processor="VideoDepthAnythingImageProcessor",
    has_originals=True,
    public={"VideoDepthAnythingConfig": "config"},
)
