"""How many images go through the network at once, gathering them, and memory that ends.

How to go on where it ends is `dptcli.running.network`'s business.
"""

import contextlib
import gc
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

import torch

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

BatchSize = int | Literal["auto"]

# A CPU gains nothing from batches: 553 ms an image at 1, 567 at 2, 552 at 4 (dpt-small, two cores).
_ON_CPU = 1
_MOST = 32  # an H100 gains 2 % from 64, and the images wait in memory
_SHARE = 0.8  # of the free memory: allocators need room between their blocks
# What the CPU's and MPS's allocators, oneDNN and Python without room for a thread's stack say; CUDA
# has a class for it. oneDNN creates and executes a primitive once it has accepted its description,
# and then only memory can be missing.
_SIGNS = re.compile(
    r"can't allocate memory|cannot allocate memory|not enough memory|out of memory|bad_alloc|"
    r"could not create a memory object|could not (?:create|execute) a primitive(?! descriptor)|"
    r"can't start new thread",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ended, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _SIGNS.search(str(error)) is not None


def spoils_thread(error: BaseException) -> bool:
    """Whether a thread is of no more use: oneDNN could not make its code, or it never started.

    Xbyak, the generator of that code, keeps its first error for each thread, and oneDNN never
    clears it. A pool whose thread did not start keeps the work that it was given.
    """
    return any(sign in str(error) for sign in ("could not create a primitive", "start new thread"))


def free_memory() -> None:
    """Give back what failed attempts left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class BatchSizes:
    """How many images of a shape go through the network at once: the wish, and what was learned.

    wanted "auto": one at a time on a CPU; on a CUDA device as many as its free memory holds, 32 at
    most, by the peak that the first image left.
    """

    def __init__(self, wanted: BatchSize, device: torch.device) -> None:
        self.wanted = wanted
        self.device = device
        self._most: dict[tuple[int, ...], int] = {}  # (C, H, W) -> images at once

    def of(self, shape: tuple[int, ...]) -> int:
        """The images (C, H, W) to gather for one batch."""
        if self.wanted == "auto":
            first = 1 if self.device.type == "cuda" else _ON_CPU
            return self._most.get(shape, first)
        return min(self.wanted, self._most.get(shape, self.wanted))

    @property
    def largest(self) -> int:
        """The largest batch that any shape has at the moment; for how far to read ahead."""
        if self.wanted == "auto":
            return max(self._most.values(), default=1)
        return self.wanted

    def failed(self, shape: tuple[int, ...], count: int) -> None:
        """Memory ended at `count` images of a shape: from now on at most half of them."""
        self._most[shape] = max(1, min(count // 2, self._most.get(shape, count)))

    @contextlib.contextmanager
    def watching(self, shape: tuple[int, ...], count: int) -> Iterator[None]:
        """Learn, where it is wanted, from what a batch takes of a CUDA device's memory."""
        if self.wanted != "auto" or self.device.type != "cuda" or shape in self._most:
            yield
            return
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        yield
        peak = torch.cuda.max_memory_allocated(self.device) - before
        unused = torch.cuda.memory_reserved(self.device) - before
        self._most[shape] = fitting(
            bytes_each=peak // count, bytes_free=torch.cuda.mem_get_info(self.device)[0] + unused
        )
        logger.info("batch size for %s: %d", "×".join(map(str, shape[1:])), self._most[shape])


def fitting(*, bytes_each: int, bytes_free: int) -> int:
    """How many images of so many bytes go into free memory at once, at least 1."""
    return max(1, min(int(_SHARE * bytes_free) // max(1, bytes_each), _MOST))


def gather(
    items: Iterable[Item],
    shape_of: Callable[[Item], tuple[int, ...] | None],
    sizes: BatchSizes,
    *,
    in_order: bool,
) -> Iterator[list[Item]]:
    """Gather items of one shape into batches; what has no shape passes straight through.

    in_order: a batch goes before a picture of another shape comes.
    """
    buckets: dict[tuple[int, ...], list[Item]] = defaultdict(list)
    num_waiting = 0
    for item in items:
        shape = shape_of(item)
        if shape is None:
            yield [item]
            continue
        if in_order and buckets and shape not in buckets:
            yield from buckets.values()
            buckets.clear()
            num_waiting = 0
        buckets[shape].append(item)
        num_waiting += 1
        if len(buckets[shape]) < sizes.of(shape):
            if num_waiting < 4 * sizes.largest:
                continue
            # Many shapes: the fullest bucket goes as it is, so that memory stays bounded.
            shape = max(buckets, key=lambda key: len(buckets[key]))
        batch = buckets.pop(shape)
        num_waiting -= len(batch)
        yield batch
    yield from buckets.values()
