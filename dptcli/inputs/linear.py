"""Pictures of light itself, OpenEXR and Radiance HDR, and how they become pictures to look at.

The rule: where nearly all values lie in 0 … 1, and not all near 0, they are shown as they are;
else exposure puts the mean (of logarithms) at middle grey, 0.18, and Reinhard's curve bends what
is brighter, so that nearly the brightest becomes white. Then sRGB's own curve, and 8 bits.
Source: Reinhard et al., Photographic Tone Reproduction for Digital Images (2002), equation 4.
"""

import re
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.errors import ImageError
from dptcli.inputs.reading import TRANSPOSE, Reading

Light = NDArray[np.float32]

_MIDDLE_GREY = 0.18
_NEARLY_ALL = 0.995
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


def tone_map(light: Light) -> NDArray[np.uint8]:
    """Linear light (H, W, 3) of sRGB's primaries as sRGB uint8, by the module's rule."""
    light = np.nan_to_num(light, nan=0.0, posinf=0.0, neginf=0.0)
    np.maximum(light, 0, out=light)
    brightest = _nearly_largest(light.max(axis=-1))
    if brightest > 1 or 0 < brightest < 1 / 16:
        luminance = light @ _LUMINANCE
        lit = luminance[luminance > 0]
        mean = float(np.exp(np.log(lit, dtype=np.float64).mean())) if lit.size else 1.0
        exposure = np.float32(_MIDDLE_GREY / mean)
        white = max(_nearly_largest(luminance) * float(exposure), 1.0)
        exposed = luminance * exposure
        light *= (exposure * (1 + exposed / np.float32(white**2)) / (1 + exposed))[..., None]
    np.clip(light, 0, 1, out=light)
    curved = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(curved * 255 + 0.5).astype(np.uint8)


def _nearly_largest(values: Light) -> float:
    step = max(1, values.size // 4_000_000)
    sample = values.reshape(-1)[::step]
    at = int((sample.size - 1) * _NEARLY_ALL) if sample.size > 200 else sample.size - 1
    return float(np.partition(sample, at)[at])


# --- OpenEXR -------------------------------------------------------------------------------------


def read_exr(stream: BinaryIO, reading: Reading) -> Image.Image:
    """Read an OpenEXR file's first picture. Raises ImageError without OpenEXR or colours."""
    openexr = reading.extra("OpenEXR", extra="exr", kind="an OpenEXR picture")
    # The library reads from a path only, and the stream may be standard input.
    with tempfile.TemporaryDirectory(prefix="dpt-exr-") as folder:
        path = Path(folder) / "photo.exr"
        path.write_bytes(stream.read())
        header = openexr.File(str(path), header_only=True).header()
        (left, top), (right, bottom) = header["dataWindow"]
        reading.check_size(int(right) - int(left) + 1, int(bottom) - int(top) + 1)
        parts = openexr.File(str(path), separate_channels=True).parts
    part = parts[reading.choose_page(len(parts), "part")]
    channels = {name: channel.pixels for name, channel in part.channels.items()}
    return Image.fromarray(tone_map(_exr_colours(channels, reading)))


def _exr_colours(channels: dict[str, NDArray[Any]], reading: Reading) -> Light:
    """R, G and B, or Y, of the picture itself or else of its first layer, as (H, W, 3)."""
    layers = sorted(
        {name.rpartition(".")[0] for name in channels}, key=lambda layer: (layer != "", layer)
    )
    for layer in layers:
        start = f"{layer}." if layer else ""
        for names in ("RGB", "Y"):
            bands = [channels.get(start + name) for name in names]
            shapes = {band.shape for band in bands if band is not None}
            if all(band is not None for band in bands) and len(shapes) == 1:
                stacked = np.stack([np.asarray(band, np.float32) for band in bands], axis=-1)
                return np.repeat(stacked, 3 // len(names), axis=-1)
    listed = ", ".join(sorted(channels)[:8])
    raise ImageError(
        f"{reading.name} is an OpenEXR file without a picture (channels {listed}); it needs "
        "R, G and B, or Y"
    )


# --- Radiance HDR --------------------------------------------------------------------------------

_SIZE = re.compile(rb"([+-])([XY]) (\d{1,6}) ([+-])([XY]) (\d{1,6})\n")


def read_hdr(stream: BinaryIO, reading: Reading) -> Image.Image:
    """Read a Radiance picture (.hdr, .pic). Raises ImageError and ValueError.

    Source: Greg Ward, Real Pixels (Graphics Gems II), and Radiance's file format manual.
    """
    reading.choose_page(1)
    data = stream.read()
    head, separator, _ = data.partition(b"\n\n")
    size = _SIZE.match(data, len(head) + 2) if separator else None
    if size is None or size[2] == size[5]:
        raise ValueError("a Radiance picture without its size")
    if b"FORMAT=32-bit_rle_xyze" in head:
        raise ImageError(f"{reading.name} is a Radiance picture in XYZ; export it in RGB")
    rows, width = int(size[3]), int(size[6])
    reading.check_size(width, rows)
    pixels = _scanlines(data, size.end(), rows, width)
    # The mantissas are of the interval's lower end: half a step is added, as Radiance does.
    light = (pixels[..., :3].astype(np.float32) + 0.5) * np.exp2(
        pixels[..., 3:].astype(np.float32) - 136
    )
    light[pixels[..., 3] == 0] = 0
    picture = Image.fromarray(tone_map(light))
    turn = TRANSPOSE.get(_turn(size[1] + size[2] + size[4] + size[5]), None)
    return picture if turn is None else picture.transpose(turn)


def _turn(order: bytes) -> int:
    """How EXIF would call the order in which the pixels come; -Y +X is the usual one."""
    orders = (b"-Y+X", b"-Y-X", b"+Y-X", b"+Y+X", b"+X-Y", b"-X-Y", b"-X+Y", b"+X+Y")
    return orders.index(order) + 1


def _scanlines(data: bytes, at: int, rows: int, width: int) -> NDArray[np.uint8]:
    """The pixels, uint8 (rows, width, 4): mantissas and exponent; raises ValueError when cut."""
    whole = rows * width * 4
    packed = 8 <= width < 32768 and data[at : at + 4] == bytes([2, 2, width >> 8, width & 255])
    if not packed:
        if len(data) - at < whole:
            raise ValueError("cut short, or packed in the old way")
        return np.frombuffer(data, np.uint8, whole, at).reshape(rows, width, 4)
    out = bytearray()
    for _ in range(rows):
        if data[at : at + 4] != bytes([2, 2, width >> 8, width & 255]):
            raise ValueError("cut short")
        at, end = at + 4, len(out) + 4 * width
        while len(out) < end:
            if at >= len(data) - 1:
                raise ValueError("cut short")
            count = data[at]
            if count > 128:  # a run of one value
                out += data[at + 1 : at + 2] * (count - 128)
                at += 2
            else:
                out += data[at + 1 : at + 1 + count]
                at += 1 + count
                if count == 0:
                    raise ValueError("a run of nothing")
        if len(out) > end:
            raise ValueError("a run beyond its row")
    # (rows, 4, width): red, green, blue and exponents of a row come one after another
    return np.frombuffer(out, np.uint8).reshape(rows, 4, width).transpose(0, 2, 1)
