"""The public checkpoint of Depth Anything 3 nested."""

from dptcli.model.families.entry import METRIC, NON_COMMERCIAL, CatalogEntry
from dptcli.model.families.family import DEPTH

ENTRIES = (
    CatalogEntry(
        name="depth-anything-3-nested",
        family="Depth Anything 3, nested (Lin et al. 2025)",
        task=DEPTH,
        gives=METRIC,
        backbone="DINOv2g+L",
        parameters=1_642_003_693,
        input_size="504",
        licence=NON_COMMERCIAL,
        good_for="any scene, with confidence, camera and sky",
        repository="depth-anything/DA3NESTED-GIANT-LARGE-1.1",
        note="Metres of one photograph, or in one scale of all views of a scene. Takes 9.9 GB of "
        "memory in float32, 6.8 GB in bfloat16. A known camera (--fov, --focal, --intrinsics) "
        "changes its metres.",
    ),
)
