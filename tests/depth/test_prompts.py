"""--prompt: the sensor's map of each photograph is found by its name, read and completed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dptcli.depth.depthmap import DepthMap
from dptcli.depth.measured import read_metres
from dptcli.depth.prompts import Prompts
from dptcli.depth.rawfiles import write_confidence, write_png16, write_tiff
from dptcli.errors import ImageError, UsageError
from dptcli.inputs.find import ImageSource, find_images


def save_png(path: Path, millimetres: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(millimetres.astype(np.uint16)).save(path)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, ImageSource]:
    """Three photographs, by what their prompts are called."""
    for name in ("a.jpg", "sub/b.c.png", "sub/d.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(path)
    found = find_images([tmp_path / "photos"])
    return {source.relative.with_suffix("").as_posix(): source for source in found}


def test_a_folder_mirrors_the_photographs(tmp_path: Path, sources: dict[str, ImageSource]) -> None:
    save_png(tmp_path / "lidar" / "a.png", np.full((3, 4), 1500))
    np.save(tmp_path / "lidar" / "a.npy", np.full((3, 4), 2.5))  # floats go before levels
    save_png(tmp_path / "lidar" / "sub" / "b.c.png", np.full((3, 4), 1500))
    prompts = Prompts(str(tmp_path / "lidar"))
    np.testing.assert_array_equal(prompts.read(sources["a"]).depth_m, np.float32(2.5))
    np.testing.assert_array_equal(prompts.read(sources["sub/b.c"]).depth_m, np.float32(1.5))
    with pytest.raises(ImageError, match=r"lidar/sub/d\.png does not exist"):
        prompts.read(sources["sub/d"])


def test_a_pattern_has_the_photographs_name(
    tmp_path: Path, sources: dict[str, ImageSource]
) -> None:
    save_png(tmp_path / "scans" / "sub" / "d" / "depth.png", np.full((3, 4), 512))
    prompts = Prompts(str(tmp_path / "scans" / "{name}" / "depth.png"), levels_per_metre=256)
    prompt = prompts.read(sources["sub/d"])
    np.testing.assert_array_equal(prompt.depth_m, np.float32(2))
    assert not prompts.is_one_file
    with pytest.raises(ImageError, match="no prompt"):
        prompts.read(sources["a"])


def test_millimetres_become_the_references_metres_to_the_bit(
    tmp_path: Path, sources: dict[str, ImageSource]
) -> None:
    millimetres = np.arange(1, 60_001).reshape(200, 300)
    save_png(tmp_path / "lidar.png", millimetres)
    prompt = Prompts(str(tmp_path / "lidar.png")).read(sources["a"])
    np.testing.assert_array_equal(prompt.depth_m, (millimetres * 0.001).astype(np.float32))
    assert prompt.facts["prompt_measured"] == 1


def test_gaps_are_filled_and_told_of(tmp_path: Path, sources: dict[str, ImageSource]) -> None:
    depth = np.full((10, 10), 2000)
    depth[2:7] = 0
    save_png(tmp_path / "lidar.png", depth)
    prompts = Prompts(str(tmp_path / "lidar.png"))
    assert prompts.is_one_file
    prompt = prompts.read(sources["a"])
    np.testing.assert_allclose(prompt.depth_m, 2, rtol=1e-6)
    assert prompt.facts == {
        "prompt": str(tmp_path / "lidar.png"),
        "prompt_hw": [10, 10],
        "prompt_measured": 0.5,
    }


def test_a_digest_follows_the_content(tmp_path: Path, sources: dict[str, ImageSource]) -> None:
    save_png(tmp_path / "lidar.png", np.full((3, 4), 1500))
    prompts = Prompts(str(tmp_path / "lidar.png"))
    before = prompts.digest(sources["a"])
    save_png(tmp_path / "lidar.png", np.full((3, 4), 1501))
    assert len({before, prompts.digest(sources["a"]), ""}) == 3
    (tmp_path / "lidar.png").unlink()
    assert prompts.digest(sources["a"]) == ""


def test_what_is_no_depth_in_metres_is_refused_by_name(
    tmp_path: Path, sources: dict[str, ImageSource]
) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "colours.png")
    np.savez(tmp_path / "relative.npz", inverse_depth=np.ones((3, 4), np.float32))
    save_png(tmp_path / "empty.png", np.zeros((3, 4)))
    for name, said in (
        ("colours.png", "colour picture"),
        ("relative.npz", "inverse_depth"),
        ("empty.png", "no measured pixel"),
    ):
        with pytest.raises(ImageError, match=said) as caught:
            Prompts(str(tmp_path / name)).read(sources["a"])
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("where", "said"), [("no/such.png", "does not exist"), ("s3://bucket/maps", "download")]
)
def test_a_place_that_holds_no_map_is_refused(where: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Prompts(where)


def test_our_own_maps_that_are_no_metres_are_refused(tmp_path: Path) -> None:
    values = np.linspace(1, 4, 12, dtype=np.float32).reshape(3, 4)
    sure = values / 4
    for kind, writer, said in (
        ("depth", write_png16, "holds depth without a scale, not depth in metres"),
        ("depth", write_tiff, "holds depth without a scale"),
        ("height_m", write_tiff, "holds height_m"),
        ("depth_m", write_confidence, "holds confidence"),
    ):
        facts = {"dpt": "1", "kind": kind}
        depth = DepthMap(values, kind, (1.0, 4.0), confidence=sure, facts=facts)
        path = tmp_path / ("map.tiff" if writer is write_tiff else "map.png")
        with path.open("wb") as stream:
            writer(stream, depth)
        with pytest.raises(ImageError, match=said):
            read_metres(path, levels_per_metre=1000)
    # Somebody else's archive of metres may call them that.
    np.savez(tmp_path / "theirs.npz", depth=values)
    np.testing.assert_array_equal(read_metres(tmp_path / "theirs.npz", levels_per_metre=1), values)
