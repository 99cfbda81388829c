"""The public checkpoints of Video Depth Anything, which are the authors' own files."""

from dptcli.model.families.entry import APACHE, METRIC, NON_COMMERCIAL, RELATIVE, CatalogEntry
from dptcli.model.families.family import DEPTH

PARAMETERS = {"small": 29_035_137, "base": 114_441_409, "large": 384_390_337}

ENTRIES = tuple(
    CatalogEntry(
        name=f"video-depth-anything-{prefix}{size}",
        family=f"Video Depth Anything (Chen et al. 2025){in_metres}",
        task=DEPTH,
        gives=gives,
        backbone=f"DINOv2-{size[0].upper()}",
        parameters=parameters,
        input_size="518",
        licence=APACHE if size == "small" else NON_COMMERCIAL,
        good_for=good_for,
        repository=f"depth-anything/{title}Video-Depth-Anything-{size.capitalize()}",
        original=f"{title.replace('-', '_').lower()}video_depth_anything_vit{size[0]}.pth",
    )
    for prefix, title, in_metres, gives, good_for in (
        ("", "", "", RELATIVE, "video: depth that does not flicker"),
        ("metric-", "Metric-", ", in metres", METRIC, "video: metres that do not flicker"),
    )
    for size, parameters in PARAMETERS.items()
)
