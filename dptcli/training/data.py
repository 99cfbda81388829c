"""Training samples: pairs.csv → images with depth or labels, augmented the same way every time.

A sample is a function of (seed, pair, variant) alone, whatever was drawn before it: training
resumes to the same result, and a variant's features may be cached. H×W is the crop's size.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from dptcli.errors import ImageError, UsageError

IGNORE_LABEL = 255
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
KINDS = ("depth_m", "inverse_depth")


@dataclass(frozen=True)
class Pair:
    """One row of a pairs.csv; paths are absolute. sky: the class id of sky in `labels`."""

    image: Path
    depth: Path | None
    kind: str
    scale: float
    labels: Path | None
    sky: int | None


@dataclass(frozen=True)
class Sample:
    """A training sample.

    pixel_values: float32 (3, H, W), normalised. inverse_depth: float32 (H, W), 0 for sky.
    valid: bool (H, W), where it is known. labels: int64 (H, W), 255 where unknown.
    """

    pixel_values: np.ndarray
    inverse_depth: np.ndarray
    valid: np.ndarray
    labels: np.ndarray


def read_pairs(path: Path) -> list[Pair]:
    """The rows of a pairs.csv (or of the one in a folder).

    Columns: image, target; for depth also kind (depth_m: value ÷ scale is metres; inverse_depth:
    value ÷ scale is 1/m; 0 is not measured) and scale; optionally labels. Without a kind the
    target is a label map. A classes.txt beside the file names the classes, one a line; depth is
    infinite where the labels say "sky". Raises UsageError for a file or a row that is wrong.
    """
    path = path / "pairs.csv" if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"{path}: no such file; it needs the columns image and target")
    names = read_classes(path.parent)
    sky = names.index("sky") if "sky" in names else None
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        missing = {"image", "target"} - set(reader.fieldnames or ())
        if missing:
            raise UsageError(f"{path}: lacks the column {', '.join(sorted(missing))}")
        return [_pair(row, path, reader.line_num, sky) for row in reader]


def _pair(row: dict[str, str], path: Path, line: int, sky: int | None) -> Pair:
    kind = row.get("kind") or ""
    if kind and kind not in KINDS:
        raise UsageError(f"{path}, line {line}: kind {kind!r} must be one of {', '.join(KINDS)}")
    try:
        scale = float(row.get("scale") or 1)
    except ValueError:
        scale = 0.0
    if not scale > 0:
        raise UsageError(f"{path}, line {line}: scale {row.get('scale')!r} must be above 0")
    target = path.parent / row["target"]
    extra = row.get("labels")
    return Pair(
        image=path.parent / row["image"],
        depth=target if kind else None,
        kind=kind,
        scale=scale,
        labels=(path.parent / extra if extra else None) if kind else target,
        sky=sky,
    )


def read_classes(folder: Path) -> list[str]:
    """The class names of classes.txt in a folder, from id 0; none without the file."""
    path = folder / "classes.txt"
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error})") from error


def _targets(pair: Pair) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Inverse depth (mode F), where it is known (mode L) and labels (mode L)."""
    labels = np.asarray(_open(pair.labels)) if pair.labels else None
    if pair.depth is None:
        assert labels is not None
        inverse = np.zeros(labels.shape, np.float32)
        known = np.zeros(labels.shape, bool)
    else:
        values = np.asarray(_open(pair.depth)).astype(np.float32) / pair.scale
        known = values > 0
        inverse = np.where(known, 1 / np.maximum(values, 1e-6), 0).astype(np.float32)
        if pair.kind == "inverse_depth":
            inverse = np.where(known, values, 0).astype(np.float32)
        if labels is None:
            labels = np.full(values.shape, IGNORE_LABEL, np.uint8)
        elif pair.sky is not None:
            known |= labels == pair.sky
    return (
        Image.fromarray(inverse),
        Image.fromarray(known.astype(np.uint8)),
        Image.fromarray(labels.astype(np.uint8)),
    )


