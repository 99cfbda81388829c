"""From the network's maps to the picture's size: crop the padding, resize depth, label pixels.

C classes, (h, w) the prediction's size, (H, W) the size to write; sizes are (height, width).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F

from dptcli.errors import ConfigError, ModelError
from dptcli.processing.bicubic import enlarge
from dptcli.processing.target_size import TargetSize, parse_target_size, target_hw

__all__ = [
    "DEFAULT_MAX_BYTES",
    "TargetSize",
    "crop_padding",
    "label_map",
    "parse_target_size",
    "resize_depth",
    "resize_logits",
    "target_hw",
]

Mode = Literal["bilinear", "bicubic", "corners"]
"""How maps are resized; "corners" is bilinear from corner to corner (align_corners)."""

DEFAULT_MAX_BYTES = 128 * 2**20
"""What label_map takes for one band of resized logits; its peak is a few times this."""

# Up to this height + width torch's CPU kernel for bilinear resizing adds its four products in
# another order. Bands must not fall below it where the whole picture does not.
_SMALL_OUTPUT = 128
_SMALL_BYTES = 2**20
# From so many pixels on, each side at least doubled, our own bicubic kernel is the faster one.
_LARGE_PIXELS = 2**20


def crop_padding(
    prediction: torch.Tensor,
    *,
    padding: tuple[int, int, int, int],
    network_hw: tuple[int, int],
    mode: Mode = "bilinear",
) -> torch.Tensor:
    """The part of `prediction` (…, h, w) that shows the picture and not its padding.

    `padding` (top, bottom, left, right) and `network_hw`, the padded size, are in pixels of the
    network's input. Without padding the prediction comes back as it is. Where the prediction has
    another size than the input, the padding's edge falls between its pixels: input row y lies at
    (y + 0.5) · h / network_h − 0.5 of the prediction (align_corners=False), for instance top = 5 of
    490 at 5.88 of 576. So the prediction is first brought to the input's grid by that formula, with
    `mode` ("bicubic" for depth), and then cut at whole pixels. Cutting first would shift the map by
    up to half a pixel. Gives (…, network_h − top − bottom, network_w − left − right).
    Raises ConfigError for padding that leaves nothing. The reference does not crop at all.
    """
    top, bottom, left, right = padding
    height, width = network_hw[0] - top - bottom, network_hw[1] - left - right
    if min(padding) < 0 or height < 1 or width < 1:
        raise ConfigError(
            f"padding is {padding}; allowed: less than the network's input {network_hw}"
        )
    if not any(padding):
        return prediction
    if tuple(prediction.shape[-2:]) != tuple(network_hw):
        stack = prediction.reshape(1, -1, *prediction.shape[-2:])
        resized = _interpolate(stack, network_hw, mode)
        prediction = resized.reshape(*prediction.shape[:-2], *network_hw)
    return prediction[..., top : top + height, left : left + width]


def resize_depth(
    depth: torch.Tensor,
    target_hw: tuple[int, int],
    *,
    clamp_overshoot: bool = False,
    mode: Mode = "bicubic",
) -> torch.Tensor:
    """Depth (h, w), of any unit, at `target_hw`: float32 (H, W), by `mode`.

    Bicubic overshoots at edges: below 0 beside the far background, above the nearest point. The
    reference leaves that in; `clamp_overshoot` keeps the values within those of `depth`, as a
    picture needs. Where a device has no bicubic (MPS), this step runs on the CPU. Raises
    ConfigError for a size without pixels.
    """
    _check_hw(target_hw)
    depth = depth.float()
    if tuple(depth.shape) == tuple(target_hw):
        return depth
    low, high = torch.aminmax(depth)
    if mode == "bicubic" and _is_much_larger(target_hw, depth):
        limits = (float(low), float(high)) if clamp_overshoot else None
        return enlarge(depth, target_hw, limits=limits)
    resized = _interpolate(depth[None, None], target_hw, mode)[0, 0]
    return resized.clamp_(low, high) if clamp_overshoot else resized


def _is_much_larger(hw: tuple[int, int], depth: torch.Tensor) -> bool:
    height, width = depth.shape
    doubled = hw[0] >= 2 * height and hw[1] >= 2 * width
    on_cpu = depth.device.type == "cpu" and not depth.requires_grad
    if not (doubled and on_cpu and hw[0] * hw[1] >= _LARGE_PIXELS):
        return False
    return _largest(depth) < torch.inf  # 0 × NaN would spoil the rest of a band


def label_map(
    logits: torch.Tensor, target_hw: tuple[int, int], *, max_bytes: int = DEFAULT_MAX_BYTES
) -> torch.Tensor:
    """Labels (H, W) of `logits` (C, h, w): bilinear, align_corners=False, then argmax.

    uint8 for up to 256 classes, else int64; exactly the labels of resizing all classes at once,
    which for 150 classes and 12 megapixels takes 7 GB, in a few times `max_bytes` plus the labels.

    How: the kernel resizes along the width, then along the height. Resizing along the width alone
    gives its very intermediate values, and of those each column resizes on its own; so bands of
    columns are exact, where bands of rows would round their source coordinates differently. In each
    band only the classes take part that can win there: bilinear values stay between their four
    corners, so a class whose highest corner lies below another's lowest can be left out.
    Raises ConfigError for a size without pixels and ModelError for logits without classes.
    """
    _check_hw(target_hw)
    num_classes = logits.shape[0]
    if logits.ndim != 3 or 0 in logits.shape:
        raise ModelError(f"logits have shape {tuple(logits.shape)}; a label map needs (C, h, w)")
    dtype = torch.uint8 if num_classes <= 256 else torch.int64
    if tuple(logits.shape[1:]) == tuple(target_hw):
        return logits.argmax(0).to(dtype)
    logits = logits.contiguous()
    height, width = target_hw
    whole_bytes = num_classes * height * width * logits.element_size()
    if height + width <= _SMALL_OUTPUT or whole_bytes <= _SMALL_BYTES:
        return _interpolate(logits[None], target_hw, "bilinear")[0].argmax(0).to(dtype)
    largest = _largest(logits)
    if not largest < torch.inf:
        # 0 × infinity is NaN, so nothing can be split along the width, nor bounded.
        return _label_classwise(logits, range(num_classes), target_hw, dtype)
    can_win = _winning_columns(logits, largest)
    if logits.dtype not in (torch.float32, torch.float64):
        # Half precision would round once more between width and height.
        candidates = can_win.any(1).nonzero()[:, 0].tolist()
        return _label_classwise(logits, candidates, target_hw, dtype)
    return _label_columns(logits, can_win, target_hw, dtype, max_bytes)


def resize_logits(logits: torch.Tensor, target_hw: tuple[int, int]) -> torch.Tensor:
    """Logits (C, h, w) at `target_hw`, (C, H, W): bilinear, as label_map sees them.

    Raises ConfigError for a size without pixels.
    """
    _check_hw(target_hw)
    if tuple(logits.shape[1:]) == tuple(target_hw):
        return logits
    return _interpolate(logits[None], target_hw, "bilinear")[0]


def _label_columns(
    logits: torch.Tensor,
    can_win: torch.Tensor,
    target_hw: tuple[int, int],
    dtype: torch.dtype,
    max_bytes: int,
) -> torch.Tensor:
    height, width = target_hw
    row_bytes = logits.shape[1] * width * logits.element_size()
    # Classes go together while their rows at full width fit; a next group meets the best so far.
    groups = can_win.any(1).nonzero()[:, 0].split(max(max_bytes // row_bytes, 1))
    labels = torch.zeros(target_hw, dtype=dtype, device=logits.device)
    best: torch.Tensor | None = None
    if len(groups) > 1:
        best = torch.full(target_hw, -torch.inf, dtype=logits.dtype, device=logits.device)
    for group in groups:
        rows = _widen(logits[group], width)
        for columns, source_columns in _bands(
            logits.shape[2], target_hw, max_bytes // (len(group) * height * logits.element_size())
        ):
            here = can_win[group, source_columns].any(1).nonzero()[:, 0]
            if len(here) == 0:
                continue
            band = rows[here, :, columns][None]
            resized = _interpolate(band, (height, band.shape[-1]), "bilinear")[0]
            values, index = resized.max(0)
            chosen = group[here][index].to(dtype)
            if best is not None:
                better = values > best[:, columns]
                best[:, columns] = torch.where(better, values, best[:, columns])
                chosen = torch.where(better, chosen, labels[:, columns])
            labels[:, columns] = chosen
    return labels


def _bands(
    source_width: int, target_hw: tuple[int, int], most_columns: int
) -> Iterator[tuple[slice, slice]]:
    """Bands of target columns, each with the source columns it can draw on (and a few more)."""
    height, width = target_hw
    # 16 to 128 columns stay in the processor's cache; wider is slower.
    step = min(max(most_columns, 16), 128)
    for start in range(0, width, step):
        stop = min(start + step, width)
        # No band may be so narrow that it falls to the kernel for small outputs.
        start = max(min(start, stop - (_SMALL_OUTPUT + 1 - height)), 0)
        stop = min(max(stop, start + _SMALL_OUTPUT + 1 - height), width)
        low = max(int((start + 0.5) * source_width / width - 0.5) - 1, 0)
        high = int((stop + 0.5) * source_width / width + 0.5) + 1
        yield slice(start, stop), slice(low, high)


def _largest(values: torch.Tensor) -> float:
    """The largest magnitude; NaN where one value is. Without a copy: logits may take 0.5 GB."""
    low, high = torch.aminmax(values)
    return float(torch.maximum(-low, high))


def _winning_columns(logits: torch.Tensor, largest: float) -> torch.Tensor:
    """(C, w) bool: whether a class can be highest between this source column and the next.

    largest: the largest magnitude of a logit.
    """
    highest_low: torch.Tensor | None = None
    for plane in logits:
        low = -_cell_max(-plane)
        highest_low = low if highest_low is None else torch.maximum(highest_low, low)
    assert highest_low is not None
    # Rounding may lift a value past its corners by a few units in the last place.
    slack = 32 * torch.finfo(logits.dtype).eps * largest
    floor = highest_low.float() - slack
    # In place: small results kept between large temporary ones would leave holes in memory.
    can_win = torch.empty(logits.shape[0], logits.shape[2], dtype=torch.bool, device=logits.device)
    for row, plane in zip(can_win, logits, strict=True):
        torch.any(_cell_max(plane).float() >= floor, dim=0, out=row)
    return can_win


def _cell_max(plane: torch.Tensor) -> torch.Tensor:
    """(h, w): the highest of each pixel and its right, lower and lower right neighbours."""
    pairs = torch.maximum(plane, torch.cat([plane[:, 1:], plane[:, -1:]], dim=1))
    return torch.maximum(pairs, torch.cat([pairs[1:], pairs[-1:]], dim=0))


def _widen(logits: torch.Tensor, width: int) -> torch.Tensor:
    """(C, h, w) -> (C, h, W): the kernel's own first step, as its second finds identical rows."""
    rows = logits.shape[1]
    spare = max(_SMALL_OUTPUT + 1 - width - rows, 0)
    padded = F.pad(logits, (0, 0, 0, spare))
    return _interpolate(padded[None], (rows + spare, width), "bilinear")[0, :, :rows]


