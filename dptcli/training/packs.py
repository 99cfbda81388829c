"""Examples packed small: photographs as JPEG, depth as 255 levels of its logarithm, labels.

A pack is a folder of parts, zip archives of some 60 MB that can be carried one by one. Unpacked it
is a folder that `photographs.read_material` takes: every example once, with how often it counts.
"""

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.errors import UsageError
from dptcli.evaluation.pairs import IGNORE_INDEX, Pair
from dptcli.inputs.find import decode_image
from dptcli.results.files import atomic_path
from dptcli.training.data import IGNORE_LABEL, Example, targets_of

PART_BYTES = 60_000_000
SHORT_SIDE = 280
JPEG_QUALITY = 75
LEVELS = 254
"""Steps from the nearest depth (level 1) to the farthest (level 255); level 0 is not known."""

FARTHEST = 100.0
"""How many times the nearest depth is told apart; what lies beyond counts as that."""

INDEX = "examples.jsonl"


def pack(examples: Iterable[Example], out: Path, *, part_bytes: int = PART_BYTES) -> int:
    """Write the examples into `out`, those that are equal once; how many parts they take."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("part-*.zip"):
        old.unlink()
    part: dict[str, bytes] = {}
    size = count = 0
    for number, (example, times) in enumerate(Counter(examples).items()):
        files = _files(f"{number:06d}", example, times)
        length = sum(map(len, files.values()))
        if part and size + length > part_bytes:
            _write_part(out / f"part-{count:03d}.zip", part)
            part, size, count = {}, 0, count + 1
        part |= files
        size += length
    _write_part(out / f"part-{count:03d}.zip", part)
    return count + 1


def unpack(folder: Path, out: Path) -> Path:
    """Unpack all parts of a pack into `out`. UsageError where there is none."""
    parts = sorted(folder.glob("part-*.zip"))
    if not parts:
        raise UsageError(f"{folder} holds no part-000.zip; `pack` writes them")
    out.mkdir(parents=True, exist_ok=True)
    with (out / INDEX).open("w") as index:
        for part in parts:
            with zipfile.ZipFile(part) as archive:
                for name in archive.namelist():
                    if name.endswith(".json"):
                        index.write(archive.read(name).decode() + "\n")
                    else:
                        (out / name).write_bytes(archive.read(name))
    return out


def read(folder: Path, *, sky: int) -> list[Example]:
    """The examples of an unpacked pack, each as often as it counts. sky: the class id of sky."""
    examples: list[Example] = []
    for line in (folder / INDEX).read_text().splitlines():
        entry = json.loads(line)
        image = folder / f"{entry['stem']}.jpg"
        depth = labels = None
        if "near" in entry:
            target = folder / f"{entry['stem']}.depth.png"
            _write_inverse(target, entry["near"], entry["far"])
            depth = Pair(image=image, target=target, kind="inverse_depth", scale=65535.0)
        if entry["labelled"]:
            target = folder / f"{entry['stem']}.labels.png"
            labels = Pair(image=image, target=target, kind="labels")
        example = Example(
            image, depth, labels, sky=sky if labels else None, absent=tuple(entry["absent"])
        )
        examples += [example] * entry["times"]
    return examples


def _files(stem: str, example: Example, times: int) -> dict[str, bytes]:
    """The files of one example, by name."""
    image = Image.fromarray(decode_image(example.image))
    scale = min(1.0, SHORT_SIDE / min(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=JPEG_QUALITY)
    files = {f"{stem}.jpg": buffer.getvalue()}
    targets = {
        name: np.asarray(target.resize(size, Image.Resampling.NEAREST))
        for name, target in targets_of(example).items()
    }
    entry = {"stem": stem, "times": times, "absent": list(example.absent)}
    entry["labelled"] = "labels" in targets
    if "inverse_depth" in targets:
        levels, entry["near"], entry["far"] = to_levels(targets["inverse_depth"])
        files[f"{stem}.depth.png"] = _png(levels)
    if "labels" in targets:
        labels = targets["labels"]
        kept = np.where(labels == IGNORE_LABEL, IGNORE_INDEX, labels)
        files[f"{stem}.labels.png"] = _png(kept.astype(np.uint8))
    return {**files, f"{stem}.json": json.dumps(entry).encode()}


def to_levels(inverse: NDArray[np.floating]) -> tuple[NDArray[np.uint8], float, float]:
    """Levels of log-depth (H, W), and the depths of level 1 and 255: at most 1 % off.

    inverse: inverse depth (H, W), 0 where it is not known or infinitely far.
    """
    known = inverse > 0
    depth = np.divide(1.0, inverse, out=np.ones(inverse.shape), where=known)
    near = float(depth[known].min()) if known.any() else 1.0
    far = float(min(depth[known].max(), FARTHEST * near)) if known.any() else 1.0
    span = max(float(np.log(far / near)), 1e-9)
    steps = np.rint(np.log(np.clip(depth, near, far) / near) / span * LEVELS)
    return np.where(known, 1 + steps, 0).astype(np.uint8), near, far


def from_levels(levels: NDArray[np.uint8], near: float, far: float) -> NDArray[np.float64]:
    """Inverse depths (H, W) of the levels; 0 where they are not known."""
    depth = near * (far / near) ** ((levels.astype(np.float64) - 1) / LEVELS)
    return np.where(levels > 0, 1 / depth, 0)


def _write_inverse(path: Path, near: float, far: float) -> None:
    """Replace levels by inverse depth in 16 bits, the nearest the largest value."""
    with Image.open(path) as image:
        if image.mode != "L":
            return  # done before
        inverse = from_levels(np.asarray(image), near, far) * near
    with atomic_path(path) as temporary:
        values = np.rint(inverse * 65535).astype(np.uint16)
        Image.fromarray(values).save(temporary, "PNG", compress_level=1)


def _png(values: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _write_part(path: Path, files: dict[str, bytes]) -> None:
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def split_file(path: Path, out: Path, *, part_bytes: int) -> list[Path]:
    """Write a file in parts `NAME.000` … of at most `part_bytes` into `out`."""
    data = path.read_bytes()
    out.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, start in enumerate(range(0, len(data), part_bytes)):
        part = out / f"{path.name}.{number:03d}"
        part.write_bytes(data[start : start + part_bytes])
        parts.append(part)
    return parts


def join_file(parts: Sequence[Path], path: Path) -> None:
    """Put parts of `split_file` together again."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        for part in sorted(parts):
            stream.write(part.read_bytes())
