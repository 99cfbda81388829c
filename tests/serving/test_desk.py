"""The desk by itself: batches from what waits, one that fails among them, room, folders."""

import threading

import numpy as np
import pytest
from serving import photograph
from tiny import save_varied

from dptcli.cli.serve_orders import OrderReader
from dptcli.errors import ImageError
from dptcli.pipeline import Options, open_pipeline
from dptcli.serving.desk import Desk, refusal_of
from dptcli.serving.limits import Limits, RefusedError
from dptcli.serving.metrics import Metrics
from dptcli.serving.orders import Upload, safe_name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_varied(tmp_path_factory.mktemp("models") / "depth")


class Held:
    """A desk whose network waits until it is let go, and counts what it gets at once."""

    def __init__(self, folder):
        self.pipeline = open_pipeline(folder, task="depth", options=Options(batch_size=4))
        self.limits, self.metrics = Limits(room=8), Metrics()
        self.batches, self.broken = [], None
        self.begun, self.go = threading.Event(), threading.Event()
        run = self.pipeline.network.run

        def held(views):
            self.batches.append(len(views))
            self.begun.set()
            assert self.go.wait(30)
            if self.broken is not None and any(view.shape == self.broken for view in views):
                raise ImageError("this one cannot be seen")
            return run(views)

        self.pipeline.network.run = held
        reader = OrderReader({"depth": self.pipeline}, self.limits)
        self.desk = Desk(reader, [self.pipeline], limits=self.limits, metrics=self.metrics)

    def ask(self, seed, **options):
        ticket = self.desk.take()
        image = ticket.folder / "image"
        image.write_bytes(photograph(seed))
        given = [(name, value) for name, value in {"format": "npy", **options}.items()]
        self.desk.submit(ticket, Upload(task="depth", options=given, image=image, name="a.png"))
        return ticket

    def wait_for_waiting(self, number):
        while len(self.desk._ready) < number:
            threading.Event().wait(0.005)


@pytest.fixture
def held(folder):
    found = Held(folder)
    yield found
    found.go.set()
    found.desk.close()


def values(ticket):
    return np.load(ticket.future.result(timeout=30).path)


def test_what_waits_goes_through_the_network_together(held):
    first = held.ask(0)
    held.begun.wait(30)
    others = [held.ask(seed) for seed in range(1, 6)]
    held.wait_for_waiting(5)
    held.go.set()
    found = [values(ticket) for ticket in (first, *others)]
    assert held.batches == [1, 4, 1]
    again = held.ask(3)
    # The batch sums in another order than one image does.
    np.testing.assert_allclose(found[3], values(again), rtol=1e-4, atol=1e-5)
    assert not np.allclose(found[3], found[4], rtol=1e-3)


def test_requests_of_other_options_share_a_batch_and_keep_their_own(held):
    first = held.ask(0)
    held.begun.wait(30)
    small, plain = held.ask(1, **{"target-size": "12x16"}), held.ask(1)
    held.wait_for_waiting(2)
    held.go.set()
    values(first)
    assert (values(small).shape, values(plain).shape) == ((12, 16), (30, 40))
    assert held.batches == [1, 2]


def test_another_size_for_the_network_is_another_batch(held):
    first = held.ask(0)
    held.begun.wait(30)
    large, plain = held.ask(1, size="96"), held.ask(1)
    held.wait_for_waiting(2)
    held.go.set()
    values(first)
    assert not np.array_equal(values(large), values(plain))
    assert held.batches == [1, 1, 1]


def test_one_that_fails_in_a_batch_costs_no_other(held, caplog):
    first = held.ask(0)
    held.begun.wait(30)
    tickets = [held.ask(seed) for seed in (1, 2)]
    held.wait_for_waiting(2)
    seen = []
    run = held.pipeline.network.run

    def fails_together(views):
        seen.append(len(views))
        if len(views) > 1 or len(seen) == 3:
            raise ImageError("this one cannot be seen")
        return run(views)

    held.pipeline.network.run = fails_together
    held.go.set()
    values(first)
    assert values(tickets[0]).shape == (30, 40)
    with pytest.raises(ImageError, match="cannot be seen"):
        values(tickets[1])
    assert "trying one by one" in caplog.text


def test_what_nobody_waits_for_is_not_done(held):
    first = held.ask(0)
    held.begun.wait(30)
    left = held.ask(1)
    held.wait_for_waiting(1)
    left.cancel()
    held.go.set()
    values(first)
    with pytest.raises(RefusedError, match="given up"):
        values(left)
    assert held.batches == [1]


def test_a_folder_goes_when_work_and_answer_are_over_and_makes_room(held):
    ticket = held.ask(0)
    held.begun.wait(30)
    held.go.set()
    path = ticket.future.result(timeout=30).path
    assert path.exists()
    assert held.desk.num_taken == 1
    ticket.release()
    while held.desk.num_taken:
        threading.Event().wait(0.005)
    assert not ticket.folder.exists()


def test_there_is_room_for_so_many_and_no_more(held):
    tickets = [held.desk.take() for _ in range(8)]
    with pytest.raises(RefusedError, match="no room beside 8 images waiting") as refused:
        held.desk.take()
    assert (refused.value.status, refused.value.retry_s) == (503, 8)
    tickets[0].release()
    held.desk.take().release()
    for ticket in tickets[1:]:
        ticket.release()


def test_closing_finishes_what_was_handed_over(folder):
    held = Held(folder)
    tickets = [held.ask(seed) for seed in range(3)]
    held.go.set()
    held.desk.close()
    assert all(ticket.future.done() for ticket in tickets)
    assert not any(ticket.future.exception() for ticket in tickets)


def test_what_nobody_foresaw_is_500_in_one_line(caplog):
    refused = refusal_of(ValueError("first\nsecond"), name="a.png")
    assert (refused.status, refused.line) == (500, "a.png: unexpected ValueError: first")
    assert "a.png: unexpected ValueError" in caplog.text


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\my photo (1).JPG", "my photo (1).JPG"),
        (".hidden.png", "hidden.png"),
        ("", "image"),
        ("/", "image"),
        ("näh\n<b>.png", "näh__b_.png"),
        ("x" * 300 + ".jpeg", "x" * 80 + ".jpeg"),
    ],
)
def test_a_name_that_was_sent_becomes_a_plain_file_name(sent, kept):
    assert safe_name(sent) == kept
