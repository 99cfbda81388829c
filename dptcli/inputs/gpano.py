"""What a photograph says of itself as a panorama: the XMP of Google's Photo Sphere, GPano.

https://developers.google.com/streetview/spherical-metadata
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Size = tuple[int, int]

_NAMESPACE = b"http://ns.google.com/photos/1.0/panorama/"
# Pillow's names for it: JPEG and WebP; PNG.
_XMP_KEYS = ("xmp", "XML:com.adobe.xmp")
_PREFIX = re.compile(rb"xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(_NAMESPACE))
_MOST_BYTES = 1 << 20  # of XMP: ours are its first few hundred


@dataclass(frozen=True)
class Gpano:
    """An equirectangular picture's place in the whole panorama, in pixels of the latter.

    whole_hw, part_hw: 0 where the file doesn't say it. left, top: where the part begins.
    """

    whole_hw: Size = (0, 0)
    part_hw: Size = (0, 0)
    left: int = 0
    top: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing says that the picture shows a part."""
        said = 0 not in (*self.whole_hw, *self.part_hw)
        return not said or self.part_hw == self.whole_hw


def read_gpano(info: Mapping[Any, Any]) -> Gpano | None:
    """Read what Pillow found beside a picture's pixels; None for one that is no such panorama."""
    xmp = next((info[key] for key in _XMP_KEYS if key in info), b"")
    text = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    text = text[:_MOST_BYTES]
    prefix = _PREFIX.search(text)
    if prefix is None:
        return None

    def value(name: str) -> bytes:
        # An attribute, or an element.
        named = re.escape(prefix[1]) + b":" + name.encode()
        found = re.search(named + rb"\s*(?:=\s*[\"']([^\"'<]*)|>([^<]*)<)", text)
        return b"" if found is None else (found[1] or found[2] or b"").strip()

    def number(name: str) -> int:
        try:
            return round(float(value(name)))
        except (ValueError, OverflowError):
            return 0

    if value("ProjectionType").lower() != b"equirectangular":
        return None
    return Gpano(
        whole_hw=(number("FullPanoHeightPixels"), number("FullPanoWidthPixels")),
        part_hw=(number("CroppedAreaImageHeightPixels"), number("CroppedAreaImageWidthPixels")),
        left=number("CroppedAreaLeftPixels"),
        top=number("CroppedAreaTopPixels"),
    )
