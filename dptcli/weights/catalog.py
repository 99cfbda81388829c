"""The models that have names: what each one is, where it lies, what may be done with it.

Needs no torch. Any other repository of the hub works by `owner/name`: its task and family come
from its config.json.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path

from dptcli.errors import ModelError
from dptcli.weights import DEFAULT_MODEL, hub
from dptcli.weights.folder import DEPTH, ORIGINAL_SUFFIXES, SEGMENT

BUILTIN_FOLDER = Path(__file__).parent / "builtin"

RELATIVE = "relative"
METRIC = "metric"
LABELS = "labels"

APACHE = "Apache-2.0"
MIT = "MIT"
NON_COMMERCIAL = "CC-BY-NC-4.0"
UNSTATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class KnownNumbers:
    """What the publisher's own test expects for COCO val2017 000000039769.

    first: the first values of the first row of the output (of the first class for labels),
    divided by `divisor`. shape: the whole output's, as far as it is known.
    """

    first: tuple[float, float, float]
    shape: tuple[int, ...] | None = None
    divisor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """One named model.

    repository: on the hub, or None for a built-in one, which lies in `folder`. revision: the
    commit that is fetched, or None for the newest. gives: relative (inverse depth), metric
    (metres) or labels. parameters: a count. input_size: what the network sees, in pixels.
    """

    name: str
    family: str
    task: str
    gives: str
    backbone: str
    parameters: int
    input_size: str
    licence: str
    good_for: str
    repository: str | None = None
    revision: str | None = None
    folder: Path | None = None
    note: str = ""
    known: KnownNumbers | None = None

    @property
    def is_non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return "-NC" in self.licence


def _builtin(task: str, *, gives: str, parameters: int, good_for: str) -> CatalogEntry:
    return CatalogEntry(
        name=DEFAULT_MODEL,
        family="Built in",
        task=task,
        gives=gives,
        backbone="DINOv2-S",
        parameters=parameters,
        input_size="308",
        licence=APACHE,
        good_for=good_for,
        folder=BUILTIN_FOLDER / f"dpt-small-{task}",
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


SIZES = ("small", "base", "large", "giant")
DINOV2_PARAMETERS = dict(
    zip(SIZES, (37_197_601, 111_954_049, 339_738_305, 1_199_461_185), strict=True)
)
DEPTH_ANYTHING_PARAMETERS = dict(zip(SIZES[:3], (24_785_089, 97_470_785, 335_315_649), strict=True))


def _dinov2() -> list[CatalogEntry]:
    scenes = {"nyu": "rooms (trained on NYU)", "kitti": "roads (trained on KITTI)"}
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
            repository=f"facebook/dpt-dinov2-{size}-{data}",
            note="The image goes in at its own size: large photographs take time and memory.",
            known=KnownNumbers(first=(6.0336, 7.1502, 7.4130), shape=(1, 576, 736))
            if (size, data) == ("small", "kitti")
            else None,
        )
        for data in scenes
        for size in SIZES
    ]


def _depth_anything() -> list[CatalogEntry]:
    return [
        CatalogEntry(
            name=f"depth-anything-{version}{size}",
            family=family,
            task=DEPTH,
            gives=RELATIVE,
            backbone=f"DINOv2-{size[0].upper()}",
            parameters=DEPTH_ANYTHING_PARAMETERS[size],
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
        for size in SIZES[:3]
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
            parameters=DEPTH_ANYTHING_PARAMETERS[size],
            input_size="518",
            licence=UNSTATED if size == "small" else NON_COMMERCIAL,
            good_for=good_for,
            repository="depth-anything/Depth-Anything-V2-Metric-"
            f"{place.capitalize()}-{size.capitalize()}-hf",
            note=note,
        )
        for place, good_for in (
            ("indoor", "rooms, up to 20 m"),
            ("outdoor", "roads, up to 80 m"),
        )
        for size in SIZES[:3]
    ]


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


CATALOG: tuple[CatalogEntry, ...] = (
    _builtin(
        DEPTH, gives=RELATIVE, parameters=24_785_089, good_for="depth out of the box, offline"
    ),
    _builtin(SEGMENT, gives=LABELS, parameters=24_794_856, good_for="coarse scene parts, offline"),
    *_dpt(),
    *_midas(),
    *_dinov2(),
    *_depth_anything(),
    *_depth_anything_metric(),
    *_zoedepth(),
)


def names() -> list[str]:
    """The short names, each once, in the catalogue's order."""
    return list(dict.fromkeys(entry.name for entry in CATALOG))


def entries_for(name: str | Path) -> list[CatalogEntry]:
    """The entries with a short name or a repository's name; a built-in model has one a task."""
    wanted = str(name).partition("@")[0]
    return [entry for entry in CATALOG if wanted in (entry.name, entry.repository)]


def find_model(
    name: str | Path, *, task: str | None, offline: bool = False, refresh: bool = False
) -> Path:
    """The folder of a model: a local folder, a catalogued name, or `owner/name[@revision]`.

    An original file of the authors (.pt) is its own folder.

    A model of the hub is taken from the cache, else downloaded unless `offline`; `refresh` asks
    the hub for a newer version first.
    Raises ModelError for an unknown name, with the nearest known one, and for a wrong task.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.is_file():
        if folder.suffix.lower() in ORIGINAL_SUFFIXES:
            return folder
        raise ModelError(
            f"{folder}: is a file; a model is a folder, or an original file "
            f"({', '.join(ORIGINAL_SUFFIXES)})"
        )
    named = entries_for(name)
    fitting = [entry for entry in named if task in (None, entry.task)]
    if named and not fitting:
        tasks = " or ".join(entry.task for entry in named)
        raise ModelError(f"model {str(name)!r} is for `dpt {tasks}`, not for `dpt {task}`")
    if fitting and fitting[0].folder is not None:
        return fitting[0].folder
    return hub.fetch(
        hub_name(name),
        task=task,
        licence=named[0].licence if named else None,
        hint=_hint(name),
        offline=offline,
        refresh=refresh,
    )


def hub_name(name: str | Path) -> hub.HubName:
    """The repository and revision that a short name or `owner/name[@revision]` stands for.

    Raises ModelError for a name that can be neither, and for a built-in model.
    """
    short, _, revision = str(name).partition("@")
    for entry in entries_for(name):
        if entry.repository is None:
            raise ModelError(f"model {short!r} is built in: it is part of the package")
        return hub.HubName(entry.repository, revision or entry.revision)
    parsed = hub.parse_name(str(name))
    if parsed is None:
        raise ModelError(
            f"unknown model {str(name)!r}; {_hint(name)}give a folder, owner/name on the hub, "
            "or a name that `dpt models` lists"
        )
    return parsed


def _hint(name: str | Path) -> str:
    """ "did you mean …? " when a name comes near a known one, else nothing."""
    wanted = str(name).partition("@")[0].lower()
    known = {entry.name: entry.name for entry in CATALOG}
    known |= {entry.repository.lower(): entry.repository for entry in CATALOG if entry.repository}
    near = difflib.get_close_matches(wanted, known, n=1)
    return f"did you mean {known[near[0]]!r}? " if near else ""
