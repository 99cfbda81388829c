"""Maps that are continued ring by ring."""

import torch

from dptcli.processing.rings import grow


def test_each_ring_is_the_mean_of_the_neighbours_that_are_known() -> None:
    values = torch.full((5, 6), torch.nan)
    known = torch.zeros(5, 6, dtype=torch.bool)
    values[2, 0], values[2, 1], known[2, :2] = 1.0, 3.0, True
    grown, is_known = grow(values, known, 2)
    within_two = torch.arange(6).expand(5, 6) < 4
    assert torch.equal(is_known, within_two), "a ring is a pixel wide"
    # The second ring, from the fourth column on, sees the first, whose pixels beside it are 3 each.
    assert [float(grown[place]) for place in ((1, 0), (1, 2), (2, 3))] == [2.0, 3.0, 3.0]
    assert grown[2, :2].tolist() == [1.0, 3.0], "what is known stays"
    assert not grown[:, 4:].any()


def test_nothing_grows_over_a_border() -> None:
    known = torch.zeros(5, 6, dtype=torch.bool)
    known[:, 0] = True
    within = torch.ones(5, 6, dtype=torch.bool)
    within[:, 3:] = False
    _, is_known = grow(torch.ones(5, 6), known, 5, within=within)
    assert torch.equal(is_known, within)
