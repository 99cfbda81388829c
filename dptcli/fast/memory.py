"""How this process holds memory: freed blocks are kept, clean pages of model files are let go.

Both are for Linux with glibc and do nothing elsewhere.
"""

import contextlib
import ctypes
import logging
import mmap
import sys
from functools import cache
from pathlib import Path

from torch import Tensor

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_KEPT_BYTES = 1 << 30
_RESERVED_BYTES = 32 << 20
_reserve: list[mmap.mmap] = []
_MADV_DONTNEED = 4  # sys/mman.h


@cache
def keep_freed_blocks() -> bool:
    """Let malloc keep blocks of up to 1 GiB for the next image, instead of giving them back.

    Every map of a network is such a block. Given back and taken anew, it costs a page fault for
    each 4 KiB: 28 instead of 7 ms for a bilinear ×2 to 128×384×384. Returns whether it took.
    """
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is None:
        return False
    taken = all(mallopt(name, _KEPT_BYTES) for name in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
    logger.debug("freed blocks are kept: %s", taken)
    return taken


def settle_memory() -> None:
    """After loading: its freed blocks go back to the system, and from now on freed ones stay."""
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(0)
    keep_freed_blocks()


def hold_reserve() -> None:
    """Hold 32 MiB of addresses, of no memory, for what must be mapped once memory has ended."""
    if _libc() is not None and not _reserve:
        with contextlib.suppress(OSError):
            _reserve.append(mmap.mmap(-1, _RESERVED_BYTES))


def release_reserve() -> None:
    """Let go of them: a thread's stack and oneDNN's code are mapped and don't come from malloc."""
    while _reserve:
        _reserve.pop().close()


def share_heap() -> None:
    """Let new threads take memory from the heap there is: one of their own is 64 MiB to begin with.

    For a process that is short of it; many threads would wait for each other.
    """
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def let_go(weight: Tensor) -> None:
    """Drop a weight's pages from memory where they are clean pages of a mapped file.

    The kernel reads them again when they are needed. Packed weights would otherwise stand in
    memory twice. A page that was written to, or that no file holds, stays.
    """
    libc = _libc()
    if libc is None:
        return
    start = weight.data_ptr()
    last_element = sum(
        (n - 1) * step for n, step in zip(weight.shape, weight.stride(), strict=True)
    )
    end = start + (last_element + 1) * weight.element_size()
    first, last = -(-start // mmap.PAGESIZE), end // mmap.PAGESIZE  # whole pages alone
    is_clean = any(low <= start and end <= high for low, high in clean_file_ranges())
    if is_clean and last > first:
        address = ctypes.c_void_p(first * mmap.PAGESIZE)
        libc.madvise(address, ctypes.c_size_t((last - first) * mmap.PAGESIZE), _MADV_DONTNEED)


@cache
def clean_file_ranges() -> tuple[tuple[int, int], ...]:
    """Address ranges of this process that map a file and were never written to.

    By whatever name: the hub's cache calls its files by their hashes. Looked up once, when a
    model's files are open: `clean_file_ranges.cache_clear()` when other files are.
    """
    try:
        lines = Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    ranges, current = [], (0, 0)
    for line in lines:
        words = line.split(maxsplit=5)
        if not words[0].endswith(":"):
            low, high = (int(number, 16) for number in words[0].split("-"))
            current = (low, high) if words[4] != "0" else (0, 0)  # its inode
        # A page that was written to is no longer the file's. (One that is not on the disk yet, of
        # a file just downloaded, is dirty too, and still the file's.)
        elif words[0] == "Anonymous:" and words[1] == "0" and current != (0, 0):
            ranges.append(current)
    return tuple(ranges)


@cache
def _libc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None, use_errno=True)
    except OSError:
        return None
