"""Large JPEGs that a network alone looks at are read smaller: which, when, how near they stay."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gpano import xmp
from PIL import Image
from tiny import save_tiny

from dptcli.cli import main
from dptcli.errors import ImageError
from dptcli.inputs.decode import decode_picture
from dptcli.inputs.reading import Wanted, about_of
from dptcli.panorama.wanted import Panoramas
from dptcli.pipeline import Options, open_pipeline
from dptcli.processing.processor import DPTImageProcessor

SAMPLES = Path(__file__).parents[2] / "sample_images"
ORIENTATION = 0x0112


def photograph(size=(1600, 1200), *, kind="JPEG", mode="RGB", turn=1, **save):
    """A sample photograph, enlarged, with a sensor's noise, as bytes."""
    picture = Image.open(SAMPLES / "garden.jpg").convert("RGB").resize(size)
    noise = np.random.default_rng(0).normal(0, 4, (size[1], size[0], 1))
    noisy = np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)
    exif, stream = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = turn
    Image.fromarray(noisy).convert(mode).save(stream, kind, exif=exif, quality=90, **save)
    return stream.getvalue()


def read(data, least=(300, 400)):
    """The picture of bytes where `least` is enough, and what is known of its sizes."""
    wanted = Wanted(enough=lambda _hw: least)
    picture = decode_picture(io.BytesIO(data), name="photo", wanted=wanted)
    about = about_of(picture)
    return picture, about.whole_hw, about.read_hw


@pytest.mark.parametrize(
    ("least", "read_hw"),
    [((150, 200), (150, 200)), ((151, 200), (300, 400)), ((301, 400), (600, 800))],
)
def test_the_smallest_size_that_is_enough_is_read(least, read_hw):
    picture, whole, found = read(photograph(), least)
    assert (whole, found) == ((1200, 1600), read_hw)
    assert picture.size == read_hw[::-1]