def _label_classwise(
    logits: torch.Tensor, classes: Sequence[int], target_hw: tuple[int, int], dtype: torch.dtype
) -> torch.Tensor:
    first, *others = classes
    best = _interpolate(logits[None, first : first + 1], target_hw, "bilinear")[0, 0]
    labels = torch.full(target_hw, first, dtype=dtype, device=logits.device)
    for number in others:
        plane = _interpolate(logits[None, number : number + 1], target_hw, "bilinear")[0, 0]
        # argmax takes the first NaN for the highest value.
        better = (plane > best) | (plane.isnan() & ~best.isnan())
        labels.masked_fill_(better, number)
        best = torch.where(better, plane, best)
    return labels


def _interpolate(maps: torch.Tensor, hw: tuple[int, int], mode: Mode) -> torch.Tensor:
    corners = mode == "corners"
    how: dict[str, Any] = {"mode": "bilinear" if corners else mode, "align_corners": corners}
    try:
        return F.interpolate(maps, size=tuple(hw), **how)
    except NotImplementedError:
        on_cpu = F.interpolate(maps.cpu(), size=tuple(hw), **how)
        return on_cpu.to(maps.device)


def _check_hw(hw: tuple[int, int]) -> None:
    if len(hw) != 2 or min(hw) < 1:
        raise ConfigError(
            f"the target size is {tuple(hw)}; allowed: (height, width), each 1 or more"
        )
