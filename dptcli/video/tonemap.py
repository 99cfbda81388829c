"""High dynamic range (PQ, HLG) as the standard range that photographs and models are made for.

The rule: light relative to HDR's reference white of 203 cd/m² (ITU-R BT.2408) stays as it is up to
three quarters of that white; above, a curve brings 1000 cd/m² to full white, so that reference
white becomes 94 % of the largest value. The curve follows the largest of R, G and B, and all three
are scaled alike, which keeps the hue. BT.2020's primaries become BT.709's, and the result carries
the curve of sRGB.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

REFERENCE_WHITE = 203.0  # cd/m²
PEAK = 1000.0  # cd/m², what HDR is mastered for; brighter light is white too
_KNEE = 0.75

# Light of BT.2020's primaries as light of BT.709's (ITU-R BT.2087).
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)


def tone_map(codes: NDArray[np.uint16], *, transfer: str, is_wide: bool) -> NDArray[np.uint8]:
    """Full-range codes R'G'B' uint16 (H, W, 3) of "pq" or "hlg" -> sRGB uint8 (H, W, 3).

    is_wide: whether the primaries are BT.2020's.
    """
    light = _light_of_codes(transfer)[codes]
    if transfer == "hlg":
        # The display's part (BT.2100's OOTF for 1000 cd/m²): brightness to the power of 1.2.
        brightness = np.maximum(light @ _BT2020_LUMA, np.float32(1e-6))
        light *= (np.float32(PEAK / REFERENCE_WHITE) * brightness ** np.float32(0.2))[..., None]
    if is_wide:
        light = light @ _TO_BT709.T
    np.maximum(light, 0, out=light)
    largest = light.max(axis=-1)
    light *= _compress(largest)[..., None]
    place = np.minimum(light, 1) * np.float32(65535) + np.float32(0.5)
    mapped: NDArray[np.uint8] = _srgb_codes()[place.astype(np.uint16)]
    return mapped


@lru_cache(maxsize=2)
def _light_of_codes(transfer: str) -> Floats:
    """Light of each 16-bit code: PQ in units of reference white, HLG the scene's, 0 … 1."""
    code = np.arange(65536) / 65535
    if transfer == "pq":  # SMPTE ST 2084
        m1, m2 = 2610 / 16384, 2523 / 4096 * 128
        c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        power = code ** (1 / m2)
        nits = 10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
        return (nits / REFERENCE_WHITE).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073  # ARIB STD-B67
    dark, bright = code**2 / 3, (np.exp((code - c) / a) + b) / 12
    return np.where(code <= 0.5, dark, bright).astype(np.float32)


@lru_cache(maxsize=1)
def _srgb_codes() -> NDArray[np.uint8]:
    """The 8-bit sRGB code of light 0 … 1, given in 65535ths."""
    light = np.arange(65536) / 65535
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * code).astype(np.uint8)


def _compress(largest: Floats) -> Floats:
    """By how much to scale a pixel whose largest value is this."""
    over = np.maximum(largest - np.float32(_KNEE), 0) / np.float32(1 - _KNEE)
    end = np.float32((PEAK / REFERENCE_WHITE - _KNEE) / (1 - _KNEE))
    # Reinhard's curve with a white point: slope 1 at the knee, full white at the peak.
    bent = np.minimum(over * (1 + over / end**2) / (1 + over), 1)
    wanted = np.minimum(largest, np.float32(_KNEE)) + np.float32(1 - _KNEE) * bent
    scale: Floats = wanted / np.maximum(largest, np.float32(1e-9))
    return scale
