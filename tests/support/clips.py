"""Clips made for tests with PyAV itself, and read back with it: not with the code under test."""

from fractions import Fraction

import av
import numpy as np


def photograph(height=96, width=128, *, seed=0):
    """A smooth picture with edges, RGB uint8, that no two places share."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    rgb = np.stack([x, y, 1 - x], -1) * 200 + 20
    for _ in range(6):
        top, left = rng.integers(0, height - 20), rng.integers(0, width - 20)
        rgb[top : top + 20, left : left + 20] = rng.integers(0, 255, 3)
    return rgb.astype(np.uint8)


def numbered(number):
    """A small picture that tells its number, 0 … 63, and differs much from its neighbours."""
    rgb = np.full((64, 96, 3), 40, np.uint8)
    for bit in range(6):
        if number >> bit & 1:
            rgb[:32, bit * 16 : (bit + 1) * 16] = 230
    rgb[32:] = number * 5 % 256
    return rgb


def number_in(rgb):
    """The number that a picture of `numbered` tells."""
    return sum(int(rgb[16, bit * 16 + 8].mean() > 135) << bit for bit in range(6))


def write_clip(
    path, frames, *, times=None, sound=False, fps=25, codec="libx264", aspect=None, **encoding
):
    """Write frames (RGB uint8) at times in units of 1/1000 s; sound: a tone of the same length.

    aspect: a pixel's width by its height. encoding: the codec's own options.
    """
    options = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stills = codec == "mjpeg"
        options = ({"qscale": "2"} if stills else {"crf": "5"}) | encoding
        video = container.add_stream(codec, rate=fps, options=options)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuvj420p" if stills else "yuv420p"
        # AVI and the older codecs count frames and know no finer time.
        counts = path.suffix == ".avi" or codec.startswith("mpeg")
        video.codec_context.time_base = Fraction(1, fps if counts else 1000)
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        audio = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        for place, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = times[place] if times else round(1000 * place / fps)
            frame.time_base = Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            num = int(8000 * len(frames) / fps)
            tone = np.sin(np.arange(num) / 5).astype(np.float32)[None]
            for start in range(0, num, 1024):
                piece = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(tone[:, start : start + 1024]), "fltp", "mono"
                )
                piece.sample_rate, piece.pts = 8000, start
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def read_clip(path):
    """[(seconds, RGB uint8)] of a clip."""
    with av.open(str(path)) as container:
        return [
            (frame.pts * frame.time_base, frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
        ]


def sound_seconds(path):
    """How long a clip's sound lasts; 0 without sound."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return 0.0
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
