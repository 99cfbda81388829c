"""Damaged files: bytes flipped, cut, doubled and zeroed; an array or an ImageError comes out."""

import time

import numpy as np
import pytest
from damaged import SEEDS, damaged

from dptcli.errors import ImageError
from dptcli.inputs.find import decode_image

CASES_PER_SEED = 150
MAX_PIXELS = 4_000_000  # a flipped bit in a size would else cost seconds, not correctness
MAX_SECONDS = 5.0  # a case takes milliseconds; this stands for "it does not hang" on any machine


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files_give_an_array_or_an_image_error(name, capfd):
    rng = np.random.default_rng(sorted(SEEDS).index(name))
    refusals = []
    for case in range(CASES_PER_SEED):
        data = damaged(SEEDS[name], rng)
        started_s = time.perf_counter()
        try:
            pixels = decode_image(data, max_pixels=MAX_PIXELS)
        except ImageError as error:
            refusals.append(str(error))
        else:
            assert pixels.dtype == np.uint8, case
            assert pixels.ndim == 3, case
            assert pixels.shape[2] == 3, case
            assert pixels.size > 0, case
        assert time.perf_counter() - started_s < MAX_SECONDS, case
    assert refusals  # the wounds are deep enough to matter
    for message in refusals:
        assert message.startswith("the image given as bytes ")
        assert message.isprintable()
    printed = capfd.readouterr()
    assert printed.out == ""
    # libtiff, in C, complains on standard error by itself, and there is no switch in Pillow.
    assert printed.err == "" or name.startswith("tiff")


@pytest.mark.parametrize("name", SEEDS)
def test_the_undamaged_file_decodes(name):
    assert sorted(decode_image(SEEDS[name]).shape) == [3, 60, 80]


@pytest.mark.parametrize("name", SEEDS)
def test_every_cut_of_the_header_is_refused_or_decoded(name):
    data = SEEDS[name]
    for length in [*range(64), *range(64, len(data), max(1, len(data) // 40))]:
        try:
            assert decode_image(data[:length], max_pixels=MAX_PIXELS).ndim == 3
        except ImageError:
            continue
