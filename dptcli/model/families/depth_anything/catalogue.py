"""The public checkpoints of Depth Anything 1 and 2, and of those who trained on from them."""

from dptcli.model.families.entry import (
    APACHE,
    METRIC,
    NON_COMMERCIAL,
    RELATIVE,
    UNSTATED,
    CatalogEntry,
)
from dptcli.model.families.family import DEPTH

SIZES = ("small", "base", "large")
PARAMETERS = dict(zip(SIZES, (24_785_089, 97_470_785, 335_315_649), strict=True))


def _depth_anything() -> list[CatalogEntry]:
    return [
        CatalogEntry(
            name=f"depth-anything-{version}{size}",
            family=family,
            task=DEPTH,
            gives=RELATIVE,
            backbone=f"DINOv2-{size[0].upper()}",
            parameters=PARAMETERS[size],
            input_size="518",
            licence=NON_COMMERCIAL if version and size != "small" else APACHE,
            good_for=good_for,
            repository=repository.format(size=size, Size=size.capitalize()),
        )
        for version, family, good_for, repository in (
            (
                "",
                "Depth Anything (Yang et al. 2024)",
                "any scene, robust",
                "LiheYoung/depth-anything-{size}-hf",
            ),
            (
                "v2-",
                "Depth Anything V2 (Yang et al. 2024)",
                "any scene, fine detail and thin structures",
                "depth-anything/Depth-Anything-V2-{Size}-hf",
            ),
        )
        for size in SIZES
    ]


def _depth_anything_metric() -> list[CatalogEntry]:
    note = (
        "Its own page states no licence; the project's README puts the small weights under "
        "Apache-2.0 and the base and large ones under CC-BY-NC-4.0."
    )
    return [
        CatalogEntry(
            name=f"depth-anything-v2-metric-{place}-{size}",
            family="Depth Anything V2, in metres",
            task=DEPTH,
            gives=METRIC,
            backbone=f"DINOv2-{size[0].upper()}",
            parameters=PARAMETERS[size],
            input_size="518",
            licence=UNSTATED if size == "small" else NON_COMMERCIAL,
            good_for=good_for,
            repository="depth-anything/Depth-Anything-V2-Metric-"
            f"{place.capitalize()}-{size.capitalize()}-hf",
            note=note,
            range_m=(0.0, farthest),
        )
        for place, good_for, farthest in (
            ("indoor", "rooms, up to 20 m", 20.0),
            ("outdoor", "roads, up to 80 m", 80.0),
        )
        for size in SIZES
    ]


def _distill_any_depth() -> list[CatalogEntry]:
    note = (
        "Its authors' first repository, xingyang1/Distill-Any-Depth, is under Apache-2.0; which "
        "licence this one's page names is not known here. The weights start from Depth Anything "
        "V2's"
    )
    return [
        CatalogEntry(
            name=f"distill-any-depth-{size}",
            family="Distill Any Depth (He et al. 2025)",
            task=DEPTH,
            gives=RELATIVE,
            backbone=f"DINOv2-{size[0].upper()}",
            parameters=PARAMETERS[size],
            input_size="518",
            licence=UNSTATED,
            good_for="any scene, learnt from several teachers",
            repository=f"xingyang1/Distill-Any-Depth-{size.capitalize()}-hf",
            note=f"{note}{terms}.",
        )
        for size, terms in (
            ("small", f", which are under {APACHE}"),
            ("large", f", which are under {NON_COMMERCIAL}"),
        )
    ]


def _any_condition() -> list[CatalogEntry]:
    return [
        CatalogEntry(
            name="depth-anything-ac-small",
            family="Depth Anything At Any Condition (Sun et al. 2025)",
            task=DEPTH,
            gives=RELATIVE,
            backbone="DINOv2-S",
            parameters=PARAMETERS["small"],
            input_size="518",
            licence=NON_COMMERCIAL,
            good_for="night, fog, rain, snow and blur",
            repository="ghost233lism/DepthAnything-AC",
            original="checkpoints/depth_anything_AC_vits.pth",
            note="Depth Anything V2's small model, trained on with what weather and sensors spoil. "
            "Read as its authors' code reads it; the published file itself was not at hand here.",
        )
    ]


ENTRIES = (
    *_depth_anything(),
    *_depth_anything_metric(),
    *_distill_any_depth(),
    *_any_condition(),
)
