"""The publishers' own numbers, where the real checkpoints are at hand.

DPT_CHECKPOINTS names a folder that holds the repositories (Intel/dpt-large/…, or dpt-large/…) and
000000039769.jpg of COCO val2017.
"""

import os
from pathlib import Path

import pytest
import torch

from dptcli.inputs.find import decode_image
from dptcli.weights.catalog import CATALOG, CatalogEntry
from dptcli.weights.load import load_model
from dptcli.weights.verify import known_numbers, predict

KNOWN = [entry for entry in CATALOG if entry.known is not None]


@pytest.mark.parametrize("entry", KNOWN, ids=lambda entry: entry.name)
def test_the_publishers_numbers_come_out(entry: CatalogEntry) -> None:
    root = os.environ.get("DPT_CHECKPOINTS")
    if not root:
        pytest.skip("DPT_CHECKPOINTS does not name a folder with the real checkpoints")
    images = sorted(Path(root).glob("000000039769.*"))
    folders = [Path(root) / str(entry.repository), Path(root) / entry.name]
    folder = next((path for path in folders if path.is_dir()), None)
    if folder is None or not images:
        pytest.skip(f"{root} does not hold {entry.repository} and 000000039769.jpg")
    assert entry.known is not None
    loaded = load_model(folder, task=entry.task, device="cpu", dtype="float32")
    check = known_numbers(predict(loaded, decode_image(images[0])), entry.known)
    assert check.passed, check.seen


@pytest.mark.parametrize(
    ("first", "shape", "passes"),
    [
        ((564.37, 561.46, 565.11), (1, 384, 384), True),
        ((564.37, 561.46, 575.11), (1, 384, 384), False),
        ((564.37, 561.46, 565.11), (1, 384, 512), False),
    ],
    ids=["as published", "another value", "another shape"],
)
def test_an_output_is_compared_with_the_known_numbers(
    first: tuple[float, ...], shape: tuple[int, ...], passes: bool
) -> None:
    known = next(entry.known for entry in KNOWN if entry.name == "hybrid-midas")
    assert known is not None
    output = torch.zeros(shape)
    output[0, 0, :3] = torch.tensor(first)
    assert known_numbers(output, known).passed is passes
