"""The public checkpoints of Depth Anything 3 for any views."""

from dptcli.model.families.entry import APACHE, NON_COMMERCIAL, SCALELESS, CatalogEntry
from dptcli.model.families.family import DEPTH

ENTRIES = tuple(
    CatalogEntry(
        name=f"depth-anything-3-{size}",
        family="Depth Anything 3, any views (Lin et al. 2025)",
        task=DEPTH,
        gives=SCALELESS,
        backbone=f"DINOv2-{letter}",
        parameters=parameters,
        input_size="504",
        licence=licence,
        good_for="any scene, with confidence and camera",
        repository=f"depth-anything/DA3-{size.upper()}{version}",
        note="Depth up to scale, large is far; one scale for all views of a scene.",
    )
    for size, letter, parameters, licence, version in (
        ("small", "S", 33_432_171, APACHE, ""),
        ("base", "B", 131_978_347, APACHE, ""),
        ("large", "L", 397_547_243, NON_COMMERCIAL, "-1.1"),
        ("giant", "g", 1_306_651_115, NON_COMMERCIAL, "-1.1"),
    )
)
