"""Numbers with what they count."""

import pytest

from dptcli.counted import counted


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1200, "1200 images")]
)
def test_one_of_a_thing_is_said_in_the_singular(number, words):
    assert counted(number, "image") == words


def test_a_plural_of_its_own_is_taken():
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]
