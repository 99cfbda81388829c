"""Which frame is which: packets' times, seeks, and files whose times are odd."""

import subprocess
import sys
from fractions import Fraction

import av
import pytest
from clips import number_in, numbered, write_clip
from process import environment

from dptcli.video.index import UNSHOWN, Packet, index_packets
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
    assert subprocess.run(words, timeout=60, env=environment(), check=False).returncode == 0


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
