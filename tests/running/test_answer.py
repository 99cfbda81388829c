"""What a model's output says of each image: maps beside depth, and the camera."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dptcli.depth.lens import Lens
from dptcli.processing.processor import Prepared
from dptcli.running.answer import Answer, SeenCamera, answers_of

RNG = torch.Generator().manual_seed(0)


def prepared(source_hw, resized_hw, padding=(0, 0, 0, 0), *, pads_source=False):
    if pads_source:
        hw = resized_hw
    else:
        hw = (resized_hw[0] + sum(padding[:2]), resized_hw[1] + sum(padding[2:]))
    return Prepared(np.zeros((3, *hw), np.float32), source_hw, resized_hw, padding, pads_source)


def test_maps_beside_depth_are_found_by_name():
    depth, sky, sure = (torch.rand(2, 5, 7, generator=RNG) for _ in range(3))
    output = SimpleNamespace(predicted_depth=depth, sky=sky, confidence=sure)
    answers = answers_of(output, depth, network_hw=(10, 14))
    for place, answer in enumerate(answers):
        assert torch.equal(answer.depth, depth[place])
        assert torch.equal(answer.named("sky"), sky[place])
        assert torch.equal(answer.named("confidence"), sure[place])
        assert len(answer.inner) == 0
        assert answer.camera is None
    [alone] = answers_of(SimpleNamespace(), depth[:1], network_hw=(10, 14))
    assert alone.maps.shape == (5, 7)
    assert alone.named("sky") is None


def test_a_map_is_added_or_takes_the_place_of_its_name():
    depth, logits, sure = torch.rand(5, 7), torch.rand(3, 5, 7), torch.rand(5, 7)
    both = Answer(torch.cat((depth[None], logits))).with_map("confidence", sure)
    assert torch.equal(both.inner, logits)
    assert torch.equal(both.named("confidence"), sure)
    again = both.with_map("confidence", 1 - sure)
    assert again.maps.shape == both.maps.shape
    assert torch.equal(again.named("confidence"), 1 - sure)
    assert torch.equal(both.named("confidence"), sure)


def test_a_field_of_view_is_that_of_the_whole_photograph():
    output = SimpleNamespace(field_of_view=torch.tensor([60.0, 90.0]))
    _, wide = answers_of(output, torch.rand(2, 5, 5), network_hw=(384, 384))
    lens = wide.camera.lens(prepared((300, 400), (384, 384)))
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == pytest.approx((200, 200, 200, 150))
    assert lens.fov_deg[0] == pytest.approx(90)
    assert lens.origin == "the network"


@pytest.mark.parametrize(
    ("padding", "pads_source", "resized_hw"),
    [
        ((0, 0, 0, 0), False, (60, 84)),
        ((1, 3, 2, 5), False, (60, 84)),
        ((4, 6, 3, 9), True, (60, 80)),
    ],
    ids=["plain", "padded", "padded-before"],
)
def test_intrinsics_come_back_to_the_photographs_pixels(padding, pads_source, resized_hw):
    source_hw = (120, 168)
    shown = prepared(source_hw, resized_hw, padding, pads_source=pads_source)
    true = Lens(150.0, 140.0, 90.0, 55.0, source_hw, "")
    top, _, left, _ = padding
    if pads_source:
        down, across = (n / p for n, p in zip(shown.network_hw, shown.padded_hw, strict=True))
        seen = [[150 * across, 0, (90 + left) * across], [0, 140 * down, (55 + top) * down]]
    else:
        seen = [[75.0, 0, 45.0 + left], [0, 70.0, 27.5 + top]]
    pose = torch.rand(1, 3, 4, generator=RNG)
    output = SimpleNamespace(intrinsics=torch.tensor([[*seen, [0, 0, 1]]]), extrinsics=pose)
    [answer] = answers_of(output, torch.rand(1, 5, 7), network_hw=shown.network_hw)
    found = answer.camera.lens(shown)
    assert (found.fx, found.fy, found.cx, found.cy) == pytest.approx(
        (true.fx, true.fy, true.cx, true.cy), rel=1e-5
    )
    np.testing.assert_array_equal(answer.camera.extrinsics, pose[0].numpy())


def test_a_seen_camera_holds_at_any_size_of_the_input():
    lens = SeenCamera(fx=0.8, fy=1.1).lens(prepared((100, 200), (50, 100)))
    assert (lens.fx, lens.fy) == pytest.approx((160, 110))
    assert (lens.cx, lens.cy) == (100, 50)
