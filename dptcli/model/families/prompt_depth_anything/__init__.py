"""Prompt Depth Anything: Depth Anything, told measured depths beside the photograph."""

from dptcli.model.families.family import DEPTH, Family

FAMILY = Family(
    package=__name__,
    title="Prompt Depth Anything",
    tasks={"PromptDepthAnythingForDepthEstimation": DEPTH},
    processor="PromptDepthAnythingImageProcessor",
    has_originals=True,
    public={"PromptDepthAnythingConfig": "config"},
)
