"""The lens and the moving camera: what lies out of focus blurs, what is sharp keeps its edge."""

import numpy as np

from dptcli.training.lens import defocus, motion, photograph


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Stripes of 4 pixels at 1 m on the left half and 10 m on the right: RGB (64, 128, 3), m."""
    stripes = (np.arange(64)[:, None] // 4 % 2).repeat(128, axis=1)
    linear = stripes[..., None].repeat(3, axis=2).astype(np.float32)
    depth_m = np.where(np.arange(128) < 64, 1.0, 10.0)[None].repeat(64, axis=0)
    return linear, depth_m.astype(np.float32)


def contrast(linear: np.ndarray) -> tuple[float, float]:
    """The spread of the left and of the right half, off the border between them."""
    return float(linear[:, :48].std()), float(linear[:, 80:].std())


def test_only_what_is_out_of_focus_blurs() -> None:
    linear, depth_m = scene()
    near, far = contrast(defocus(linear, depth_m, focus_m=1.0, strength=12.0))
    assert near > 0.49
    assert far < 0.2
    near, far = contrast(defocus(linear, depth_m, focus_m=10.0, strength=12.0))
    assert near < 0.2
    assert far > 0.49


def test_the_sky_blurs_with_a_near_focus() -> None:
    linear, depth_m = scene()
    depth_m[:, 64:] = 0
    assert contrast(defocus(linear, depth_m, focus_m=1.0, strength=12.0))[1] < 0.2


def test_blur_keeps_the_amount_of_light() -> None:
    linear, depth_m = scene()
    blurred = defocus(linear, depth_m, focus_m=3.0, strength=10.0)
    moved = motion(linear, depth_m, shift_px=(3.0, 2.0), near_px=0.0)
    for out in (blurred, moved):
        np.testing.assert_allclose(out.mean(), linear.mean(), rtol=0.03)


def test_an_advancing_camera_moves_near_things_more() -> None:
    linear, depth_m = scene()
    near, far = contrast(motion(linear, depth_m, shift_px=(0.0, 0.0), near_px=12.0)[:20])
    assert near < 0.8 * far


def test_a_turning_camera_moves_everything() -> None:
    linear, depth_m = scene()
    near, far = contrast(motion(linear, depth_m, shift_px=(0.0, 4.0), near_px=0.0))
    assert max(near, far) < 0.3


def test_the_same_state_photographs_alike() -> None:
    linear, depth_m = scene()
    outs = [photograph(linear, depth_m, np.random.default_rng(seed)) for seed in range(40)]
    again = [photograph(linear, depth_m, np.random.default_rng(seed)) for seed in range(40)]
    assert all((a == b).all() for a, b in zip(outs, again, strict=True))
    changed = sum(bool((out != linear).any()) for out in outs)
    assert 5 <= changed <= 25
