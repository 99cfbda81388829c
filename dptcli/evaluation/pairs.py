"""Photographs with their targets: a pairs.csv, or a folder whose names say what belongs together.

A pairs.csv has the columns image, target and, for depth, kind and scale; its paths are relative to
it. Without a kind a target is a label map, and a column labels adds one to a row of depth.
A folder without a pairs.csv is read by its names: images/a.jpg with depth/a.png or labels/a.png,
or a.jpg beside a.depth.png or a.labels.png.
"""

import csv
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import ImageError, UsageError
from dptcli.evaluation.maps import MAP_SUFFIXES, StoredMap, read_map
from dptcli.inputs.decode import printable
from dptcli.inputs.formats import is_picture
from dptcli.inputs.search import LeftOut, choose, natural_key

if TYPE_CHECKING:
    from dptcli.weights.load import LoadedModel

logger = logging.getLogger(__name__)

PairTask = Literal["depth", "segment"]

LABELS = "labels"
DEPTH_KINDS = ("depth_m", "depth", "inverse_depth", "disparity")
_INVERSE = ("inverse_depth", "disparity")
KINDS: dict[PairTask, tuple[str, ...]] = {"depth": DEPTH_KINDS, "segment": (LABELS,)}

# Integers without a stated scale are millimetres, as Kinect, ScanNet and 7-Scenes store them.
DEFAULT_INTEGER_SCALE = 1000.0
IGNORE_INDEX = 255
_NONE_IN_16_BITS = 65_535  # what `dpt segment` and others leave out of maps of more than 8 bits

# The folder beside images/, and the ending before the suffix, that hold a task's targets.
_TARGET_FOLDERS: dict[PairTask, str] = {"depth": "depth", "segment": "labels"}
_TARGET_ENDINGS: dict[PairTask, str] = {"depth": ".depth", "segment": ".labels"}


