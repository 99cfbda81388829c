"""A camera's newest frame, a file's frames in order; the range that follows slowly."""

import threading

import numpy as np
import pytest
from clips import number_in, numbered, write_clip

from dptcli.video.camera import Camera, NewestFrames
from dptcli.video.smoothing import SlowRange


class Capture:
    """What OpenCV has of a camera: frames whose pixels tell their number."""

    def __init__(self, number, *, lost=()):
        self.number, self.lost, self.at = number, lost, 0
        self.all_read, self.released = threading.Event(), threading.Event()

    def read(self):
        at, self.at = self.at, self.at + 1
        if at in self.lost:
            return False, None
        if at >= self.number:
            self.all_read.set()
            return False, None
        return True, np.full((2, 2, 3), (at, 100, 200), np.uint8)

    def release(self):
        self.released.set()


def test_a_slow_network_sees_the_newest_frame_and_the_older_ones_never():
    capture = Capture(200)
    frames = NewestFrames(capture)
    assert capture.all_read.wait(5)
    newest = frames.read(5)
    assert newest[0, 0].tolist() == [200, 100, 199]  # RGB of BGR
    assert frames.read(5) is None
    assert frames.ended
    assert capture.released.wait(5)


def test_no_frame_is_seen_twice():
    go_on = threading.Semaphore(0)

    class Slow(Capture):
        def read(self):
            go_on.acquire()
            return super().read()

    frames = NewestFrames(Slow(2))
    go_on.release()
    assert frames.read(5)[0, 0, 2] == 0
    assert frames.read(0.01) is None
    assert not frames.ended
    go_on.release()
    assert frames.read(5)[0, 0, 2] == 1
    go_on.release(100)
    assert frames.read(5) is None
    assert frames.ended


def test_a_camera_that_loses_a_frame_goes_on():
    capture = Capture(6, lost=range(1, 5))
    frames = NewestFrames(capture)
    assert capture.all_read.wait(5)
    assert frames.read(5)[0, 0, 2] == 5
    frames.close()
    assert capture.released.is_set()


def test_a_file_gives_every_frame_in_order(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", [numbered(number) for number in range(9)])
    with Camera(str(path)) as camera:
        assert camera.is_file
        seen = []
        while (frame := camera.frames.read(0)) is not None:
            seen.append(number_in(frame))
        assert camera.frames.ended
    assert seen == [*range(9)]


def test_a_live_range_follows_slowly_and_starts_anew_in_another_scene():
    slow = SlowRange()
    assert slow.next((0.0, 10.0)) == (0.0, 10.0)
    assert slow.next((1.0, 20.0)) == pytest.approx((0.1, 11.0))
    assert slow.next((0.0, 0.0)) == pytest.approx((0.1, 11.0))  # nothing in sight
    assert slow.next((50.0, 60.0)) == (50.0, 60.0)
