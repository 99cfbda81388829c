"""How much arithmetic a network is, and how fast this machine does the simplest of it."""

import logging
import time
from statistics import median
from typing import Any

import torch

logger = logging.getLogger(__name__)

MATRIX_SIDES = {"cuda": 8192}  # a product that fills the device for a while
MATRIX_SIDE = 2048  # of the others


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a large matrix product."""
    side = MATRIX_SIDES.get(device.type, MATRIX_SIDE)
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    spent = []
    with torch.inference_mode():
        for _ in range(6):
            started = time.perf_counter()
            product = matrix @ matrix
            float(product[0, 0])  # waits for a GPU
            spent.append(time.perf_counter() - started)
    return 2 * side**3 / median(spent[1:]) / 1e9


def without_weights(config: Any, model_class: Any) -> Any:
    """A plain model on the `meta` device."""
    with torch.device("meta"):
        return model_class(config).eval()


def count_gflop(
    model: Any, hw: tuple[int, int], *, prompt_hw: tuple[int, int] | None = None
) -> float | None:
    """Multiplications and additions of a plain model on `meta` for one image, in 10⁹.

    None where its way depends on values, which nothing has here: a part would pass for the whole.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        pixels = torch.empty(1, 3, *hw)
        beside = {} if prompt_hw is None else {"prompt_depth": torch.empty(1, 1, *prompt_hw)}
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(pixels, **beside)
    except RuntimeError as error:
        if not getattr(model, "ends_by_values", False):
            logger.debug("the arithmetic of one image cannot be counted", exc_info=error)
            return None
    return counter.get_total_flops() / 1e9 or None
