"""What the network sees of an image: its pixels, and what a prompted model is told beside them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dptcli.depth.depthmap import HasLimits
from dptcli.depth.lens import Lens
from dptcli.depth.prompts import Prompt
from dptcli.inputs.reading import NOTHING_NOTICED, About
from dptcli.panorama.cutting import Sphere
from dptcli.panorama.geometry import Extent
from dptcli.processing.processor import Prepared

Pixels = Tensor | NDArray[np.float32]

Box = tuple[float, float, float, float]
"""(top, left, height, width), as shares of the whole."""


@dataclass(frozen=True)
class Sample:
    """A decoded image: rgb uint8 (H, W, 3), if kept, and what the network sees of it.

    tile_hw: with it `prepared` is a canvas to cut tiles from, and overview is the whole, smaller.
    prompt: what the model is told beside the photograph. about: what was noticed about its file.
    lens: the photograph's camera, where the network's metres need it. sphere: of a panorama, which
    the network sees cut into views; then `prepared` and `overview` are those of the first one.
    """

    prepared: Prepared
    rgb: NDArray[np.uint8] | None
    tile_hw: tuple[int, int] | None = None
    overview: Prepared | None = None
    prompt: Prompt | None = None
    about: About = NOTHING_NOTICED
    lens: Lens | None = None
    sphere: Sphere | None = None

    @property
    def prompt_m(self) -> NDArray[np.float32] | None:
        """The prompt's depths (h, w) in metres."""
        return None if self.prompt is None else self.prompt.depth_m

    @property
    def view(self) -> "Seen":
        """What the network sees of it."""
        return view_of(self.prepared, self.prompt_m)

    def mirrored(self) -> "Sample":
        """The same of the photograph with left and right exchanged."""
        prompt = self.prompt
        if prompt is not None:
            prompt = replace(prompt, depth_m=np.ascontiguousarray(prompt.depth_m[:, ::-1]))
        return replace(
            self,
            prepared=_mirrored(self.prepared),
            overview=None if self.overview is None else _mirrored(self.overview),
            prompt=prompt,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """What samples of one batch have in common: (3, H, W), and the size of the prompt."""
        prepared = self.prepared
        if self.sphere is not None:
            return (len(self.sphere.views), *prepared.pixel_values.shape)
        if self.prompt is None:
            return prepared.pixel_values.shape
        padding = prepared.padding if any(prepared.padding) else ()
        return (*prepared.pixel_values.shape, *self.prompt.depth_m.shape, *padding)


def _mirrored(prepared: Prepared) -> Prepared:
    top, bottom, left, right = prepared.padding
    return replace(
        prepared,
        pixel_values=np.ascontiguousarray(prepared.pixel_values[..., ::-1]),
        padding=(top, bottom, right, left),
    )


@dataclass(frozen=True)
class Prediction(HasLimits):
    """The result for one image.

    values: depth float32 (H, W) of the model's kind; or labels, class ids
    (H, W). rgb: the photograph uint8 (H', W', 3), if kept. source_hw: the photograph's size;
    network_hw: what the network saw. limits: the network's smallest and largest depth, which the
    bicubic resize to (H, W) may overshoot, or those of a whole clip: the range to draw in; then
    own_limits are the frame's.
    scores: class probabilities float16 (C, h, w) at the network's scale, if kept. labels: class
    ids (H, W) beside depth, where both were predicted. sky: bool (H, W), where the network knows.
    confidence: float32 (h, w) at the network's scale, large is sure, where it was wanted. normals:
    float32 (3, h, w) of length 1, likewise, of a network that knows them. lens: the photograph's
    camera, where it is given or the network estimates it or its metres rest on it; extrinsics:
    world to camera, (3, 4), float64 where it was given. extent: what a panorama shows of the
    sphere; its values are along the rays. facts: what else to say about the image.
    """

    values: NDArray[Any]
    rgb: NDArray[np.uint8] | None = None
    source_hw: tuple[int, int] = (0, 0)
    network_hw: tuple[int, int] = (0, 0)
    limits: tuple[float, float] = (0.0, 0.0)
    own_limits: tuple[float, float] | None = None
    scores: NDArray[np.float16] | None = None
    labels: NDArray[np.integer] | None = None
    sky: NDArray[np.bool_] | None = None
    confidence: NDArray[np.float32] | None = None
    normals: NDArray[np.float32] | None = None
    lens: Lens | None = None
    extrinsics: NDArray[np.floating] | None = None
    extent: Extent | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    about: About = NOTHING_NOTICED


@dataclass(frozen=True, eq=False)
class Seen:
    """pixels: float32 (3, H, W). prompt: known depths of the same view (1, h, w), where there are.

    camera: of a scene's view whose camera is known, `extrinsics` (3, 4), world to camera, and
    `intrinsics` (3, 3), in pixels of the view. All on the CPU.
    """

    pixels: Tensor
    prompt: Tensor | None = None
    camera: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """(3, H, W), with a prompt (3, H, W, h, w): images of one shape may share a batch."""
        prompt = () if self.prompt is None else tuple(self.prompt.shape[1:])
        return (*self.pixels.shape, *prompt)

    def __getitem__(self, place: tuple[slice, slice, slice]) -> "Seen":
        """A tile, by its channels, rows and columns, as of a tensor."""
        pixels = self.pixels[place]
        if self.prompt is None:
            return Seen(pixels)
        (height, width), (rows, columns) = hw_of(self), self.prompt.shape[1:]
        top, left = place[1].start / height, place[2].start / width
        box = (top, left, pixels.shape[1] / height, pixels.shape[2] / width)
        # As many pixels as the prompt has of it: a tile's prompt is as coarse as the whole's.
        prompt_hw = (max(1, round(box[2] * rows)), max(1, round(box[3] * columns)))
        return Seen(pixels, part_of(self.prompt, box, prompt_hw))


View = TypeVar("View", Tensor, Seen)


def seen_of(image: Pixels | Seen) -> Seen:
    """The pixels (3, H, W) of an image, or more, in this form."""
    return image if isinstance(image, Seen) else Seen(torch.as_tensor(image))


def view_of(prepared: Prepared, prompt: NDArray[np.float32] | None) -> Seen:
    """A prepared picture, and known depths (h, w) of the whole photograph laid under it."""
    pixels = torch.as_tensor(prepared.pixel_values)
    if prompt is None:
        return Seen(pixels)
    depth = torch.from_numpy(np.ascontiguousarray(prompt))[None]
    if any(prepared.padding):
        top, _, left, _ = prepared.padding
        height, width = prepared.source_hw if prepared.pads_source else prepared.resized_hw
        rows, columns = prepared.padded_hw[0] / height, prepared.padded_hw[1] / width
        hw = (round(rows * depth.shape[1]), round(columns * depth.shape[2]))
        depth = part_of(depth, (-top / height, -left / width, rows, columns), hw)
    return Seen(pixels, depth)


def hw_of(view: Tensor | Seen) -> tuple[int, int]:
    """(height, width) of the pixels."""
    pixels = view.pixels if isinstance(view, Seen) else view
    return pixels.shape[-2], pixels.shape[-1]


def cut(view: View, top: int, left: int, hw: tuple[int, int]) -> View:
    """A tile of a view, at whole pixels of it."""
    rows, columns = slice(top, top + hw[0]), slice(left, left + hw[1])
    return view[:, rows, columns]


def part_of(maps: Tensor, box: Box, hw: tuple[int, int]) -> Tensor:
    """What a box shows of maps (K, h, w), at hw; beyond an edge is the edge."""
    ends = [
        (2 * start - 1, 2 * (start + side) - 1)
        for start, side in ((box[0], box[2]), (box[1], box[3]))
    ]
    rows, columns = (
        low + (high - low) * (torch.arange(size) + 0.5) / size
        for (low, high), size in zip(ends, hw, strict=True)
    )
    grid = torch.stack(torch.broadcast_tensors(columns[None], rows[:, None]), dim=-1)
    return F.grid_sample(
        maps[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]
