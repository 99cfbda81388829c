"""What this machine's processor can do: the one place that asks, for all that chooses by it.

DPT_CPU lowers the answer, so that any machine can play a lesser one; it never raises it. PyTorch
and oneDNN choose again inside their kernels: ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA lower that.
"""

import contextlib
import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dptcli.errors import UsageError

VARIABLE = "DPT_CPU"
# Each holds what those before it hold. avx512 is the server's set (with BW, DQ and VL); bfloat16
# is AVX512-BF16 or AMX: products of bfloat16 by instructions of their own.
LEVELS = ("default", "avx2", "avx512", "bfloat16")


@dataclass(frozen=True)
class Processor:
    """What a processor can do.

    level: of LEVELS. wide_sums: products of 8 bits are summed in 32 bits (VNNI, and always on ARM),
    not in 16. intel: who made it, since MKL has its best kernels for Intel's alone.
    """

    level: str
    wide_sums: bool
    intel: bool = False

    def has(self, level: str) -> bool:
        """Whether it can do what a level of LEVELS names."""
        return LEVELS.index(self.level) >= LEVELS.index(level)


def processor() -> Processor:
    """This machine's processor, or what DPT_CPU leaves of it. Raises UsageError."""
    found = detected()
    wanted = os.environ.get(VARIABLE) or found.level
    if wanted not in LEVELS:
        raise UsageError(f"{VARIABLE} {wanted!r} must be {', '.join(LEVELS[:-1])} or {LEVELS[-1]}")
    if wanted == found.level or not found.has(wanted):
        return found
    # VNNI is a part of AVX-512.
    return replace(found, level=wanted, wide_sums=found.wide_sums and wanted in LEVELS[2:])


def detected() -> Processor:
    """This machine's processor, whatever DPT_CPU says."""
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return Processor("default", wide_sums=True)
    level = "default"
    if _has("_is_avx2_supported"):
        level = "avx2"
    if _has("_is_avx512_supported"):
        level = "avx512"
    if _has("_is_avx512_bf16_supported") or _has("_is_amx_tile_supported"):
        level = "bfloat16"
    return Processor(level, wide_sums=_has("_is_vnni_supported"), intel=_is_intel())


def packs_bfloat16() -> bool:
    """Whether oneDNN computes with packed bfloat16 here; below bfloat16 it does so slowly."""
    asked = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return processor().has("avx512") and asked is not None and bool(asked())


def multiplies_by_mkl() -> bool:
    """Whether MKL is here with its packed products, and runs at this processor's full rate."""
    is_here = torch.backends.mkl.is_available() and hasattr(torch.ops.mkl, "_mkl_linear")
    return is_here and processor().has("avx512") and processor().intel


def _is_intel() -> bool:
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open("rb") as stream:
        return b"GenuineIntel" in stream.read(256)
    return "GenuineIntel" in platform.processor()  # on Windows


def _has(name: str) -> bool:
    found = getattr(torch.cpu, name, None)
    return found is not None and bool(found())