@pytest.mark.parametrize(
    ("data", "least"),
    [
        (photograph(), (601, 800)),
        (photograph((1602, 1201)), (300, 400)),  # divided, something would be left over
        (photograph(kind="PNG"), (300, 400)),
        (photograph(kind="WEBP"), (300, 400)),
        (photograph(xmp=xmp()), (300, 400)),
    ],
    ids=["near its size", "odd", "PNG", "WebP", "a panorama"],
)
def test_others_are_read_whole(data, least):
    picture, whole, found = read(data, least)
    assert (whole, found) == (None, None)
    assert picture.size == Image.open(io.BytesIO(data)).size


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_upright_and_its_sizes_are_so_too(turn):
    data = photograph((1600, 800), turn=turn)
    whole = decode_picture(io.BytesIO(data), name="photo")
    picture, whole_hw, read_hw = read(data, (whole.height // 4, whole.width // 4))
    assert whole_hw == (whole.height, whole.width)
    assert read_hw == (whole.height // 4, whole.width // 4)
    apart = np.abs(np.asarray(picture) - np.asarray(whole.reduce(4)).astype(float))
    assert apart.mean() < 1.5


@pytest.mark.parametrize("how", [{"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}], ids=str)
def test_every_kind_of_jpeg_is_read_smaller(how):
    data = photograph(**how)
    picture, _, read_hw = read(data)
    assert read_hw == (300, 400)
    whole = decode_picture(io.BytesIO(data), name="photo").reduce(4)
    assert np.abs(np.asarray(picture) - np.asarray(whole).astype(float)).mean() < 1.5


@pytest.mark.parametrize("page", [1, 2])
def test_a_picture_of_several_in_a_file_is_read_smaller(page):
    stream = io.BytesIO()
    both = [Image.open(io.BytesIO(photograph(kind="PNG"))), Image.new("RGB", (1600, 1200), "red")]
    both[0].save(stream, "MPO", save_all=True, append_images=both[1:], quality=90)
    stream.seek(0)
    wanted = Wanted(enough=lambda _hw: (300, 400), page=page)
    picture = decode_picture(stream, name="photo", wanted=wanted)
    assert about_of(picture).read_hw == (300, 400)
    apart = np.asarray(picture) - np.asarray(both[page - 1].reduce(4)).astype(float)
    assert np.abs(apart).mean() < 1.5


def test_a_file_without_its_end_is_no_more_whole_than_before():
    data = photograph()
    picture, whole_hw, _ = read(data[:-2])  # without the end mark alone all pixels are there
    assert (picture.size, whole_hw) == ((1600, 1200), None)
    with pytest.raises(ImageError, match="photo is damaged"):
        read(data[: len(data) // 2])


@pytest.mark.parametrize("size", [(2048, 1536), (1536, 2048), (4096, 3072)])
@pytest.mark.parametrize("keep", [False, True], ids=["384 x 384", "its sides"])
def test_what_the_network_sees_is_what_it_sees_of_the_whole(size, keep):
    data = photograph(size)
    processor = DPTImageProcessor(
        size={"height": 384, "width": 384}, keep_aspect_ratio=keep, ensure_multiple_of=32
    )
    whole = decode_picture(io.BytesIO(data), name="photo")
    wanted = Wanted(enough=processor.enough_hw)
    smaller = decode_picture(io.BytesIO(data), name="photo", wanted=wanted)
    exact = processor.prepare(whole)
    quick = processor.prepare(smaller, source_hw=about_of(smaller).whole_hw)
    assert smaller.width < whole.width
    assert quick.source_hw == exact.source_hw
    assert (quick.resized_hw, quick.padding) == (exact.resized_hw, exact.padding)
    levels = 255 * 0.5 * np.abs(quick.pixel_values - exact.pixel_values)  # image_std is 0.5
    assert levels.mean() < 0.6
    assert np.quantile(levels, 0.999) < 5


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = save_tiny(tmp_path_factory.mktemp("models") / "depth", task="depth")
    return open_pipeline(folder, task="depth", device="cpu")


def read_hw_of(pipeline, data, **options):
    return pipeline.with_options(Options(**options)).decode(data).about.read_hw


def test_on_a_cpu_pictures_are_read_whole_unless_told(pipeline):
    data = photograph()
    assert read_hw_of(pipeline, data) is None
    assert read_hw_of(pipeline, data, exact=True) is None
    assert read_hw_of(pipeline, data, exact=False) == (150, 200)


def test_on_a_gpu_it_is_the_other_way(pipeline):
    gpu = pipeline.with_options(Options())
    gpu.loaded = replace(gpu.loaded, device=torch.device("cuda"))
    data = photograph()
    assert gpu.decode(data).about.read_hw == (150, 200)
    assert read_hw_of(gpu, data, exact=True) is None


@pytest.mark.parametrize(
    "options",
    [{"keep_rgb": True}, {"tile": 300}, {"panoramas": Panoramas(all_are=True)}],
    ids=["the photograph is kept", "tiles", "panoramas"],
)
def test_where_all_pixels_are_looked_at_all_are_read(pipeline, options):
    size = (1600, 800) if "panoramas" in options else (1600, 1200)
    assert read_hw_of(pipeline, photograph(size), exact=False, **options) is None


def test_a_processor_of_its_own_kind_gets_the_whole_picture():
    from dptcli.model.families.depth_pro.processor import DepthProImageProcessor
    from dptcli.model.families.zoedepth.processor import ZoeDepthImageProcessor

    for processor in (DepthProImageProcessor(), ZoeDepthImageProcessor()):
        assert processor.enough_hw((3000, 4000)) == (3000, 4000)


def test_the_command_s_results_have_the_photograph_s_size_and_say_how_it_was_read(tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(photograph((2304, 1728), turn=6))
    maps = {}
    for word in (None, "--exact", "--no-exact"):
        out = tmp_path / f"out{word}"
        given = [
            str(photo),
            "-o",
            f"{out}/",
            "--format",
            "npy",
            "--device",
            "cpu",
            "--dtype",
            "float32",
        ]
        assert main(["depth", *given, *([word] if word else [])]) == 0
        maps[word] = np.load(out / "photo.npy")
        about = json.loads((out / "photo.json").read_text())
        assert about["source_hw"] == [2304, 1728]
        assert about.get("read_hw") == ([1152, 864] if word == "--no-exact" else None)
    exact, quick = maps["--exact"], maps["--no-exact"]
    assert np.array_equal(exact, maps[None])  # the default of a CPU
    assert exact.shape == quick.shape == (2304, 1728)
    apart = np.abs(exact - quick) / np.ptp(exact)
    assert 0 < apart.mean() < 0.005


def test_results_of_the_other_way_are_made_anew(tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(photograph())
    given = ["depth", str(photos), "-o", str(out), "--device", "cpu"]
    assert main(given) == 0
    first = (out / "a.png").read_bytes()
    assert main(given) == 0
    assert (out / "a.png").read_bytes() == first
    assert main([*given, "--no-exact"]) == 0
    assert (out / "a.png").read_bytes() != first


def test_both_words_at_once_are_refused(capsys):
    assert main(["depth", "photo.jpg", "-o", "depth.png", "--exact", "--no-exact"]) == 2
    assert "--exact and --no-exact contradict each other" in capsys.readouterr().err
