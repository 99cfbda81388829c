"""Which frame is which: packets' times, seeks, and files whose times are odd."""

import contextlib
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import number_in, numbered, write_clip
from process import WAIT_S, environment

from dptcli.video.index import UNSHOWN, Packet, index_packets, usual_rate
from dptcli.video.read import Clip

NUM = 40
KINDS = {
    "h264.avi": {"bf": "2", "g": "8"},
    "mpeg4.avi": {"codec": "mpeg4", "bf": "2", "g": "8"},
    "h264.flv": {"bf": "2", "g": "8"},
    "h264.ts": {"bf": "3", "g": "8", "preset": "medium"},
    "mpeg2.ts": {"codec": "mpeg2video", "bf": "2", "g": "8"},
    "mpeg2.mpg": {"codec": "mpeg2video", "bf": "2", "g": "8"},
    "open.mp4": {"bf": "3", "g": "8", "x264-params": "open-gop=1"},
    "h264.mkv": {"bf": "3", "g": "8"},
    "bare.h264": {"bf": "3", "g": "8"},
    "wmv2.wmv": {"codec": "wmv2"},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    frames = [numbered(place) for place in range(NUM)]
    return {name: write_clip(folder / name, frames, **kind) for name, kind in KINDS.items()}


@pytest.mark.parametrize("name", KINDS)
def test_frames_behind_a_seek_are_those_of_decoding_from_the_start(name, clips):
    for wanted in (range(18, 24), (NUM - 1, 3, 19, 20, 0, 33, NUM - 3)):
        clip = Clip(clips[name])
        assert [number_in(clip.read(index)) for index in wanted] == list(wanted)
        clip.close()


def test_recordings_put_end_to_end_go_on_after_one_another(clips, tmp_path):
    twice = tmp_path / "twice.ts"
    twice.write_bytes(clips["h264.ts"].read_bytes() * 2)
    clip = Clip(twice)
    assert clip.num_frames == 2 * NUM
    wanted = (NUM + 21, 5, NUM - 1, NUM, NUM + 1)
    assert [number_in(clip.read(index)) for index in wanted] == [place % NUM for place in wanted]
    assert clip.seconds(2 * NUM - 1) - clip.seconds(0) == pytest.approx((2 * NUM - 1) / 25)
    clip.close()


def test_a_recording_that_begins_amid_a_group_has_the_frames_that_can_be_decoded(clips, tmp_path):
    with av.open(str(clips["h264.ts"])) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        place = packets[11].pos
        first = min(packet.pts for packet in packets[12:] if packet.is_keyframe)
        number = sorted(packet.pts for packet in packets).index(first)
    content = clips["h264.ts"].read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(content[: 3 * 188] + content[place:])
    clip = Clip(cut)
    read = [number_in(clip.read(index)) for index in range(clip.num_frames)]
    assert read == list(range(number, NUM))
    assert clip.num_missing == 0
    clip.close()


def test_closing_a_clip_whose_decoder_complains_does_not_hang(clips):
    # In a process of its own: a hang holds the interpreter's lock and no timer of Python's ends it.
    code = (
        "import pathlib, sys; from dptcli.video.read import Clip, import_av; import_av()\n"
        "for start in (3, 9, 17, 25):\n"
        "    clip = Clip(pathlib.Path(sys.argv[1]))\n"
        "    clip._reopen(); packets = list(clip._demux())[start:]\n"
        "    [packet.decode() for packet in packets[:9]]; clip.close()\n"
    )
    words = [sys.executable, "-c", code, clips["h264.ts"]]
    assert subprocess.run(words, timeout=WAIT_S, env=environment(), check=False).returncode == 0


def test_an_edit_list_is_no_break(tmp_path):
    frames = [numbered(place) for place in range(NUM)]
    source = write_clip(tmp_path / "in.mp4", frames, bf="2")
    content = bytearray(source.read_bytes())
    at = content.index(b"elst") + 12
    media_time = int.from_bytes(content[at + 4 : at + 8], "big")
    with av.open(str(source)) as container:
        ticks = round(1 / 25 / container.streams.video[0].time_base)
    content[at : at + 8] = (800).to_bytes(4, "big") + (media_time + 10 * ticks).to_bytes(4, "big")
    source.write_bytes(content)
    clip = Clip(source)
    assert clip.num_missing == 0
    assert [number_in(clip.read(index)) for index in range(clip.num_frames)] == list(range(10, 30))
    clip.close()


def write_packets(path, source, time_of):
    """A clip's packets in a Matroska file that gives each another time, in ms."""
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        block_times = [time_of(round(1000 * packet.pts * packet.time_base)) for packet in packets]
        with av.open(str(path), "w") as copy:
            stream = copy.add_stream_from_template(container.streams.video[0])
            for packet in packets:
                packet.stream = stream
                copy.mux(packet)
    content = bytearray(path.read_bytes())
    at = content.index(b"\x1fC\xb6u")  # the cluster
    for packet, time in zip(packets, block_times, strict=True):
        at = content.index(bytes(packet), at)
        content[at - 3 : at - 1] = time.to_bytes(2, "big", signed=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("bf", "odd"), [("0", {520: 320}), ("0", {520: 720}), ("2", {520: 300}), ("2", {560: 700})]
)
def test_a_time_that_steps_back_moves_no_frame(bf, odd, tmp_path):
    frames = [numbered(place) for place in range(NUM)]
    source = write_clip(tmp_path / "in.mkv", frames, bf=bf, g="100")
    clip = Clip(write_packets(tmp_path / "odd.mkv", source, lambda time: odd.get(time, time)))
    assert [number_in(clip.read(index)) for index in range(NUM)] == list(range(NUM))
    clip.close()


@pytest.mark.parametrize(("ending", "options"), [("mkv", {}), ("webm", {}), ("mp4", {"frag": 1})])
def test_a_file_shorter_than_it_says_is_told(ending, options, tmp_path):
    whole = tmp_path / f"in.{ending}"
    codec = "libvpx-vp9" if ending == "webm" else "libx264"
    write_clip(whole, [numbered(place) for place in range(12)], codec=codec, g="4")
    if options:
        with av.open(str(whole)) as container:
            moved = tmp_path / "frag.mp4"
            flags = {"movflags": "frag_keyframe+empty_moov"}
            with av.open(str(moved), "w", options=flags) as copy:
                stream = copy.add_stream_from_template(container.streams.video[0])
                for packet in container.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        copy.mux(packet)
        whole = moved
    assert not Clip(whole).is_cut
    cut = whole.with_stem("cut")
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    clip = Clip(cut)
    assert clip.is_cut
    assert 0 < clip.num_frames < 12


def test_a_clip_of_unknown_length_is_not_called_cut(tmp_path):
    live = write_clip(tmp_path / "in.mkv", [numbered(place) for place in range(3)])
    content = bytearray(live.read_bytes())
    at = content.index(b"\x18S\x80g") + 4
    content[at : at + 8] = b"\x01" + b"\xff" * 7
    live.write_bytes(content[:-20])
    assert not Clip(live).is_cut


def test_frames_in_front_of_a_damaged_end_are_all_there(tmp_path):
    frames = [numbered(place) for place in range(30)]
    whole = write_clip(tmp_path / "in.mp4", frames, g="5").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    clip = Clip(tmp_path / "cut.mp4")
    assert clip.num_missing == 30 - clip.num_frames
    with av.open(str(tmp_path / "cut.mp4")) as container:
        container.streams.video[0].thread_type = "NONE"
        num = 0
        for packet in container.demux(video=0):
            with contextlib.suppress(av.FFmpegError):
                num += len(packet.decode())
    assert [number_in(clip.read(index)) for index in range(num)] == list(range(num))
    clip.close()


def test_a_cover_picture_is_not_the_clip(tmp_path, caplog):
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        cover = container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 200, 200, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        video = container.add_stream("libx264", rate=25, options={"crf": "5"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        pictures = [(cover, 0, np.zeros((200, 200, 3), np.uint8))]
        pictures += [(video, place, numbered(place)) for place in range(5)]
        for stream, place, rgb in pictures:
            frame = av.VideoFrame.from_ndarray(rgb)
            frame.pts, frame.time_base = place, Fraction(1, 25)
            container.mux(stream.encode(frame))
        for stream in (cover, video):
            container.mux(stream.encode(None))
    clip = Clip(tmp_path / "in.mp4")
    assert [number_in(clip.read(index)) for index in range(clip.num_frames)] == list(range(5))
    assert not caplog.text
    clip.close()


def test_frames_before_the_clips_zero_are_not_missing(tmp_path):
    frames = [numbered(place) for place in range(20)]
    times = [40 * place - 200 for place in range(20)]
    clip = Clip(write_clip(tmp_path / "in.mp4", frames, times=times, bf="0", g="4"))
    assert [number_in(clip.read(index)) for index in range(clip.num_frames)] == list(range(5, 20))
    assert not clip.is_cut
    clip.close()


def test_pauses_are_no_part_of_a_clips_rate():
    times = [*range(0, 400, 40), *range(3_600_000, 3_600_400, 40)]
    assert usual_rate(times, Fraction(1, 1000)) == 25
    assert usual_rate([0, 33, 67, 100], Fraction(1, 1000)) == 30
    assert usual_rate([5], Fraction(1, 1000)) is None


def index(times, *, dts=None, keys=(0,), reorders=False, unit=1000):
    packets = [
        Packet(place, 9, time, dts[place] if dts else time, place in keys)
        for place, time in enumerate(times)
    ]
    return index_packets(
        packets,
        time_base=Fraction(1, unit),
        frame_s=Fraction(1, 25),
        reorders=reorders,
        states_times=False,
    )


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 1000, 1000, 1040, 5000], [0, 1000, 1020, 1040, 5000]),
        ([0, 1000, 1000, 1000, 5000], [0, 1000, 1040, 1080, 5000]),
        ([0, 0, 100], [0, 40, 100]),
        ([0, 3, 3], [0, 3, 43]),
        ([7, 7, 7, 7], [7, 47, 87, 127]),
        ([0, 40, 50, 700], [0, 40, 50, 700]),
        ([0, None, 80, 120], [0, 40, 80, 120]),
        ([None, None, None], [0, 40, 80]),
    ],
    ids=["one", "two", "first", "last", "all", "uneven", "one-missing", "none"],
)
def test_only_odd_times_are_moved(times, expected):
    assert list(index(times).times) == pytest.approx(expected)


def test_times_in_the_clocks_own_steps_stay_tellable():
    times = index([0, 1, 1, 2, 3], unit=25)
    assert [float(times.seconds(place)) for place in range(5)] == pytest.approx(
        [0, 0.04, 0.06, 0.08, 0.12]
    )


def test_frames_in_front_of_the_first_key_frame_are_left_out():
    cut = index([90, 50, 120, 80, 160, 200], keys=(2, 5))
    assert list(cut.ranks) == [UNSHOWN, UNSHOWN, 0, UNSHOWN, 1, 2]


def test_decodings_own_times_are_not_taken_for_those_of_showing():
    assert not index([0, 40, 80], reorders=True).is_timed
    assert index([0, 80, 40], reorders=True).is_timed
    assert not index([0, 80, 40, 80], reorders=True).is_timed


def test_a_clock_that_begins_anew_goes_on():
    times = [*range(0, 1000, 40), *range(0, 1000, 40)]
    assert list(index(times, keys=(0, 25)).times) == list(range(0, 2000, 40))


def test_a_single_step_back_is_no_new_beginning():
    assert list(index([0, 40, 80, 79, 160], keys=range(5)).times) == [0, 40, 79, 80, 160]
