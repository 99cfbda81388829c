"""What is taught of a photograph: depth and classes as they are seen at other sizes.

Depth is seen best at small sizes, where the network overlooks a photograph as in its training, and
classes at large ones, where people and things are as large as in its crops.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dptcli.errors import UsageError
from dptcli.pipeline import Pipeline, Task, open_pipeline
from dptcli.results.files import atomic_path
from dptcli.training.builtin_model import FOLDERS
from dptcli.training.losses import align
from dptcli.training.teach import seen_depth

WINDOW = 1 / 6
"""The side of a window of the guided filter, as a share of the short side."""
_REGULAR = 1e-4  # of the guide's variance: a window of less has no edges to keep
_MOST_SLOPE = 3.0


def merge_sizes(
    fine: NDArray[np.float32], whole: NDArray[np.float32], *, network_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Inverse depth (H, W) with the whole of one map and the edges of another, never below 0.

    In every window the whole, aligned to the finer map, is a linear function of that (a guided
    filter, He et al. 2010). network_hw: what the network saw for `fine`; the grid of the fit.
    """
    guide = torch.from_numpy(np.ascontiguousarray(fine, np.float32))[None]
    below = torch.from_numpy(np.ascontiguousarray(whole, np.float32))[None]
    below = align(below, guide, torch.ones_like(guide, dtype=torch.bool))
    grid = min(guide.shape[1], network_hw[0]), min(guide.shape[2], network_hw[1])
    g, w = (F.interpolate(m[None], size=grid, mode="area").double() for m in (guide, below))
    radius = max(1, round(min(grid) * WINDOW / 2))

    def mean(x: Tensor) -> Tensor:
        side = 2 * radius + 1
        padded = F.pad(x, (radius,) * 4, mode="replicate")
        return F.avg_pool2d(F.avg_pool2d(padded, (side, 1), stride=1), (1, side), stride=1)

    mean_g, mean_w = mean(g), mean(w)
    variance = mean(g * g) - mean_g.square() + _REGULAR * g.var()
    slope = ((mean(g * w) - mean_g * mean_w) / variance).clamp(0, _MOST_SLOPE)
    offset = mean_w - slope * mean_g
    slope, offset = (
        F.interpolate(mean(x).float(), size=guide.shape[1:], mode="bilinear", align_corners=False)
        for x in (slope, offset)
    )
    merged: NDArray[np.float32] = (slope[0, 0] * guide[0] + offset[0, 0]).clamp(min=0).numpy()
    return merged


@dataclass(frozen=True)
class Teachers:
    """Pipelines: of depth at the pupil's own size and at others, and of classes at others."""

    fine: Pipeline
    coarse: tuple[Pipeline, ...]
    classes: tuple[Pipeline, ...]

    def depth(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Inverse depth (H, W): the whole as the others see it, the mirrored picture too."""
        return merge_sizes(
            self.fine.predict_one(rgb).values,
            seen_depth(rgb, self.coarse, mirror=True),
            network_hw=self.network_hw(rgb),
        )

    def probabilities(self, rgb: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Of each class (C, h, w), h and w half of what the pupil sees; means as for depth."""
        height, width = self.network_hw(rgb)
        mirrored = np.ascontiguousarray(rgb[:, ::-1])
        seen = [
            part
            for view in self.classes
            for part in (
                _probabilities(view, rgb, (height, width)),
                _probabilities(view, mirrored, (height, width)).flip(-1),
            )
        ]
        mean = F.avg_pool2d(torch.stack(seen).mean(dim=0), 2)
        found: NDArray[np.float16] = mean.half().numpy()
        return found

    def network_hw(self, rgb: NDArray[np.uint8]) -> tuple[int, int]:
        """Height and width of what the pupil sees of a photograph."""
        return self.fine.loaded.processor.network_hw((rgb.shape[0], rgb.shape[1]))


def open_teachers(
    folders: Sequence[Path],
    *,
    size: int,
    sizes: Sequence[int],
    class_sizes: Sequence[int],
    dtype: str,
) -> Teachers:
    """Open built-in models that teach. The last one alone tells edges and classes.

    size: the pupil's short side. sizes, class_sizes: the short sides at which every model's depth,
    and the last one's classes, are seen. Raises ModelError.
    """

    depth = [_open(folder, "depth", dtype) for folder in folders]
    segment = _open(folders[-1], "segment", dtype)
    return Teachers(
        fine=_at(depth[-1], size),
        coarse=tuple(_at(view, other) for view in depth for other in sizes),
        classes=tuple(_at(segment, other) for other in class_sizes),
    )


def _open(folder: Path, task: Task, dtype: str) -> Pipeline:
    return open_pipeline(folder / FOLDERS[task], task=task, dtype=dtype)


def _at(view: Pipeline, size: int) -> Pipeline:
    return view.with_options(view.options, size=size)


def claim(folder: Path, about: Mapping[str, str]) -> None:
    """Note in a folder of targets what they are made of; more of the same may follow.

    Raises UsageError where they are made of something else.
    """
    path = folder / "about.json"
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in {**before, **about} if before.get(name) != about.get(name)]
        if changed:
            raise UsageError(
                f"{folder} holds what was taught with another {', another '.join(changed)}; go on "
                "with the same, remove that folder, or name another one"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def classes_path(depth: Path) -> Path:
    """Where the taught classes lie of a photograph whose taught depth is the file `depth`."""
    return depth.with_suffix(".classes.npy")


def write_targets(path: Path, rgb: NDArray[np.uint8], teachers: Teachers) -> None:
    """Write what is taught of a photograph, where it is not there: NPY files of both tasks."""
    if not classes_path(path).exists():
        _write(classes_path(path), teachers.probabilities(rgb))
    if not path.exists():
        _write(path, teachers.depth(rgb))


def _write(path: Path, values: NDArray[np.floating]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, values)


def _probabilities(view: Pipeline, rgb: NDArray[np.uint8], hw: tuple[int, int]) -> Tensor:
    logits = view.predict([view.prepare(rgb)])[0].maps.float()
    logits = F.interpolate(logits[None], size=hw, mode="bilinear", align_corners=False)[0]
    return logits.softmax(dim=0)
