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
            caution=caution,
            range_m=(0.001, farthest),
        )
        for name, parameters, good_for, farthest, note, caution in (
            ("nyu", 343_789_698, "rooms, up to 10 m", 10.0, "", ""),
            (
                "kitti",
                343_789_698,
                "roads",
                10.0,
                "Its config.json says max_depth 10, the value for rooms; the authors' is 80. The "
                "number is used as it is published, which is how the reference runs this model.",
                "its published max_depth is 10, the value for rooms, so nothing is farther than "
                "10 m; the authors' value is 80. `dpt convert zoedepth-kitti FOLDER --max-depth "
                "80` writes a model with it, for -m FOLDER",
            ),
            (
                "nyu-kitti",
                345_073_307,
                "rooms and roads: it chooses between the two itself",
                80.0,
                "Rooms from 0.001 to 10 m, roads from 0.001 to 80 m.",
                "",
            ),
        )
    ]


ENTRIES = tuple(_zoedepth())
