"""The public checkpoints of TIPSv2-DPT."""

from dptcli.model.families.entry import APACHE, METRIC, CatalogEntry
from dptcli.model.families.family import DEPTH, SEGMENT

ENTRIES = (
    CatalogEntry(
        name="tipsv2-base",
        family="TIPSv2-DPT (Google 2026)",
        task=DEPTH,
        also=(SEGMENT,),
        gives=METRIC,
        backbone="TIPSv2-B",
        parameters=158_007_257,
        input_size="448",
        licence=APACHE,
        good_for="rooms, with normals; `dpt segment`: ADE20K's 150 classes",
        repository="google/tipsv2-b14-dpt",
        note="Depth up to 10 m and surface normals were learnt from rooms (NYU), classes from "
        "ADE20K. All three come in one run: dpt depth --with-segments -f color,normals.",
        range_m=(0.001, 10.0),
    ),
)
