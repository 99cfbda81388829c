"""Whether the views of one scene fit into memory together, before the attempt takes the machine.

A system that promises more memory than it has ends the process instead of refusing; so the need is
estimated. Blocks hold a few times their tokens, the taps stay until the end, and maps are made of
few views at once.
"""

import torch

from dptcli.errors import TooLargeError, UsageError
from dptcli.running.machine import available_bytes
from dptcli.weights.load import LoadedModel

# Widths of a token that are held at once: taps, the state, attention and the MLP's hidden layer.
_WIDTHS = 24
# Numbers of a pixel: the input twice, and what comes out of it.
_PER_PIXEL = 10
# Maps as wide as the fused ones that are held at once, at the input's size.
_MAPS = 2
_GIB = 2**30


def check_room(loaded: LoadedModel, num_views: int, hw: tuple[int, int]) -> None:
    """Raise TooLargeError, with how many views would fit, where the machine lacks the memory."""
    free = _free_bytes(loaded.device)
    each, maps = bytes_of_view(loaded, hw), bytes_of_maps(loaded, hw)
    if free is None or num_views * each + maps <= free:
        return
    raise TooLargeError(
        f"{num_views} photographs at {hw[0]}×{hw[1]}, which the network sees together, need about "
        f"{(num_views * each + maps) / _GIB:.1f} GiB and {free / _GIB:.1f} are free: "
        f"{max(0, free - maps) // each} fit; take fewer, or a smaller --size or model"
    )


def check_size(size: int | tuple[int, int]) -> None:
    """Raise UsageError where a picture of that size would fill the memory that is free.

    Before the network sees it: its resized bytes and float32 beside them, no more than that.
    """
    height, width = (size, size) if isinstance(size, int) else size
    need, free = height * width * 3 * (1 + 4), available_bytes()
    if free is not None and need > free:
        raise UsageError(
            f"--size {size if isinstance(size, int) else f'{height}x{width}'}: a picture of that "
            f"size alone takes {need / _GIB:.1f} GiB, and {free / _GIB:.1f} are free; take a "
            "smaller one (--tile sees finer with less)"
        )


def bytes_of_view(loaded: LoadedModel, hw: tuple[int, int]) -> int:
    """What one more view (H, W) of a scene takes, about."""
    backbone = loaded.model.config.backbone_config
    tokens = (hw[0] // backbone.patch_size) * (hw[1] // backbone.patch_size) + 1
    item = torch.finfo(loaded.dtype).bits // 8
    return int(tokens * backbone.hidden_size * _WIDTHS * item + hw[0] * hw[1] * _PER_PIXEL * 4)


def bytes_of_maps(loaded: LoadedModel, hw: tuple[int, int]) -> int:
    """What the maps of the views take that are made together, about, however many there are."""
    at_once = getattr(loaded.model, "views_at_once", 1)
    width = loaded.model.config.fusion_hidden_size
    return int(at_once * hw[0] * hw[1] * _MAPS * width * 4)


def _free_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes() if device.type == "cpu" else None
