"""Clips in two views: their frames, and what the files say of them as FFmpeg reads it."""

import av
import numpy as np
import pytest
from clips import photograph, read_clip, sound_seconds, write_clip
from tiny import save_varied

from dptcli.cli import main
from dptcli.errors import ImageError
from dptcli.video.spherical import Views, mark_views


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_varied(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    frames = [np.roll(photograph(), 3 * place, axis=1) for place in range(5)]
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames, sound=True)


def side_data(path):
    """{kind: bytes} that FFmpeg gives its first frame by what the file says."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return {data.type.name: bytes(data) for data in frame.side_data}


@pytest.mark.parametrize(
    ("layout", "ending", "hw", "mode"),
    [
        ("sbs", ".mp4", (96, 256), 1),
        ("tb-half", ".mov", (96, 128), 2),
        ("sbs-half", ".mkv", (96, 128), 1),
    ],
)
def test_a_clip_in_two_views_says_so(model, clip, tmp_path, layout, ending, hw, mode):
    out = tmp_path / f"clip{ending}"
    words = ["depth", str(clip), "-o", str(out), "-m", model, "-f", layout, "--audio", "-q"]
    assert main(words) == 0
    frames = read_clip(out)
    assert len(frames) == 5
    assert {rgb.shape for _, rgb in frames} == {(*hw, 3)}
    assert sound_seconds(out) > 0.1
    # AVStereo3D begins with its type: 1 side by side, 2 top and bottom.
    assert int.from_bytes(side_data(out)["STEREO3D"][:4], "little") == mode
    if layout == "sbs":
        left, original = frames[2][1][:, :128].astype(int), read_clip(clip)[2][1]
        assert np.abs(left - original).mean() < 6


def test_a_vr180_clip_says_what_part_of_the_sphere_it_is(model, clip, tmp_path):
    out = tmp_path / "clip_180x180_LR.mp4"
    words = ["depth", str(clip), "-o", str(out), "-m", model, "-f", "vr180", "--frames", ":2"]
    assert main([*words, "-q"]) == 0
    found = side_data(out)
    assert int.from_bytes(found["STEREO3D"][:4], "little") == 1
    # AVSphericalMapping: projection, yaw, pitch, roll, left, top, right, bottom.
    projection, yaw, pitch, roll, left, top, right, bottom = np.frombuffer(
        found["SPHERICAL"][:32], np.uint32
    )
    assert projection == 2  # a part of an equirectangular picture
    assert (yaw, pitch, roll, top, bottom) == (0,) * 5
    assert left == right == 1 << 30
    [(_, first), _] = read_clip(out)
    assert first.shape[1] == 2 * first.shape[0]


@pytest.mark.parametrize(
    "flags", [{"movflags": "+faststart"}, {}], ids=["index first", "index last"]
)
def test_marking_moves_no_frame(clip, tmp_path, flags):
    path = tmp_path / "a.mp4"
    with av.open(str(clip)) as given, av.open(str(path), "w", options=flags) as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    before = read_clip(path)
    mark_views(path, Views("top-bottom", half_sphere=True))
    after = read_clip(path)
    assert [seconds for seconds, _ in before] == [seconds for seconds, _ in after]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(before, after, strict=True))
    assert sound_seconds(path) == sound_seconds(clip)
    assert int.from_bytes(side_data(path)["STEREO3D"][:4], "little") == 2


def test_a_file_without_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x08moov")
    with pytest.raises(ImageError, match="no video"):
        mark_views(tmp_path / "a.mp4", Views("left-right"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
