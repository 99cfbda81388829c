"""The models that scenes are furnished with: catalogues of textured OBJ files with true sizes.

A catalogue is a Sweet Home 3D library (`.sh3f`, a zip archive): Debian's package
sweethome3d-furniture installs five. Each entry says its width, depth and height in centimetres,
its category and, with the archive, its licence.
"""

import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dptcli.errors import UsageError
from dptcli.training.classes import KIND_OF

_LABELS = (
    ("animal", r"chicken|horse|bulldog|cat|dog|rabbit", "Characters"),
    ("person", r".*", "Characters"),
    ("truck", r"truck|bus|van|fork lift", "Vehicles"),
    ("bicycle", r"bike|bicycle|tricycle|scooter|yamaha", "Vehicles"),
    ("other object", r"stroller|skateboard", "Vehicles"),
    ("car", r".*", "Vehicles"),
    ("bicycle", r"motorbike", ""),
    ("other vehicle", r"rowboat", ""),
    ("window", r"window|blind", ""),
    ("door", r"door", "Doors and windows"),
    ("other structure", r"fence|railing|staircase|tent|hut|column|goal|lamppost|park light|"
                  r"street light|street lamp|rails|chimney|swing", ""),
    ("other object", r"lamp|fan|umbrella|bat|remote control|intercom|bread box|indoor bike|"
               r"dog house|doll house|rocking horse|toy train", ""),
    ("vegetation", r"tree|plant|palm|pine|bush|hedge|cypress|maple|beech|poplar|acacia|bamboo|"
                   r"ficus|cactus|flowers?|tulips|lily|orchids|yucca|spathiphyllum|blossom|"
                   r"plant box", ""),
    ("floor", r"rug|carpet|bathmat|doormat|tatami|sidewalk", ""),
    ("cabinet", r"cabinet|wardrobe|cupboard|bookcase|shelves|dresser|chest|tv stand|vanity|"
                r"fridge|refrigerator|oven|stove|cooktop|freezer|washing machine|dryer|safe|"
                r"bedside table|island", ""),
    ("screen", r"tv|screen|laptop|ibook|imac|tablet", ""),
    ("bed", r"bed|crib|futon|mattress|sleeping bag", "Bedroom"),
    ("seat", r"chair|armchair|seat|sofa|couch|stool|bench|puff|bank|hammock", ""),
    ("table", r"table|desk|workbench", ""),
    ("food", r"butter|bread|cake|hot dog|hamburger|sushi|apples|chicken|fries|steak|"
             r"bowl with fruits|bowl with salad", "Kitchen"),
    ("animal", r"deer", ""),
    ("other furniture", r"curtain|sink|washbasin|basin|bath|bathtub|toilets unit|lavatory|urinal|"
                  r"bidet|shower|jacuzzi|radiator|piano|fireplace", ""),
)  # fmt: skip
"""(class, whole words of the name, category or "") by which a piece gets its class: the first."""

# Flat decals and whole prefabricated rooms make no sensible pieces.
_UNWANTED = re.compile(
    r"stationnement|fleche|arrow|parking|passage|crossing|box_room|parque\b|barnum|shadow|"
    r"contemp_living|dining_room|complements|escalator|elevator|pool\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Piece:
    """One model: where its OBJ lies, its size in metres (width, depth, height) and its class."""

    key: str
    name: str
    category: str
    size_m: tuple[float, float, float]
    top_m: float | None
    elevation_m: float
    label: str
    obj: Path
    creator: str
    licence: str

    @property
    def footprint_m(self) -> float:
        """The larger of width and depth."""
        return max(self.size_m[:2])


def _properties(text: str) -> tuple[dict[str, str], dict[int, dict[str, str]]]:
    head: dict[str, str] = {}
    entries: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        match = re.match(r"(\w+)(?:#(\d+))?=(.*)$", line)
        if match is None:
            continue
        field, number, value = match.groups()
        if number is None:
            head[field] = value.strip()
        else:
            entries.setdefault(int(number), {})[field] = value.strip()
    return head, entries


def _label(entry: dict[str, str], size_m: tuple[float, float, float]) -> str:
    """The class of a piece; of what no word names, larger things are structures out of doors."""
    name, category = entry.get("name", "").lower(), entry.get("category", "")
    for label, words, wanted in _LABELS:
        if wanted in ("", category) and re.search(rf"(?<!\w)(?:{words})(?!\w)", name):
            return label
    return "other structure" if category == "Exterior" and max(size_m) > 1.5 else "other object"


def read_catalogue(archive: Path, cache: Path) -> list[Piece]:
    """Read one .sh3f archive and unpack it once below `cache`; pieces in the archive's order."""
    folder = cache / archive.stem
    with zipfile.ZipFile(archive) as bundle:
        text = bundle.read("PluginFurnitureCatalog.properties").decode("latin-1")
        if not (folder / "unpacked").exists():
            bundle.extractall(folder)
            (folder / "unpacked").touch()
    head, entries = _properties(text)
    pieces = []
    for entry in entries.values():
        model = entry.get("model", "")
        if not model.endswith(".obj") or _UNWANTED.search(f"{model} {entry.get('name', '')}"):
            continue
        size_m = (
            float(entry["width"]) / 100,
            float(entry["depth"]) / 100,
            float(entry["height"]) / 100,
        )
        drop = entry.get("dropOnTopElevation")
        pieces.append(
            Piece(
                key=entry.get("id", model),
                name=entry.get("name", ""),
                category=entry.get("category", ""),
                size_m=size_m,
                top_m=float(drop) / 100 if drop and float(drop) > 0 else None,
                elevation_m=float(entry.get("elevation", 0)) / 100,
                label=_label(entry, size_m),
                obj=folder / model.lstrip("/"),
                creator=entry.get("creator", ""),
                licence=head.get("license", "unknown"),
            )
        )
    return pieces


def read_catalogues(folder: Path | None, cache: Path) -> list[Piece]:
    """Every piece of the .sh3f archives in `folder`; none without a folder.

    Raises UsageError where the folder holds no archive.
    """
    if folder is None:
        return []
    archives = sorted(folder.glob("*.sh3f"))
    if not archives:
        raise UsageError(
            f"no .sh3f archive in {folder}; Debian's package sweethome3d-furniture installs them "
            "in /usr/share/sweethome3d/furniture"
        )
    return [piece for archive in archives for piece in read_catalogue(archive, cache)]


def select(
    pieces: Iterable[Piece],
    *,
    labels: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
    height_m: tuple[float, float] = (0.0, 99.0),
    footprint_m: tuple[float, float] = (0.0, 99.0),
) -> list[Piece]:
    """The pieces of these kinds or classes, and categories, of a height and footprint in bounds."""
    return [
        piece
        for piece in pieces
        if (labels is None or piece.label in labels or KIND_OF[piece.label] in labels)
        and (categories is None or piece.category in categories)
        and height_m[0] <= piece.size_m[2] <= height_m[1]
        and footprint_m[0] <= piece.footprint_m <= footprint_m[1]
    ]
