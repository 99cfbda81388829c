"""The public checkpoint of CHMv2."""

from dptcli.model.families.entry import DINOV3, HEIGHT, CatalogEntry
from dptcli.model.families.family import DEPTH

ENTRIES = (
    CatalogEntry(
        name="chmv2",
        family="CHMv2 (Meta 2026)",
        task=DEPTH,
        gives=HEIGHT,
        backbone="DINOv3-L",
        parameters=336_901_376,
        input_size="own",
        licence=DINOV3,
        good_for="trees from above, a metre or less a pixel",
        repository="facebook/dinov3-vitl16-chmv2-dpt-head",
        note="Sees a photograph at its own size; --tile 1024 cuts a large one. A GeoTIFF's place "
        "goes into -f tiff.",
        range_m=(0.0, 96.0),
    ),
)
