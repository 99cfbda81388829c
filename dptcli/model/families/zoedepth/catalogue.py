"""The public checkpoints of ZoeDepth."""

from dptcli.model.families.entry import (
    METRIC,
    MIT,
    CatalogEntry,
)
from dptcli.model.families.family import DEPTH


def _zoedepth() -> list[CatalogEntry]:
    return [
        CatalogEntry(
            name=f"zoedepth-{name}",
            family="ZoeDepth (Bhat et al. 2023)",
            task=DEPTH,
            gives=METRIC,
            backbone="BEiT-L",
            parameters=parameters,
            input_size="384x512",
            licence=MIT,
            good_for=good_for,
            repository=f"Intel/zoedepth-{name}",
            note=note,
        )
        for name, parameters, good_for, note in (
            ("nyu", 343_789_698, "rooms, up to 10 m", ""),
            (
                "kitti",
                343_789_698,
                "roads",
                "Its config.json says max_depth 10, the value for rooms. The number is used as it "
                "is published, which is how the reference runs this model.",
            ),
            ("nyu-kitti", 345_073_307, "rooms and roads: it chooses between the two itself", ""),
        )
    ]


ENTRIES = tuple(_zoedepth())
