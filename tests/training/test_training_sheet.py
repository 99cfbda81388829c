"""The sheet of photographs, depth and classes."""

from pathlib import Path

import pytest
from PIL import Image
from shared_backbone import PHOTO, saved

from dptcli.training.sheet import main


def test_every_photograph_gets_a_column_of_three(tmp_path: Path) -> None:
    saved(tmp_path / "depth", "depth")
    saved(tmp_path / "segment", "segment")
    photos = [tmp_path / "a.png", tmp_path / "b.png"]
    for photo in photos:
        Image.fromarray(PHOTO).save(photo)
    models = [
        "--depth-model",
        str(tmp_path / "depth"),
        "--segment-model",
        str(tmp_path / "segment"),
    ]
    out = tmp_path / "sheet.jpg"
    assert main([*map(str, photos), "-o", str(out), *models, "--height", "40"]) == 0
    with Image.open(out) as sheet:
        assert sheet.size == (2 * 61 + 6, 3 * 40 + 2 * 6)


def test_a_photograph_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none.png"), "-o", str(tmp_path / "sheet.jpg")]) == 2
    assert "none.png" in capsys.readouterr().err
