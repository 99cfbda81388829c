"""The public checkpoints of DPT: the paper's, MiDaS 3.1's, and those over DINOv2."""

from dptcli.model.families.entry import (
    APACHE,
    LABELS,
    METRIC,
    MIT,
    RELATIVE,
    CatalogEntry,
    KnownNumbers,
)
from dptcli.model.families.family import DEPTH, SEGMENT

SIZES = ("small", "base", "large", "giant")
DINOV2_PARAMETERS = dict(
    zip(SIZES, (37_197_601, 111_954_049, 339_738_305, 1_199_461_185), strict=True)
)


def _dpt() -> list[CatalogEntry]:
    """DPT 1.0: plain ViT and hybrid."""
    family = "DPT (Ranftl et al. 2021)"
    return [
        CatalogEntry(
            name="dpt-large",
            family=family,
            task=DEPTH,
            gives=RELATIVE,
            backbone="ViT-L/16",
            parameters=343_030_465,
            input_size="384",
            licence=APACHE,
            good_for="the paper's depth model, on any scene",
            repository="Intel/dpt-large",
            known=KnownNumbers(first=(6.3199, 6.3629, 6.4148), shape=(1, 384, 384)),
        ),
        CatalogEntry(
            name="dpt-large-ade",
            family=family,
            task=SEGMENT,
            gives=LABELS,
            backbone="ViT-L/16",
            parameters=343_960_364,
            input_size="480",
            licence=APACHE,
            good_for="150 classes of ADE20K, indoors and outdoors",
            repository="Intel/dpt-large-ade",
            known=KnownNumbers(first=(4.0480, 4.2420, 4.4360), shape=(1, 150, 480, 480)),
        ),
        CatalogEntry(
            name="hybrid-midas",
            family=family,
            task=DEPTH,
            gives=RELATIVE,
            backbone="BiT+ViT-B",
            parameters=122_377_985,
            input_size="384",
            licence=APACHE,
            good_for="nearly dpt-large, at a third of its size",
            repository="Intel/dpt-hybrid-midas",
            known=KnownNumbers(first=(5.6437, 5.6146, 5.6511), shape=(1, 384, 384), divisor=100.0),
        ),
    ]


# name, backbone, parameters, input size, what it is good for, known numbers
MIDAS_31 = (
    (
        "beit-base-384",
        "BEiT-B",
        110_761_153,
        "384",
        "any scene, in the middle of this family",
        KnownNumbers(first=(2669.71, 2663.71, 2674.94)),
    ),
    ("beit-large-384", "BEiT-L", 343_311_553, "384", "any scene, more exact than base", None),
    ("beit-large-512", "BEiT-L", 343_987_393, "512", "any scene, the finest of MiDaS 3.1", None),
    (
        "swinv2-tiny-256",
        "SwinV2-T",
        40_930_795,
        "256",
        "fast previews",
        KnownNumbers(first=(1032.77, 1025.19, 1030.27)),
    ),
    ("swinv2-base-384", "SwinV2-B", 101_351_865, "384", "any scene at moderate cost", None),
    ("swinv2-large-384", "SwinV2-L", 211_871_797, "384", "any scene, the best SwinV2", None),
)


def _midas() -> list[CatalogEntry]:
    return [
        CatalogEntry(
            # The SwinV2 models come in one input size each, so their names go without it.
            name=name.rpartition("-")[0] if name.startswith("swinv2") else name,
            family="MiDaS 3.1 (Birkl et al. 2023)",
            task=DEPTH,
            gives=RELATIVE,
            backbone=backbone,
            parameters=parameters,
            input_size=input_size,
            licence=MIT,
            good_for=good_for,
            repository=f"Intel/dpt-{name}",
            known=known,
        )
        for name, backbone, parameters, input_size, good_for, known in MIDAS_31
    ]


def _dinov2() -> list[CatalogEntry]:
    scenes = {"nyu": "rooms (trained on NYU)", "kitti": "roads (trained on KITTI)"}
    ranges = {"nyu": (0.001, 10.0), "kitti": (0.001, 80.0)}
    return [
        CatalogEntry(
            name=f"dinov2-{size}-{data}",
            family="DPT over DINOv2 (Oquab et al. 2023)",
            task=DEPTH,
            gives=METRIC,
            backbone=f"DINOv2-{size[0].upper()}",
            parameters=DINOV2_PARAMETERS[size],
            input_size="any",
            licence=APACHE,
            good_for=scenes[data],
            range_m=ranges[data],
            repository=f"facebook/dpt-dinov2-{size}-{data}",
            note="The image goes in at its own size: large photographs take time and memory.",
            known=KnownNumbers(first=(6.0336, 7.1502, 7.4130), shape=(1, 576, 736))
            if (size, data) == ("small", "kitti")
            else None,
        )
        for data in scenes
        for size in SIZES
    ]


ENTRIES = (*_dpt(), *_midas(), *_dinov2())
