"""The public checkpoint of Depth Pro."""

from dptcli.model.families.entry import APPLE, METRIC, CatalogEntry
from dptcli.model.families.family import DEPTH

ENTRIES = (
    CatalogEntry(
        name="depth-pro",
        family="Depth Pro (Bochkovskii et al. 2024)",
        task=DEPTH,
        gives=METRIC,
        backbone="3 ViT-L",
        parameters=951_991_330,
        input_size="1536",
        licence=APPLE,
        good_for="any scene, sharp edges; knows the camera",
        repository="apple/DepthPro-hf",
        note="Takes 9.3 GB of memory in float32, and minutes a photograph on two cores. A known "
        "camera (--fov, --focal, --intrinsics) takes the place of the one that it "
        "estimates, and changes its metres.",
    ),
)
