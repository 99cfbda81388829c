"""Video and sequences through the command line, read back with PyAV."""

import json
import struct
import sys
from fractions import Fraction

import numpy as np
import pytest
from clips import photograph, read_clip, sound_seconds, write_clip
from PIL import Image
from process import run_dpt
from tiny import save_tiny

from dptcli.cli import main
from dptcli.cli.predicting.reporter import Reporter
from dptcli.errors import ImageError, UsageError
from dptcli.video import write as videofile
from dptcli.video.read import Clip, FrameRange, parse_frames


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {task: str(save_tiny(folder / task, task=task)) for task in ("depth", "segment")}


def moving(num, **size):
    return [np.roll(photograph(**size), 3 * place, axis=1) for place in range(num)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", moving(10), sound=True)


def test_a_clip_becomes_a_clip_of_the_same_size_and_times(clip, models, tmp_path):
    out = tmp_path / "depth.mp4"
    done = run_dpt("depth", clip, "-o", out, "-m", models["depth"], "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    frames = read_clip(out)
    assert [seconds for seconds, _ in frames] == [Fraction(place, 25) for place in range(10)]
    assert {rgb.shape for _, rgb in frames} == {(96, 128, 3)}
    assert sound_seconds(out) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["depth.mp4"]  # no parts are left


def test_a_segmented_clip_shows_the_photographs_under_their_classes(clip, models, tmp_path):
    out = tmp_path / "seen.mkv"
    assert main(["segment", str(clip), "-o", str(out), "-m", models["segment"], "-q"]) == 0
    (_, seen), (_, photo) = read_clip(out)[3], read_clip(clip)[3]
    colors = json.loads((tmp_path / "seen.labels.json").read_text())["colors"].values()
    colors = np.array([list(bytes.fromhex(color[1:])) for color in colors], float)
    classes = 2 * seen.astype(float) - photo  # half and half
    distance = np.linalg.norm(classes[:, :, None] - colors, axis=-1).min(-1)
    assert np.median(distance) < 30


def test_frames_are_those_asked_for_at_their_own_times(clip, models, tmp_path):
    out = tmp_path / "part.mp4"
    words = ["depth", str(clip), "-o", str(out), "-m", models["depth"], "--frames", "2:9:3", "-q"]
    assert main(words) == 0
    assert [float(seconds) for seconds, _ in read_clip(out)] == pytest.approx([0, 0.12, 0.24])


@pytest.mark.parametrize(
    ("more", "low", "high"), [([], 0.35, 0.55), (["--frames", "5:"], 0.1, 0.3)]
)
def test_sound_is_copied_for_the_frames_that_are_kept(clip, models, tmp_path, more, low, high):
    out = tmp_path / "loud.mp4"
    words = ["depth", str(clip), "-o", str(out), "-m", models["depth"], "--audio", "-q", *more]
    assert main(words) == 0
    assert low < sound_seconds(out) < high


def test_sound_that_the_container_cannot_hold_is_refused_by_name(clip, models, tmp_path, capsys):
    out = tmp_path / "loud.webm"
    words = ["depth", str(clip), "-o", str(out), "-m", models["depth"], "--audio", "-q"]
    assert main(words) == 1
    assert "aac" in capsys.readouterr().err
    assert not out.exists()


def test_uneven_times_stay_as_they_are(models, tmp_path):
    times = [0, 40, 50, 200, 210, 700]
    source = write_clip(tmp_path / "vfr.mkv", moving(6), times=times)
    out = tmp_path / "out.mp4"
    assert main(["depth", str(source), "-o", str(out), "-m", models["depth"], "-q"]) == 0
    assert [float(seconds) for seconds, _ in read_clip(out)] == pytest.approx(
        [time / 1000 for time in times], abs=1e-4
    )


def test_odd_sides_lose_no_pixel(models, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for place in range(3):
        Image.fromarray(photograph(33, 47)).save(folder / f"{place}.png")
    out = tmp_path / "out.mp4"
    words = ["segment", str(folder), "-o", str(out), "-m", models["segment"], "--overlay", "0"]
    assert main([*words, "-q"]) == 0
    _, seen = read_clip(out)[1]
    assert seen.shape == (34, 48, 3)
    # H.264 halves the colour's resolution, so only the average is compared.
    assert np.abs(seen[:33, :47].astype(float) - photograph(33, 47)).mean() < 8


def test_images_become_a_clip_in_natural_order(models, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for place in (0, 1, 2, 9, 10, 11):
        shade = np.full((32, 32, 3), 20 * place, np.uint8)
        Image.fromarray(shade).save(folder / f"{place}.png")
    out = tmp_path / "out.mp4"
    words = ["segment", str(folder), "-o", str(out), "-m", models["segment"], "--overlay", "0"]
    assert main([*words, "--fps", "10", "-q"]) == 0
    frames = read_clip(out)
    assert [float(seconds) for seconds, _ in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    shades = [rgb.mean() for _, rgb in frames]
    assert shades == sorted(shades)


def test_a_clip_becomes_a_folder_of_frames_that_can_be_resumed(clip, models, tmp_path, capsys):
    out = tmp_path / "frames"
    words = ["depth", str(clip), "-o", f"{out}/", "-m", models["depth"]]
    assert main([*words, "-q"]) == 0
    names = [path.name for path in sorted(out.iterdir())]
    assert names == [f"{place:06d}.png" for place in range(10)]
    whole = {name: (out / name).read_bytes() for name in names}
    for name in names[6:]:
        (out / name).unlink()
    assert main([*words, "--skip-existing"]) == 0
    assert "4 done, 6 skipped" in capsys.readouterr().err
    # The frames before the gap were predicted again to settle the smoothing: nothing differs.
    assert {name: (out / name).read_bytes() for name in names} == whole


def test_a_list_of_failures_goes_when_all_frames_have_results(models, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"no picture")
    Image.fromarray(photograph(32, 32)).save(folder / "1.png")
    words = ["depth", str(folder), "-o", f"{out}/", "-m", models["depth"], "--sequence", "-q"]
    assert main(words) == 1
    assert (out / "failures.jsonl").exists()
    Image.fromarray(photograph(32, 32)).save(out / "0.png")
    assert main([*words, "--skip-existing"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "1.png"]


def test_a_run_that_is_stopped_goes_on_behind_its_finished_parts(
    clip, models, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(videofile, "FRAMES_PER_PART", 3)
    words = ["depth", str(clip), "-m", models["depth"], "-o"]
    assert main([*words, str(tmp_path / "whole.mp4"), "-q"]) == 0
    done = Reporter.done

    class Stop(BaseException):
        pass

    def stop_at_four(self, outcome):
        if outcome.job.source.index == 4:
            raise Stop
        done(self, outcome)

    monkeypatch.setattr(Reporter, "done", stop_at_four)
    with pytest.raises(Stop):
        main([*words, str(tmp_path / "out.mp4"), "-q"])
    monkeypatch.setattr(Reporter, "done", done)
    assert not (tmp_path / "out.mp4").exists()
    assert (tmp_path / "out.mp4.parts" / "00000000.nut").exists()
    assert main([*words, str(tmp_path / "out.mp4")]) == 0
    assert "going on behind" in capsys.readouterr().err
    whole, resumed = read_clip(tmp_path / "whole.mp4"), read_clip(tmp_path / "out.mp4")
    assert [seconds for seconds, _ in resumed] == [seconds for seconds, _ in whole]
    for (_, a), (_, b) in zip(whole, resumed, strict=True):
        assert np.array_equal(a, b)
    assert not (tmp_path / "out.mp4.parts").exists()


def test_parts_of_other_work_are_not_taken_up(tmp_path):
    out = tmp_path / "out.mp4"
    for colormap, expected in (("turbo", 0), ("turbo", 1), ("magma", 0)):
        writer = videofile.VideoWriter(out, fps=Fraction(25), work={"colormap": colormap})
        assert writer.done == expected
        writer.write(0, photograph(), seconds=Fraction(0))
        writer.finish_part()
        writer.abandon()


def test_a_strange_folder_in_the_place_of_the_parts_is_left_alone(tmp_path):
    precious = tmp_path / "out.mp4.parts" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years")
    with pytest.raises(UsageError, match="in the way"):
        videofile.VideoWriter(tmp_path / "out.mp4", fps=Fraction(25), work={})
    assert precious.exists()


def test_a_clip_that_breaks_off_gives_the_frames_before_the_break(clip, models, tmp_path, capsys):
    content = clip.read_bytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(content[: len(content) * 4 // 5])
    out = tmp_path / "out.mp4"
    assert main(["depth", str(broken), "-o", str(out), "-m", models["depth"], "-q"]) == 1
    assert "breaks off after" in capsys.readouterr().err
    assert 1 <= len(read_clip(out)) < 10


@pytest.mark.parametrize("content", [b"", b"no video", b"\0" * 4000], ids=["empty", "text", "zero"])
def test_what_is_no_video_is_one_line(content, models, tmp_path, capsys):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(content)
    out = tmp_path / "out.mp4"
    assert main(["depth", str(bad), "-o", str(out), "-m", models["depth"]]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "bad.mp4" in error
    assert not out.exists()


def test_a_damaged_frame_fails_by_name_and_the_others_are_kept(models, tmp_path, capsys):
    source = write_clip(tmp_path / "in.mkv", moving(8), codec="mjpeg")
    content = bytearray(source.read_bytes())
    starts = [i for i in range(len(content) - 3) if content[i : i + 3] == b"\xff\xd8\xff"]
    content[starts[4] : starts[5] - 40] = bytes(starts[5] - 40 - starts[4])
    source.write_bytes(content)
    out = tmp_path / "out.mp4"
    assert main(["depth", str(source), "-o", str(out), "-m", models["depth"], "-q"]) == 1
    assert "in.mkv frame 4" in capsys.readouterr().err
    assert [float(seconds) for seconds, _ in read_clip(out)] == pytest.approx(
        [0, 0.04, 0.08, 0.12, 0.2, 0.24, 0.28]
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["CLIP", "-o", "OUT.mp4", "--frames", "5"], "--frames '5' must be A:B"),
        (["CLIP", "-o", "OUT.mp4", "--frames", "7:7"], "--frames '7:7'"),
        (["CLIP", "-o", "OUT.mp4", "--frames", "90:"], "none from 90 on"),
        (["CLIP", "-o", "OUT.avi"], "cannot write .avi video"),
        (["CLIP", "-o", "CLIP", "--overwrite"], "would replace the input"),
        (["CLIP", "PHOTO", "-o", "OUT.mp4"], "alone"),
        (["CLIP", "-o", "OUT.mp4", "--smoothing", "2"], "--smoothing '2'"),
        (["CLIP", "-o", "OUT.mp4", "--fps", "0"], "--fps '0'"),
        (["CLIP", "-o", "OUT.mp4", "--fps", "30", "--audio"], "--fps or --audio"),
        (["CLIP", "-o", "OUT.mp4", "--bits", "16"], "does not fit into a video"),
        (["PHOTO", "-o", "OUT.mp4", "--audio"], "--audio copies the sound of a video"),
        (["PHOTO", "-o", "OUT.png", "--fps", "3"], "--fps is for writing a video"),
        (["PHOTO", "-o", "OUT.png", "--frames", "1:2"], "--frames is for a video"),
        (["missing.mp4", "-o", "OUT.mp4"], "no such file"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(words, message, clip, models, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(photograph()).save(photo)
    places = {"CLIP": str(clip), "PHOTO": str(photo)}
    words = [places.get(word, word.replace("OUT", str(tmp_path / "out"))) for word in words]
    before = clip.read_bytes()
    assert main(["depth", *words, "-m", models["depth"]]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert clip.read_bytes() == before


def test_a_video_that_exists_is_kept_or_replaced_as_asked(clip, models, tmp_path, capsys):
    out = tmp_path / "out.mp4"
    out.write_bytes(b"mine")
    words = ["depth", str(clip), "-o", str(out), "-m", models["depth"], "--frames", ":2"]
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--skip-existing"]) == 0
    assert out.read_bytes() == b"mine"
    assert main([*words, "--overwrite", "-q"]) == 0
    assert len(read_clip(out)) == 2


def test_without_pyav_one_line_says_how_to_install_it(clip, models, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    out = str(tmp_path / "out.mp4")
    assert main(["depth", str(clip), "-o", out, "-m", models["depth"]]) == 2
    error = capsys.readouterr().err
    assert "pip install 'dptcli[video]'" in error
    assert error.count("\n") == 1


def test_a_telephone_held_upright_gives_upright_frames(tmp_path):
    frame = photograph(48, 64)
    source = write_clip(tmp_path / "in.mp4", [frame] * 2)
    content = bytearray(source.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    turn = (0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)  # a quarter clockwise
    content[matrix : matrix + 36] = struct.pack(">9i", *turn)
    source.write_bytes(content)
    read = Clip(source).read(1)
    assert read.shape == (64, 48, 3)
    assert np.abs(read.astype(float) - np.rot90(frame, -1)).mean() < 8


def test_frames_can_be_read_in_any_order(tmp_path):
    shades = [np.full((32, 32, 3), 8 * place, np.uint8) for place in range(30)]
    clip = Clip(write_clip(tmp_path / "in.mp4", shades))
    for index in (0, 5, 29, 3, 4, 12, 0):
        assert abs(clip.read(index).mean() - 8 * index) < 4
    with pytest.raises(ImageError, match="frame 30"):
        clip.read(30)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, [0, 1, 2, 3, 4]),
        (":", [0, 1, 2, 3, 4]),
        ("2:", [2, 3, 4]),
        (":3", [0, 1, 2]),
        ("1:99:2", [1, 3]),
    ],
)
def test_frame_ranges_are_pythons(text, expected):
    assert list(parse_frames(text).of(5)) == expected


def test_a_range_behind_the_end_is_empty():
    assert list(FrameRange(9).of(5)) == []


def test_a_picture_of_another_size_is_refused(tmp_path):
    writer = videofile.VideoWriter(tmp_path / "out.mp4", fps=Fraction(25), work={})
    writer.write(0, photograph(32, 32), seconds=Fraction(0))
    with pytest.raises(ImageError, match="32x34"):
        writer.write(1, photograph(32, 34), seconds=Fraction(1, 25))
    writer.abandon()


def test_two_runs_do_not_write_one_video_at_a_time(tmp_path):
    out = tmp_path / "out.mp4"
    first = videofile.VideoWriter(out, fps=Fraction(25), work={"clip": "a"})
    first.write(0, photograph(), seconds=Fraction(0))
    with pytest.raises(UsageError, match="another run is writing"):
        videofile.VideoWriter(out, fps=Fraction(25), work={"clip": "b"})
    first.finish(start=Fraction(0), stop=Fraction(1))
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_video_that_came_meanwhile_is_kept(tmp_path):
    out = tmp_path / "out.mp4"
    writer = videofile.VideoWriter(out, fps=Fraction(25), work={})
    writer.write(0, photograph(), seconds=Fraction(0))
    out.write_bytes(b"another's")
    with pytest.raises(ImageError, match="exists"):
        writer.finish(start=Fraction(0), stop=Fraction(1))
    assert out.read_bytes() == b"another's"
