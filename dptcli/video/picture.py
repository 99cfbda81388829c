"""A decoded frame as the picture that players show: its colours, its pixels' shape, its turn."""

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptcli.inputs.decode import printable
from dptcli.video.tonemap import tone_map

logger = logging.getLogger(__name__)

# ITU-T H.273's numbers, as FFmpeg has them too.
_UNSPECIFIED = (2, 3)
_BT709, _BT601, _BT2020 = 1, 5, 9
_TRANSFERS = {16: "pq", 18: "hlg"}
_PRIMARIES_BT2020 = 9
# Matrices and curves that come with BT.2020's primaries, where a file does not say its primaries.
_MATRICES_BT2020, _TRANSFERS_BT2020 = (9, 10), (14, 15, 16, 18)
_UNKNOWN_MATRICES = {10: "BT.2020 constant luminance", 14: "ICtCp", 15: "IPT (Dolby Vision)"}

_SAME_ASPECT = Fraction(1, 100)  # closer to square: a rounding of the file's, not a shape
_ODD_ASPECT = 4  # no camera or disc has pixels longer than this


class PictureReader:
    """Frames of one clip -> RGB. What is unusual about the clip is said once."""

    def __init__(self, path: Path, stream: Any) -> None:
        """Take what the file says of all frames from a PyAV video stream."""
        self._name = printable(path)
        self._aspect = self._pixel_aspect(Fraction(stream.sample_aspect_ratio or 1))
        self._stream_transfer = int(getattr(stream.codec_context, "color_trc", 2))
        self._stream_primaries = int(getattr(stream.codec_context, "color_primaries", 2))
        self._said: set[str] = set()

    def _pixel_aspect(self, aspect: Fraction) -> Fraction:
        if not aspect or abs(aspect - 1) < _SAME_ASPECT:
            return Fraction(1)
        if max(aspect, 1 / aspect) > _ODD_ASPECT:
            logger.warning(
                "%s says that its pixels are %s times as wide as high, which is taken for an error",
                self._name,
                aspect,
            )
            return Fraction(1)
        return aspect

    def rgb(self, frame: Any) -> NDArray[np.uint8]:
        """The frame as RGB uint8 (H, W, 3): upright, with square pixels, in standard range."""
        if frame.interlaced_frame:
            self._say("is interlaced: a frame's lines are of two moments; deinterlace it first")
        width, height = frame.width, frame.height
        scaling: dict[str, Any] = {}
        if self._aspect != 1:  # the shorter side grows, so that no pixel is lost
            width = round(frame.width * max(self._aspect, Fraction(1)))
            height = round(frame.height / min(self._aspect, Fraction(1)))
            scaling = {"width": width, "height": height, "interpolation": "BICUBIC"}
        scaling |= self._matrix(frame)
        transfer = _TRANSFERS.get(int(getattr(frame, "color_trc", self._stream_transfer)))
        if transfer is None and frame.format.components[0].bits <= 8:
            picture = frame.reformat(format="rgb24", **scaling).to_ndarray()
        elif transfer is None:  # straight to 8 bits, FFmpeg cuts off what it should round
            codes = frame.reformat(format="rgb48le", **scaling).to_ndarray()
            picture = ((codes.astype(np.uint32) + 128) // 257).astype(np.uint8)
        else:
            self._say(f"is HDR ({transfer.upper()}); it is tone-mapped to standard range")
            codes = frame.reformat(format="rgb48le", **scaling).to_ndarray()
            picture = tone_map(codes, transfer=transfer, is_wide=self._is_wide(frame))
        return np.ascontiguousarray(oriented(picture, display_matrix(frame)))

    def _matrix(self, frame: Any) -> dict[str, Any]:
        """How the frame's colours are coded, where the file does not say."""
        matrix = int(frame.colorspace)
        if matrix in _UNKNOWN_MATRICES:
            self._say(f"is coded in {_UNKNOWN_MATRICES[matrix]}; its colours may come out wrong")
        if matrix not in _UNSPECIFIED:
            return {}
        if self._is_wide(frame):
            guess = _BT2020
        else:
            is_hd = frame.height >= 720 or frame.width >= 1280
            guess = _BT709 if is_hd else _BT601
        return {"src_colorspace": guess, "dst_colorspace": guess}

    def _is_wide(self, frame: Any) -> bool:
        primaries = int(getattr(frame, "color_primaries", self._stream_primaries))
        if primaries not in _UNSPECIFIED:
            return primaries == _PRIMARIES_BT2020
        transfer = int(getattr(frame, "color_trc", self._stream_transfer))
        return int(frame.colorspace) in _MATRICES_BT2020 or transfer in _TRANSFERS_BT2020

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            logger.warning("%s %s", self._name, what)


def display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """How the file turns its frames, as (a, b, c, d): x' = a·x + c·y, y' = b·x + d·y."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(data), np.int32, 5).tolist()
            return a, b, c, d
    return 1, 0, 0, 1


def oriented(picture: NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) turned and mirrored; a matrix between is taken for the nearest of eight.

    The matrix is the display's (ISO/IEC 14496-12), with y downwards.
    """
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        across, down = a, d
    else:
        picture = picture.transpose(1, 0, 2)
        across, down = c, b
    return picture[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
