"""The public checkpoints of Prompt Depth Anything."""

from dptcli.model.families.entry import APACHE, METRIC, CatalogEntry
from dptcli.model.families.family import DEPTH

NOTE = "Needs a depth sensor's map of each photograph: --prompt."
SMALL, LARGE = 25_083_073, 340_046_529

ENTRIES = tuple(
    CatalogEntry(
        name=f"prompt-depth-anything-{name}",
        family="Prompt Depth Anything (Lin et al. 2025)",
        task=DEPTH,
        gives=METRIC,
        backbone=backbone,
        parameters=parameters,
        input_size="756",
        licence=APACHE,
        good_for=good_for,
        repository=f"depth-anything/prompt-depth-anything-{name}-hf",
        note=NOTE,
    )
    for name, backbone, parameters, good_for in (
        ("vits", "DINOv2-S", SMALL, "a coarse or sparse sensor's depth made fine (--prompt)"),
        ("vitl", "DINOv2-L", LARGE, "a coarse or sparse sensor's depth made fine (--prompt)"),
        ("vits-transparent", "DINOv2-S", SMALL, "the same, trained on for glass (--prompt)"),
    )
)
