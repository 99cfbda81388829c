"""The public checkpoints of GLPN."""

from dptcli.model.families.entry import APACHE, METRIC, CatalogEntry
from dptcli.model.families.family import DEPTH

NOTE = "Sees a photograph at its own size; --size 640 makes a large one as small as it was trained."

ENTRIES = tuple(
    CatalogEntry(
        name=f"glpn-{name}",
        family="GLPN (Kim et al. 2022)",
        task=DEPTH,
        gives=METRIC,
        backbone="MiT-B4",
        parameters=61_220_903,
        input_size="own",
        licence=APACHE,
        good_for=good_for,
        repository=f"vinvino02/glpn-{name}",
        note=NOTE,
    )
    for name, good_for in (("nyu", "rooms, up to 10 m"), ("kitti", "roads, up to 80 m"))
)