def load_sample(
    pair: Pair, hw: tuple[int, int], *, seed: int, index: int, variant: int, augment: bool = True
) -> Sample:
    """Variant `variant` of pair number `index` at size `hw`; without `augment`, the whole image."""
    rng = np.random.default_rng([seed, index, variant])
    image = _open(pair.image).convert("RGB")
    targets = _targets(pair)
    if any(target.size != image.size for target in targets):
        raise ImageError(f"{pair.image}: {image.size} is not the size of its target")
    whole = (0.0, 0.0, float(image.width), float(image.height))
    box = _crop(image.size, hw, rng) if augment else whole
    size = (hw[1], hw[0])
    image = image.resize(size, Image.Resampling.BICUBIC, box=box)
    arrays = [
        np.asarray(target.resize(size, Image.Resampling.NEAREST, box=box)) for target in targets
    ]
    if augment:
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            arrays = [array[:, ::-1] for array in arrays]
        image = distort(image, rng)
    pixels = (np.asarray(image, np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    return Sample(
        pixel_values=np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32),
        inverse_depth=arrays[0].copy(),
        valid=np.ascontiguousarray(arrays[1] > 0),
        labels=np.ascontiguousarray(arrays[2]).astype(np.int64),
    )


def _crop(
    size: tuple[int, int], hw: tuple[int, int], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A box of the crop's aspect (within a tenth) with 30 to 100 % of the largest such area."""
    width, height = size
    aspect = hw[1] / hw[0] * float(np.exp(rng.uniform(-0.1, 0.1)))
    full_w, full_h = min(width, height * aspect), min(height, width / aspect)
    part = float(rng.uniform(0.3, 1.0)) ** 0.5 if rng.random() < 0.7 else 1.0
    box_w, box_h = full_w * part, full_h * part
    left, top = float(rng.uniform(0, width - box_w)), float(rng.uniform(0, height - box_h))
    return left, top, min(left + box_w, width), min(top + box_h, height)


def distort(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """What cameras and files do to a picture: exposure, colour, blur, noise, JPEG."""
    for enhance, spread in (
        (ImageEnhance.Brightness, 0.3),
        (ImageEnhance.Contrast, 0.3),
        (ImageEnhance.Color, 0.5),
    ):
        if rng.random() < 0.7:
            image = enhance(image).enhance(float(np.exp(rng.normal(0, spread))))
    if rng.random() < 0.08:
        image = image.convert("L").convert("RGB")
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.8))))
    if rng.random() < 0.2:
        factor = float(rng.uniform(0.4, 0.9))
        small = (max(8, int(image.width * factor)), max(8, int(image.height * factor)))
        image = image.resize(small, Image.Resampling.BILINEAR).resize(image.size)
    values = np.asarray(image, np.float64)
    if rng.random() < 0.5:
        values = values * rng.uniform(0.85, 1.15, 3)
    if rng.random() < 0.5:
        values = 255 * np.clip(values / 255, 0, 1) ** np.exp(rng.normal(0, 0.25))
    if rng.random() < 0.4:
        values = values + rng.normal(0, rng.uniform(1, 12), values.shape)
    image = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if rng.random() < 0.4:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(25, 92)))
        image = _open_bytes(buffer)
    return image


def _open_bytes(buffer: io.BytesIO) -> Image.Image:
    with Image.open(buffer) as image:
        return image.convert("RGB")


def split(pairs: Sequence[Pair], *, every: int = 20) -> tuple[list[Pair], list[Pair]]:
    """Training and validation pairs: scenes whose number is a multiple of `every` are held out.

    The scene is the image name's part before `_`, so that views of one scene stay together.
    """
    groups = sorted({pair.image.stem.split("_")[0] for pair in pairs})
    held = set(groups[::every]) if every > 0 else set()
    train = [pair for pair in pairs if pair.image.stem.split("_")[0] not in held]
    return train, [pair for pair in pairs if pair.image.stem.split("_")[0] in held]
