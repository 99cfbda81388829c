"""Training samples: a set of pairs → images with depth or labels, augmented alike every time.

A sample is a function of (seed, example, variant) alone, whatever was drawn before it: training
resumes to the same result, and a variant's features may be kept. H×W is the crop's size.
"""

import csv
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, UnidentifiedImageError

from dptcli.errors import ImageError, UsageError
from dptcli.evaluation.pairs import Pair, PairTask, read_depth, read_labels, with_scale
from dptcli.evaluation.pairs import read_pairs as read_pair_set
from dptcli.inputs.find import decode_image
from dptcli.processing.config import ProcessorConfig

# Of pixels whose class is unknown, whatever stands for that in their files.
IGNORE_LABEL = -1
MOST_CLASSES = 32_767  # labels are kept in 16 bits with a sign
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_ASPECT_ERROR = 0.03
"""How much wider or narrower than its photograph a target may be before it is refused."""

ASPECT_SHARPNESS = 4.0
"""How much likelier a crop of the photograph's own aspect is: e⁴ times one e times as wide."""
ORIENTATION_TAG = 0x0112

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Example:
    """A photograph with its depth, its labels or both.

    sky: the class id of sky in the labels. absent: the classes that pixels without a label
    certainly are not, such as person where every person is labelled and nothing else. meanings:
    what the label map's ids mean, by id: a class, num_labels + k for any class of the options'
    group k, or IGNORE_LABEL; empty where ids are classes.
    """

    image: Path
    depth: Pair | None
    labels: Pair | None
    sky: int | None = None
    absent: tuple[int, ...] = ()
    meanings: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sample:
    """A training sample.

    pixel_values: float32 (3, H, W), normalised. inverse_depth: float32 (H, W), 0 for sky.
    valid: bool (H, W), where it is known. labels: int64 (H, W), IGNORE_LABEL where unknown.
    """

    pixel_values: NDArray[np.float32]
    inverse_depth: NDArray[np.float32]
    valid: NDArray[np.bool_]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Normalization:
    """pixel_values = (value × factor − mean) ÷ std, for values of 0 to 255."""

    factor: float = 1 / 255
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @classmethod
    def of(cls, config: ProcessorConfig) -> "Normalization":
        """What a processor does to the pixels of a photograph."""
        factor = config.rescale_factor if config.do_rescale else 1.0
        if not config.do_normalize:
            return cls(factor, (0.0,) * 3, (1.0,) * 3)
        mean, std = (
            tuple(np.broadcast_to(value, 3).tolist())
            for value in (config.image_mean, config.image_std)
        )
        return cls(factor, mean, std)


def read_examples(
    path: str | Path, *, task: PairTask, scale: float | None = None
) -> tuple[list[Example], tuple[str, ...]]:
    """The examples of a set of pairs for a task, and its class names; scale: see `with_scale`.

    A pairs.csv of depths may name label maps in a column `labels`: where those say "sky"
    (classes.txt), depth is infinite. Raises UsageError as `pairs.read_pairs` does.
    """
    [pair_set] = with_scale([read_pair_set(path, task=task)], scale)
    if task == "segment":
        return [Example(pair.image, None, pair) for pair in pair_set.pairs], pair_set.classes
    maps = _label_maps(Path(path))
    sky = pair_set.classes.index("sky") if "sky" in pair_set.classes else None
    examples = [
        Example(pair.image, pair, maps.get(pair.image), sky if pair.image in maps else None)
        for pair in pair_set.pairs
    ]
    return examples, pair_set.classes


def _label_maps(path: Path) -> dict[Path, Pair]:
    """{photograph: its label map} of a pairs.csv with a column of them."""
    path = path / "pairs.csv" if path.is_dir() else path
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        return {
            path.parent / row["image"]: Pair(
                image=path.parent / row["image"], target=path.parent / row["labels"], kind="labels"
            )
            for row in csv.DictReader(stream)
            if row.get("labels") and row.get("image")
        }


def targets_of(example: Example) -> dict[str, Image.Image]:
    """Inverse depth (mode F), where it is known and labels (mode I), each of its own size."""
    targets = {}
    sky = None
    if example.labels is not None:
        labels = read_labels(example.labels)
        unknown = (labels == example.labels.rules.ignore_index) | (labels < 0)
        known_ids = labels[~unknown]
        if known_ids.size and known_ids.max() >= MOST_CLASSES:
            raise UsageError(
                f"{example.labels.target} has the class {known_ids.max()}; training takes classes "
                f"up to {MOST_CLASSES - 1}, and ignores {example.labels.rules.ignore_index}"
            )
        if example.meanings:
            table = np.array((*example.meanings, IGNORE_LABEL), np.int32)
            unknown |= labels >= len(example.meanings)
            labels = table[np.where(unknown, len(example.meanings), labels)]
        values = np.where(unknown, IGNORE_LABEL, labels).astype(np.int32)
        targets["labels"] = Image.fromarray(values)
        sky = None if example.sky is None else values == example.sky
    if example.depth is not None:
        depth = read_depth(example.depth)
        known = depth > 0
        inverse = np.divide(1.0, depth, out=np.zeros_like(depth), where=known)
        if sky is not None and sky.shape == known.shape:
            known |= sky
        targets["inverse_depth"] = Image.fromarray(inverse.astype(np.float32))
        targets["valid"] = Image.fromarray(known.astype(np.uint8))
    return targets


