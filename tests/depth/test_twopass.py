"""Two passes over a run: between them all that a prediction has of every pixel waits on disk."""

from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from dptcli.depth.depthmap import DepthMap
from dptcli.depth.rawfiles import write_npz
from dptcli.depth.twopass import Spooled
from dptcli.pipeline import Prediction

# What no such run has: --range global keeps no photographs, classes and poses of a scene.
NEVER = {"rgb", "scores", "labels", "extrinsics"}


def test_memory_holds_no_map_of_a_photograph_that_waits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    maps = {
        "values": rng.random((4, 6), np.float32),
        "confidence": rng.random((4, 6), np.float32),
        "sky": rng.random((4, 6)) > 0.5,
        "normals": rng.random((3, 4, 6), np.float32),
    }
    drawn = {field.name for field in fields(Prediction) if "ndarray" in str(field.type)}
    assert drawn == {*maps, *NEVER}, "a further map must wait on disk too"
    item = Spooled.at(tmp_path / "0.npz", Prediction(**maps, source_hw=(40, 60)))
    assert not any(isinstance(getattr(item.prediction, name), np.ndarray) for name in drawn)
    again = item.whole()
    assert again.source_hw == (40, 60)
    for name, values in maps.items():
        found = getattr(again, name)
        np.testing.assert_array_equal(found, values)
        assert found.dtype == values.dtype
    assert not any(tmp_path.iterdir())

    bare = Spooled.at(tmp_path / "1.npz", Prediction(maps["values"])).whole()
    assert (bare.sky, bare.confidence, bare.normals) == (None, None, None)


def test_arrays_alone_are_named_to_numpy_whose_older_versions_keep_options_as_arrays_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def saved(_stream: Path | BinaryIO, **arrays: object) -> None:
        assert all(isinstance(array, np.ndarray) for array in arrays.values()), [*arrays]

    values = np.ones((4, 6), np.float32)
    monkeypatch.setattr(np, "savez", saved)
    Spooled.at(tmp_path / "0.npz", Prediction(values))
    monkeypatch.setattr(np, "savez_compressed", saved)
    facts = write_npz(BytesIO(), DepthMap(values, "depth_m", (1.0, 1.0)))
    assert facts["arrays"] == ["depth_m", "depth"]