@dataclass(frozen=True, kw_only=True)
class LabelRules:
    """How a model's configuration reads label targets.

    reduce: 0 and 255 mean none of the classes and the first class is 1 (do_reduce_labels, as
    ADE20K stores them). ignore_index: the id that does not count, after that
    (semantic_loss_ignore_index).
    """

    reduce: bool = False
    ignore_index: int = IGNORE_INDEX


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One photograph and its target.

    kind: depth_m (stored value / scale = metres), depth (the same in an unknown unit),
    inverse_depth or disparity (stored value / scale = 1 / depth), or labels. scale None: what a
    file of ours says of its levels, else 1000 for integers, 1 for floats. name: the photograph's
    path as the set gives it. rules: of labels.
    """

    image: Path
    target: Path
    kind: str = "depth_m"
    scale: float | None = None
    name: str = ""
    # Not compared: a pair is the same one however its labels are read.
    rules: LabelRules = field(default=LabelRules(), compare=False)


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """Pairs that are judged together. classes: names from id 0 (classes.txt), empty if unknown."""

    name: str
    path: Path
    pairs: tuple[Pair, ...]
    classes: tuple[str, ...] = ()


def read_pair_sets(paths: Sequence[str | Path], *, task: PairTask) -> list[PairSet]:
    """Read several sets; equal names are told apart by their parent folders.

    Raises UsageError as read_pairs does, and for a set that is given twice.
    """
    sets = [read_pairs(path, task=task) for path in paths]
    sources = [pairs.path.resolve() for pairs in sets]
    for index, source in enumerate(sources):
        if source in sources[:index]:
            raise UsageError(f"{printable(paths[index])} is given twice; name each set once")
    names = [pairs.name for pairs in sets]
    return [
        pairs
        if names.count(pairs.name) == 1
        else PairSet(
            name=str(Path(source.parent.parent.name, pairs.name) if source.suffix else source),
            path=pairs.path,
            pairs=pairs.pairs,
            classes=pairs.classes,
        )
        for pairs, source in zip(sets, sources, strict=True)
    ]


def read_pairs(path: str | Path, *, task: PairTask) -> PairSet:
    """Read one set of pairs for a task: a CSV file, a folder with pairs.csv, or a folder by names.

    Rows of the other task are left out, so that one CSV can serve both. Whether the files exist is
    seen when they are read. Raises UsageError for a path, a row or a folder that gives no pairs.
    """
    given = Path(path)
    if given.is_dir():
        table = given / "pairs.csv"
        if not table.is_file():
            pairs = _pairs_in_folder(given, task=task)
            return _pair_set(given, folder=given, pairs=pairs)
        given = table
    if not given.is_file():
        raise UsageError(
            f"no such file or folder: '{printable(path)}'; PAIRS is a pairs.csv or a folder"
        )
    return _pair_set(given, folder=given.parent, pairs=_pairs_in_table(given, task=task))


def read_depth(pair: Pair) -> NDArray[np.float32]:
    """Read a depth target: float32 (H, W) metres (or the set's unit), 0 where nothing was measured.

    Raises ImageError.
    """
    stored = read_map(pair.target)
    _check_kind(stored, pair)
    if pair.scale is None and _says_its_levels(stored):
        values = stored.decoded()
    else:
        is_integer = stored.values.dtype.kind in "bui"
        scale = pair.scale or (DEFAULT_INTEGER_SCALE if is_integer else 1.0)
        values = stored.values.astype(np.float64) / scale
    if pair.kind in _INVERSE:
        # An inverse depth of 0 is infinitely far: no depth to compare with.
        values = np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)
    measured = np.isfinite(values) & (values > 0)
    if not measured.any():
        raise ImageError(f"{printable(pair.target)} has no measured pixel; check its kind")
    return np.where(measured, values, 0).astype(np.float32)


def _check_kind(stored: StoredMap, pair: Pair) -> None:
    """Raise ImageError for a target that says that it is of another kind than its set has it."""
    said = stored.facts.get("kind")
    if said == LABELS or (said in DEPTH_KINDS and (said in _INVERSE) != (pair.kind in _INVERSE)):
        raise ImageError(
            f"{printable(pair.target)} holds {said}, and its set takes it for {pair.kind}; a "
            "pairs.csv says which it is in its column kind"
        )


def _says_its_levels(stored: StoredMap) -> bool:
    return stored.values.dtype.kind in "bui" and {"first", "last"} <= stored.facts.keys()


def read_labels(pair: Pair) -> NDArray[np.int32]:
    """Read a label target: class ids (H, W) as the pair's rules say. Raises ImageError."""
    stored = read_map(pair.target)
    if stored.values.dtype.kind not in "bui":
        raise ImageError(
            f"{printable(pair.target)} holds {stored.values.dtype}; labels must be integers"
        )
    labels = stored.values.astype(np.int32)
    is_none = labels == _NONE_IN_16_BITS
    if pair.rules.reduce:
        is_none |= (labels == 0) | (labels == IGNORE_INDEX)
        labels -= 1
    labels[is_none] = pair.rules.ignore_index
    return labels


def rules_of(loaded: "LoadedModel") -> LabelRules:
    """Return how label targets are read for a model, by its processor and its configuration."""
    return LabelRules(
        reduce=bool(getattr(loaded.processor.config, "do_reduce_labels", False)),
        ignore_index=int(getattr(loaded.model.config, "semantic_loss_ignore_index", IGNORE_INDEX)),
    )


def with_rules(sets: Sequence[PairSet], rules: LabelRules) -> list[PairSet]:
    """Return the sets with their label targets read by a model's rules."""
    return [
        replace(pairs, pairs=tuple(replace(pair, rules=rules) for pair in pairs.pairs))
        for pairs in sets
    ]


def with_scale(sets: Sequence[PairSet], scale: float | None) -> list[PairSet]:
    """Return the sets with this scale for depths whose own nobody says: stored / scale = metres."""
    if scale is None:
        return list(sets)
    return [
        replace(
            pairs,
            pairs=tuple(
                pair
                if pair.scale is not None or pair.kind == LABELS
                else replace(pair, scale=scale)
                for pair in pairs.pairs
            ),
        )
        for pairs in sets
    ]


def assumed_unit(sets: Sequence[PairSet]) -> str | None:
    """Return in words what is assumed of integer depths whose scale nobody says; None for none.

    One file a set is looked at: whoever stores a set stores it in one way.
    """
    for pairs in sets:
        for pair in pairs.pairs[:1]:
            if pair.kind not in ("depth_m", "depth") or pair.scale is not None:
                continue
            try:
                stored = read_map(pair.target)
            except ImageError:
                continue  # its own failure
            if stored.values.dtype.kind in "bui" and not _says_its_levels(stored):
                return (
                    f"integer depths of {printable(pairs.name)} are taken for millimetres (scale "
                    "1000); KITTI's are 256 to the metre: --scale 256 says so, or a pairs.csv in "
                    "its column scale"
                )
    return None


def _pair_set(path: Path, *, folder: Path, pairs: Sequence[Pair]) -> PairSet:
    named_by_file = path.is_file() and path.name != "pairs.csv"
    name = path.stem if named_by_file else folder.resolve().name
    names = folder / "classes.txt"
    try:
        classes = tuple(names.read_text(encoding="utf-8").split("\n")) if names.is_file() else ()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {printable(names)} ({error}); save it as UTF-8") from error
    while classes and not classes[-1].strip():
        classes = classes[:-1]
    stripped = tuple(line.strip() for line in classes)
    return PairSet(name=name, path=path, pairs=tuple(pairs), classes=stripped)


def _pairs_in_table(path: Path, *, task: PairTask) -> list[Pair]:
    name = printable(path)
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = [column or "" for column in reader.fieldnames or []]
            missing = [column for column in ("image", "target") if column not in columns]
            if missing:
                raise UsageError(
                    f"{name} lacks the column {' and '.join(missing)}; its first line must be "
                    "image,target or image,target,kind,scale"
                )
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {name} ({error}); save it as CSV in UTF-8") from error
    pairs = [
        pair
        for line, row in rows
        for pair in _pairs_in_row(row, folder=path.parent, where=f"{name}, line {line}")
    ]
    wanted = [pair for pair in pairs if pair.kind in KINDS[task]]
    if not wanted:
        found = f"only {', '.join(sorted({pair.kind for pair in pairs}))}" if pairs else "no rows"
        raise UsageError(
            f"{name} has {found}; `{task}` needs rows of kind {' or '.join(KINDS[task])} "
            "in a column kind"
        )
    return wanted


def _pairs_in_row(row: dict[str, str | None], *, folder: Path, where: str) -> list[Pair]:
    image, target, kind, scale, labels = (
        (row.get(column) or "").strip() for column in ("image", "target", "kind", "scale", "labels")
    )
    if not image or not target:
        raise UsageError(f"{where}: {'image' if not image else 'target'} is empty; fill it in")
    known = [*DEPTH_KINDS, LABELS]
    if kind and kind not in known:
        raise UsageError(f"{where}: kind {kind!r} must be {', '.join(known[:-1])} or {known[-1]}")
    pair = Pair(
        image=folder / image,
        target=folder / target,
        kind=kind or LABELS,
        scale=_scale(scale, where=where) if scale else None,
        name=image,
    )
    if not labels or pair.kind == LABELS:
        return [pair]
    return [pair, replace(pair, target=folder / labels, kind=LABELS, scale=None)]


def _scale(text: str, *, where: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError(f"{where}: scale {text!r} must be a number above 0, e.g. 1000 for mm")
    return scale


def _pairs_in_folder(folder: Path, *, task: PairTask) -> list[Pair]:
    """Pair what lies in a folder by its names, in natural order."""
    ending, targets = _TARGET_ENDINGS[task], _TARGET_FOLDERS[task]
    split = (folder / "images").is_dir()
    image_root = folder / "images" if split else folder
    target_root = folder / targets if split else folder
    endings = tuple(_TARGET_ENDINGS.values())
    pictures = [
        path
        for path in image_root.rglob("*")
        if is_picture(path.suffix.lower())
        and (split or not path.stem.endswith(endings))  # a.depth.png is a target
        and path.is_file()
    ]
    left_out = LeftOut()
    images: dict[Path, Path] = {}
    for path in sorted(choose(pictures, left_out, path_of=lambda path: path), key=natural_key):
        key = path.relative_to(image_root).with_suffix("")
        if key in images:
            raise UsageError(
                f"{printable(path)} and {printable(images[key])} share one name; keep one of them"
            )
        images[key] = path
    left_out.log()
    pairs = []
    for key, image in images.items():
        base = key.name if split else f"{key.name}{ending}"
        for suffix in MAP_SUFFIXES:
            target = target_root / key.with_name(base + suffix)
            if target.is_file():
                name = image.relative_to(folder).as_posix()
                pairs.append(Pair(image=image, target=target, kind=KINDS[task][0], name=name))
                break
    if not pairs:
        raise UsageError(
            f"'{printable(folder)}' has no pairs.csv and no pairs by name; it needs images/a.jpg "
            f"with {targets}/a.png, or a.jpg with a{ending}.png"
        )
    paired = {pair.image for pair in pairs}
    alone = [printable(image) for image in images.values() if image not in paired]
    if alone:
        logger.warning(
            "%d of %d photographs have no target of their name and are left out, the first is %s",
            len(alone),
            len(images),
            alone[0],
        )
    return pairs
