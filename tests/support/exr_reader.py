"""A reader of OpenEXR's scan lines in NumPy, which shares nothing with the library that we use.

Source: "The OpenEXR File Layout": one part, no compression or ZIP of 1 or 16 lines.
"""

import struct
import zlib

import numpy as np

_LINES = {0: 1, 2: 1, 3: 16}  # of a block, by the method of compression
_TYPES = {0: "<u4", 1: "<f2", 2: "<f4"}


def read_exr(path):
    """The channels of a file by name, each (H, W)."""
    data = path.read_bytes()
    assert data[:4] == b"\x76\x2f\x31\x01"
    at, header = 8, {}
    while data[at]:
        name, kind, rest = data[at : at + 600].split(b"\0", 2)
        start = at + len(name) + len(kind) + 6
        (size,) = struct.unpack_from("<i", rest)
        header[name.decode()] = data[start : start + size]
        at = start + size
    left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    kinds = _channels(header["channels"])
    lines = _LINES[header["compression"][0]]
    channels = {name: np.zeros((height, width), kind) for name, kind in kinds}
    for offset in struct.unpack_from(f"<{-(-height // lines)}Q", data, at + 1):
        row, size = struct.unpack_from("<ii", data, offset)
        block = data[offset + 8 : offset + 8 + size]
        rows = range(row - top, min(row - top + lines, height))
        if size < len(rows) * width * sum(np.dtype(kind).itemsize for _, kind in kinds):
            block = _unpacked(block)
        place = 0
        for line in rows:
            for name, kind in kinds:
                channels[name][line] = np.frombuffer(block, kind, width, place)
                place += width * np.dtype(kind).itemsize
    return channels


def _channels(listed):
    kinds = []
    while listed[0]:
        name, rest = listed.split(b"\0", 1)
        kinds.append((name.decode(), _TYPES[struct.unpack_from("<i", rest)[0]]))
        listed = rest[16:]
    return kinds


def _unpacked(block):
    """ZIP holds differences of bytes, the even ones before the odd ones."""
    steps = np.frombuffer(zlib.decompress(block), np.uint8).astype(np.int64)
    steps[1:] -= 128
    values = (steps.cumsum() % 256).astype(np.uint8)
    woven = np.empty_like(values)
    half = (len(values) + 1) // 2
    woven[::2], woven[1::2] = values[:half], values[half:]
    return woven.tobytes()
