"""What a result says of its map."""

import numpy as np
import pytest

from dptcli.depth.facts import value_facts

VALUES = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


def test_a_map_of_numbers_says_its_size_and_range():
    assert value_facts(VALUES) == {"height": 2, "width": 3, "min": 1.0, "max": 6.0}


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_counted_and_left_out_of_the_range(odd):
    values = VALUES.copy()
    values[1, 1:] = odd
    found = {"height": 2, "width": 3, "min": 1.0, "max": 4.0, "num_nonfinite": 2}
    assert value_facts(values) == found


def test_a_map_without_any_number_has_an_empty_range():
    found = value_facts(np.full((2, 2), np.nan, np.float32))
    assert (found["min"], found["max"], found["num_nonfinite"]) == (0.0, 0.0, 4)