def number_of(example: Example) -> int:
    """A number for the example's random state: of its name, so that other examples change nothing.

    A set that grows, or is split otherwise, keeps the samples that it had.
    """
    return zlib.crc32(example.image.name.encode())


def draw_shape(
    example: Example, shapes_hw: Sequence[tuple[int, int]], *, seed: int | None, variant: int
) -> int:
    """The index of a variant's shape, likelier the closer to the photograph's aspect.

    Without a seed it is the closest.
    """
    width, height = _upright_size(example.image)
    apart = [abs(np.log(shape[1] / shape[0] * height / width)) for shape in shapes_hw]
    if seed is None:
        return int(np.argmin(apart))
    weights = np.exp(-ASPECT_SHARPNESS * np.asarray(apart))
    rng = np.random.default_rng([seed, number_of(example), variant, 1])
    return int(rng.choice(len(shapes_hw), p=weights / weights.sum()))


def _upright_size(path: Path) -> tuple[int, int]:
    """A photograph's width and height, from its header where Pillow knows the kind."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION_TAG, 1) >= 5  # by a quarter
    except UnidentifiedImageError:  # one that an extra reads
        height, width, _ = decode_image(path).shape
        return width, height
    return (height, width) if turned else (width, height)


def load_sample(
    example: Example,
    hw: tuple[int, int],
    *,
    seed: int,
    index: int,
    variant: int,
    augment: bool = True,
    zoom: bool = True,
    normalization: Normalization | None = None,
) -> Sample:
    """Variant `variant` of example number `index` at size `hw`; without `augment`, all of it.

    zoom: crops may be smaller than the largest that fits, which metric depth does not bear.
    Raises ImageError for a file that cannot be read or does not fit its photograph.
    """
    rng = np.random.default_rng([seed, index, variant])
    image = Image.fromarray(decode_image(example.image))
    whole = (0.0, 0.0, float(image.width), float(image.height))
    box = _crop(image.size, hw, rng, zoom=zoom) if augment else whole
    arrays = {
        name: _cut(target, box, image.size, hw, example.image)
        for name, target in targets_of(example).items()
    }
    image = image.resize((hw[1], hw[0]), Image.Resampling.BICUBIC, box=box)
    if augment:
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            arrays = {name: array[:, ::-1] for name, array in arrays.items()}
        image = distort(image, rng)
    norm = normalization or Normalization()
    pixels = (np.asarray(image, np.float32) * norm.factor - norm.mean) / norm.std
    return Sample(
        pixel_values=np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32),
        inverse_depth=arrays.get("inverse_depth", np.zeros(hw, np.float32)).copy(),
        valid=np.ascontiguousarray(arrays.get("valid", np.zeros(hw, np.uint8)) > 0),
        labels=arrays.get("labels", np.full(hw, IGNORE_LABEL)).astype(np.int64),
    )


def _cut(
    target: Image.Image, box: Box, size: tuple[int, int], hw: tuple[int, int], name: Path
) -> NDArray[Any]:
    """The box of the photograph (width, height `size`) in its target, resized to `hw`."""
    x, y = target.width / size[0], target.height / size[1]
    if abs(x / y - 1) > MAX_ASPECT_ERROR:
        raise ImageError(
            f"{name} is {size[1]}×{size[0]} and its target {target.height}×{target.width}: "
            "the two do not show the same"
        )
    part = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
    return np.asarray(target.resize((hw[1], hw[0]), Image.Resampling.NEAREST, box=part))


def _crop(
    size: tuple[int, int], hw: tuple[int, int], rng: np.random.Generator, *, zoom: bool
) -> Box:
    """A box of the crop's aspect (within a tenth) with 40 to 100 % of the largest such area."""
    width, height = size
    aspect = hw[1] / hw[0] * float(np.exp(rng.uniform(-0.1, 0.1)))
    full_w, full_h = min(width, height * aspect), min(height, width / aspect)
    part = float(rng.uniform(0.4, 1.0)) ** 0.5 if zoom and rng.random() < 0.7 else 1.0
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


def split(
    examples: Sequence[Example], *, every: int = 20, by_scene: bool = False
) -> tuple[list[Example], list[Example]]:
    """Training and validation examples: every `every`-th is held out; none where `every` is 0.

    by_scene: views of one scene stay together; the scene is the image name's part before `_`, and
    about one in `every` is held out by its name alone, whatever other scenes there are.
    """
    if every <= 0:
        return list(examples), []
    if by_scene:
        scenes = [example.image.stem.split("_")[0] for example in examples]
        is_held = [zlib.crc32(scene.encode()) % every == 0 for scene in scenes]
    else:
        held = set(sorted({str(example.image) for example in examples})[::every])
        is_held = [str(example.image) in held for example in examples]
    together = list(zip(examples, is_held, strict=True))
    return (
        [example for example, apart in together if not apart],
        [example for example, apart in together if apart],
    )
