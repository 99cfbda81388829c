"""What results are called: whether OUT names a file, the suffix of a format, the mirrored tree."""

import os
from collections.abc import Sequence
from pathlib import Path

from dptcli.depth.formats import ending
from dptcli.errors import UsageError
from dptcli.remote.places import place

# Endings that make OUT a file's name and not a folder's.
_FILE_SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".exr", ".pfm"),
    *(".npy", ".npz", ".ply", ".glb", ".avif", ".heic", ".jp2", ".jxl", ".svg", ".pdf"),
    *(".pgm", ".ppm", ".pnm", ".txt", ".json", ".csv", ".html", ".zip", ".safetensors"),
    *(".hdr", ".tga", ".dds", ".ico", ".psd", ".heif", ".dng", ".jfif", ".j2k", ".jpeg2000"),
}


def suffix_of(out: str, suffixes: Sequence[str]) -> str | None:
    """Return the format's suffix that OUT ends in; depth.png is also a name for .depth16.png."""
    whole = [suffix for suffix in suffixes if Path(out).name.lower().endswith(suffix)]
    last = [suffix for suffix in suffixes if ending(f"x{suffix}") == ending(out)]
    return max(whole, key=len) if whole else last[0] if last else None


def is_file_name(out: str, suffixes: Sequence[str]) -> bool:
    if out.endswith(("/", os.sep)) or place(out).is_dir():
        return False
    if suffix_of(out, suffixes) is not None:
        return True
    if place(out).suffix.lower() in _FILE_SUFFIXES:
        better = place(out).with_suffix(suffixes[0])
        raise UsageError(
            f"results are {suffixes[0]} files; instead of {out!r} name {str(better)!r}"
        )
    return False


def inside(relative: Path) -> Path:
    """Keep a mirrored path below its folder whatever the input was called."""
    return Path(*(part for part in relative.parts if part not in {"..", relative.anchor}))
