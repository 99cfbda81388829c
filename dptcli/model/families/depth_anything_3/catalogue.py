"""The public checkpoints of Depth Anything 3 for one photograph."""

from dptcli.model.families.entry import APACHE, METRIC, SCALELESS, CatalogEntry
from dptcli.model.families.family import DEPTH

ENTRIES = tuple(
    CatalogEntry(
        name=f"depth-anything-3-{name}-large",
        family="Depth Anything 3 (Lin et al. 2025)",
        task=DEPTH,
        gives=gives,
        backbone="DINOv2-L",
        parameters=335_352_578,
        input_size="504",
        licence=APACHE,
        good_for=good_for,
        repository=f"depth-anything/DA3{name.upper()}-LARGE",
        note=note,
    )
    for name, gives, good_for, note in (
        (
            "mono",
            SCALELESS,
            "any scene, shapes true to scale; knows the sky",
            "Depth up to scale and shift, large is far.",
        ),
        (
            "metric",
            METRIC,
            "any scene, by the focal length; knows the sky",
            "Its metres are in proportion to the focal length: --fov, --focal or EXIF.",
        ),
    )
)
