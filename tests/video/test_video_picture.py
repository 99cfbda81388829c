"""Frames as players show them: the eight orientations, pixels that are not square, colours, HDR."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import photograph, write_clip

from dptcli.video.read import Clip
from dptcli.video.tonemap import tone_map

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (240, 240, 240)

# By the matrix (a, b, c, d) of ISO/IEC 14496-12: the corners after it, row by row.
ORIENTATIONS = {
    "upright": ((1, 0, 0, 1), "RGBW"),
    "quarter": ((0, 1, -1, 0), "BRWG"),
    "half": ((-1, 0, 0, -1), "WBGR"),
    "three-quarters": ((0, -1, 1, 0), "GWRB"),
    "mirrored": ((-1, 0, 0, 1), "GRWB"),
    "upside-down": ((1, 0, 0, -1), "BWRG"),
    "transposed": ((0, 1, 1, 0), "RBGW"),
    "transversed": ((0, -1, -1, 0), "WGBR"),
}


def corners(height=48, width=80):
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[: height // 2, : width // 2], rgb[: height // 2, width // 2 :] = RED, GREEN
    rgb[height // 2 :, : width // 2], rgb[height // 2 :, width // 2 :] = BLUE, WHITE
    return rgb


def seen(rgb):
    height, width = rgb.shape[:2]
    places = [(y, x) for y in (5, height - 6) for x in (5, width - 6)]
    colors = np.array([RED, GREEN, BLUE, WHITE], float)
    return "".join("RGBW"[np.abs(colors - rgb[place]).sum(-1).argmin()] for place in places)


def set_matrix(path, matrix):
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    a, b, c, d = (round(value * (1 << 16)) for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def first(path):
    clip = Clip(path)
    rgb = clip.read(0)
    clip.close()
    return rgb


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_all_eight_orientations_come_upright(matrix, tmp_path):
    path = write_clip(tmp_path / "in.mp4", [corners()])
    values, expected = ORIENTATIONS[matrix]
    set_matrix(path, values)
    rgb = first(path)
    assert seen(rgb) == expected
    assert rgb.shape[:2] == ((48, 80) if values[0] else (80, 48))


def test_a_matrix_between_is_the_nearest_orientation(tmp_path):
    path = write_clip(tmp_path / "in.mp4", [corners()])
    set_matrix(path, (-0.98, -0.17, 0.17, -0.98))
    assert seen(first(path)) == "WBGR"


@pytest.mark.parametrize(
    ("aspect", "expected"),
    [
        (Fraction(32, 27), (48, 95)),
        (Fraction(8, 9), (54, 80)),
        (Fraction(1, 2), (96, 80)),
        (Fraction(1000, 999), (48, 80)),
    ],
    ids=["wide", "narrow", "fields", "rounding"],
)
@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_pixels_become_square_and_none_is_lost(aspect, expected, ending, tmp_path):
    rgb = first(write_clip(tmp_path / f"in{ending}", [corners()], aspect=aspect))
    assert rgb.shape[:2] == expected
    assert seen(rgb) == "RGBW"


def test_a_turned_frame_is_stretched_along_its_own_width(tmp_path):
    path = write_clip(tmp_path / "in.mp4", [corners()], aspect=Fraction(3, 2))
    set_matrix(path, (0, 1, -1, 0))
    assert first(path).shape[:2] == (120, 48)


def test_an_absurd_aspect_is_told_and_left(tmp_path, caplog):
    path = write_clip(tmp_path / "in.mp4", [corners()], aspect=Fraction(9))
    assert first(path).shape[:2] == (48, 80)
    assert "taken for an error" in caplog.text


def coded(path, size, color, *, matrix, says=None, bits=8, transfer=None, primaries=None):
    """A clip of one colour, R'G'B' 0 … 1, coded by a matrix (Kr, Kb) in limited range."""
    height, width = size
    kr, kb = matrix
    r, g, b = color
    y = kr * r + (1 - kr - kb) * g + kb * b
    values = (16 + 219 * y, 128 + 112 * (b - y) / (1 - kb), 128 + 112 * (r - y) / (1 - kr))
    kind = "yuv420p" if bits == 8 else "yuv420p10le"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = height, width, kind
        context = stream.codec_context
        for name, value in (
            ("colorspace", says),
            ("color_trc", transfer),
            ("color_primaries", primaries),
        ):
            if value:
                setattr(context, name, value)
        frame = av.VideoFrame(width, height, kind)
        for plane, value in zip(frame.planes, values, strict=True):
            width_of = 1 if bits == 8 else 2
            codes = np.full(plane.buffer_size // width_of, round(value * 2 ** (bits - 8)))
            plane.update(codes.astype(f"<u{width_of}").tobytes())
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


BT601, BT709, BT2020 = (0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)


@pytest.mark.parametrize(
    ("size", "says", "matrix"),
    [
        ((576, 720), None, BT601),
        ((720, 960), None, BT709),
        ((536, 1280), None, BT709),
        ((1280, 720), None, BT709),
        ((64, 96), 1, BT709),
        ((720, 1280), 6, BT601),
        ((64, 96), 9, BT2020),
    ],
    ids=["sd", "hd", "cinema", "upright-hd", "says-709", "says-601", "says-2020"],
)
def test_colours_are_decoded_by_the_files_matrix_or_its_size(size, says, matrix, tmp_path):
    color = np.array([200, 60, 90])
    path = coded(tmp_path / "in.mp4", size, color / 255, matrix=matrix, says=says)
    assert np.abs(first(path)[20, 20] - color.astype(float)).max() <= 3


def test_lines_of_two_moments_are_told_once(tmp_path, caplog):
    frames = [photograph()] * 3
    fields = write_clip(tmp_path / "fields.mp4", frames, **{"x264-params": "interlaced=1:tff=1"})
    clip = Clip(fields)
    for place in range(3):
        clip.read(place)
    clip.close()
    first(write_clip(tmp_path / "frames.mp4", frames))
    assert caplog.text.count("is interlaced") == 1
    assert "frames.mp4" not in caplog.text


def test_ten_bits_are_rounded_to_eight(tmp_path):
    color = np.array([200, 60, 90])
    path = coded(tmp_path / "in.mp4", (64, 96), color / 255, matrix=BT709, says=1, bits=10)
    assert np.abs(first(path)[20, 20] - color.astype(float)).max() <= 1


@pytest.mark.parametrize("says", [None, 9], ids=["curve", "curve-and-matrix"])
def test_hdr_that_does_not_say_its_primaries_has_bt2020s(says, tmp_path):
    def red(name, **tags):
        path = coded(
            tmp_path / name, (64, 96), (0.5, 0.3, 0.3), matrix=BT2020, bits=10, transfer=16, **tags
        )
        return first(path)[20, 20].astype(int)

    whole, half = red("whole.mp4", says=9, primaries=9), red("half.mp4", says=says)
    assert np.abs(whole - half).max() <= 1


def pq(nits):
    power = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(nits):
    scene = (nits / 1000) ** (1 / 1.2)
    return np.where(
        scene <= 1 / 12,
        np.sqrt(3 * scene),
        0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073,
    )


@pytest.mark.parametrize(("transfer", "curve"), [(16, pq), (18, hlg)], ids=["pq", "hlg"])
def test_hdr_looks_as_standard_range_does_and_is_told_once(transfer, curve, tmp_path, caplog):
    def read(nits):
        path = coded(
            tmp_path / f"{nits}.mp4",
            (64, 96),
            [float(curve(nits))] * 3,
            matrix=BT2020,
            says=9,
            bits=10,
            transfer=transfer,
            primaries=9,
        )
        clip = Clip(path)
        clip.read(0)
        level = clip.read(0)[20, 20].astype(int)
        clip.close()
        return level

    assert np.abs(read(203 * 0.18) - 118).max() <= 2  # a grey card, as sRGB has it
    assert np.abs(read(203) - 240).max() <= 2
    assert read(1000).min() >= 253
    assert read(0).max() <= 1
    assert caplog.text.count("it is tone-mapped") == 4


def test_hues_stay_and_brightness_never_turns_round():
    ramp = np.linspace(0, 65535, 500).astype(np.uint16)
    codes = np.stack([ramp, ramp // 2, ramp // 3], -1)[None]
    for transfer in ("pq", "hlg"):
        mapped = tone_map(codes, transfer=transfer, is_wide=False)[0].astype(int)
        assert (np.diff(mapped[:, 0]) >= 0).all()
        assert (mapped[:, 0] >= mapped[:, 1]).all()
        assert (mapped[:, 1] >= mapped[:, 2]).all()


def test_wide_primaries_keep_grey_grey():
    grey = np.full((1, 1, 3), 30000, np.uint16)
    assert np.ptp(tone_map(grey, transfer="pq", is_wide=True)) <= 1
