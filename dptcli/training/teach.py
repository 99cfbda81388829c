"""Depth for photographs that have none, to learn from: `python -m dptcli.training.teach`.

    python -m dptcli.training.teach TRAIN/segment -o TAUGHT --model MODELS/dpt-small-depth

The target is what the model sees, as a mean over sizes (--sizes, --mirror), its edges moved
to the borders of its labels and to the photograph's; a student that sees the same under other light
and in other crops learns from it (as in Depth Anything, Yang et al. 2024). What stands there
already stays.
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import max_pool2d

from dptcli.depth.guided import refine_edges
from dptcli.errors import DptError, UsageError
from dptcli.evaluation.pairs import Pair, read_labels, read_pairs
from dptcli.inputs.find import decode_image
from dptcli.pipeline import Pipeline, open_pipeline
from dptcli.processing.rings import grow
from dptcli.results.files import atomic_path, write_text
from dptcli.training.losses import align

FULL = 65535
BLUR = 1 / 60
"""How far an edge of the network is spread to either side, as a share of the short side."""
ENOUGH_SKY = 0.01
"""The share of a photograph that sky must have before it says where infinity is."""


def seen_depth(
    rgb: NDArray[np.uint8], views: Sequence[Pipeline], *, mirror: bool
) -> NDArray[np.float32]:
    """The mean inverse depth (H, W) over the pipelines; with `mirror` over the mirrored too."""
    found = [view.predict_one(rgb).values for view in views]
    if mirror:
        flipped = np.ascontiguousarray(rgb[:, ::-1])
        found += [view.predict_one(flipped).values[:, ::-1] for view in views]
    first = torch.from_numpy(np.ascontiguousarray(found[0], np.float32))[None]
    valid = torch.ones_like(first, dtype=torch.bool)
    aligned = [
        align(torch.from_numpy(np.ascontiguousarray(other, np.float32))[None], first, valid)
        for other in found
    ]
    return torch.stack(aligned).mean(dim=0)[0].numpy()


def from_infinity(inverse: NDArray[np.float32], is_sky: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Inverse depth counted from the sky's, where enough of it is seen; 0 there, never below."""
    if is_sky.mean() > ENOUGH_SKY:
        inverse = inverse - np.median(inverse[is_sky])
    return np.where(is_sky, 0, inverse).clip(min=0)


def move_to_borders(
    inverse: NDArray[np.float32], labels: NDArray[np.integer], *, reach: int
) -> NDArray[np.float32]:
    """Inverse depth (H, W) whose jumps lie on the borders of the labels (H, W).

    Within `reach` pixels of a border the network's blur mixes both sides. There each side is
    continued from its own inside, ring by ring; where a strip is so thin that it has no inside, it
    stays as it is.
    """
    values = torch.from_numpy(inverse)
    moved = values.clone()
    for label in np.unique(labels):
        region = torch.from_numpy(labels == label)
        beyond = (~region).float()[None, None]
        inside = max_pool2d(beyond, 2 * reach + 1, stride=1, padding=reach)[0, 0] == 0
        # Corners take longer than `reach` rings.
        grown, known = grow(values, inside, 2 * reach, within=region)
        moved = torch.where(known, grown, moved)
    return moved.numpy()


def teach_set(folder: Path, out: Path, *, views: Sequence[Pipeline], mirror: bool) -> int:
    """Write the targets of one set of labelled photographs and their pairs.csv; their number."""
    pair_set = read_pairs(folder, task="segment")
    sky = pair_set.classes.index("sky") if "sky" in pair_set.classes else None
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", "target", "kind", "scale", "labels"])
    for pair in pair_set.pairs:
        target = out / f"{pair.image.stem}.png"
        if not target.is_file():
            _write(_teach(pair, sky, views, mirror=mirror), target)
        writer.writerow(
            [
                pair.image.resolve(),
                target.name,
                "inverse_depth",
                FULL,
                pair.target.resolve(),
            ]
        )
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in pair_set.classes))
    write_text(out / "pairs.csv", stream.getvalue())
    return len(pair_set.pairs)


def _teach(
    pair: Pair, sky: int | None, views: Sequence[Pipeline], *, mirror: bool
) -> NDArray[np.float32]:
    rgb = decode_image(pair.image)
    labels = read_labels(pair)
    if labels.shape != rgb.shape[:2]:
        raise UsageError(f"{pair.target} is {labels.shape} and its photograph {rgb.shape[:2]}")
    is_sky = labels == sky if sky is not None else np.zeros(labels.shape, bool)
    seen = seen_depth(rgb, views, mirror=mirror)
    # Labels say which side a pixel is on, the photograph where exactly the border runs: people
    # drew them with a few corners.
    moved = move_to_borders(seen, labels, reach=round(min(labels.shape) * BLUR))
    network_hw = views[-1].loaded.processor.network_hw((rgb.shape[0], rgb.shape[1]))
    return from_infinity(
        refine_edges(moved, rgb, kind="inverse_depth", network_hw=network_hw), is_sky
    )


def _write(inverse: NDArray[np.float32], path: Path) -> None:
    """Write relative inverse depth as 16-bit PNG, its largest value FULL."""
    levels = np.rint(inverse * (FULL / max(float(inverse.max()), 1e-9)))
    with atomic_path(path) as temporary:
        Image.fromarray(levels.astype(np.uint16)).save(temporary, "PNG")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m dptcli.training.teach",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sets", type=Path, help="a folder of sets of labelled photographs")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder a set")
    parser.add_argument("--model", default="dpt-small", help="a name or a folder")
    parser.add_argument("--sizes", type=int, nargs="+", default=[308], help="short sides")
    parser.add_argument("--mirror", action="store_true", help="see the mirrored photograph too")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        views = [
            open_pipeline(options.model, task="depth", dtype="float32", size=size)
            for size in options.sizes
        ]
        for table in sorted(options.sets.rglob("pairs.csv")):
            folder = table.parent
            count = teach_set(
                folder, options.output / folder.name, views=views, mirror=options.mirror
            )
            print(f"{options.output / folder.name}: {count} photographs", flush=True)
    except DptError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
