"""The desk: takes orders in as long as there is room, and gathers them for the network.

Readers decode and prepare, one thread runs the network on batches of one shape that it finds
waiting, writers finish and save. The stages are the pipeline's own.
"""

import logging
import math
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dptcli.counted import counted
from dptcli.errors import DptError, ImageError, PixelLimitError, TooLargeError, UsageError
from dptcli.pipeline import Pipeline
from dptcli.processing.target_size import target_hw
from dptcli.running.seen import Sample
from dptcli.serving.answers import Answer, pack
from dptcli.serving.limits import Limits, RefusedError
from dptcli.serving.orders import Order, ReadOrder, Ticket, Upload

if TYPE_CHECKING:
    from dptcli.running.answer import Answer as Output
    from dptcli.serving.metrics import Metrics

logger = logging.getLogger(__name__)

_MOST_ON_GPU = 32  # see running.batches


@dataclass
class _Piece:
    """An order under way."""

    ticket: Ticket
    upload: Upload
    order: Order
    sample: Sample

    @property
    def key(self) -> tuple[object, ...]:
        """What may go through the network at once is equal in this."""
        pipeline, tiled = self.order.pipeline, self.sample.tile_hw is not None
        return id(pipeline.network), pipeline.options.confidence, tiled, self.sample.shape


class Desk:
    """Takes uploads and gives answers, from any thread.

    pipelines: those whose networks do the work, for how many images they take at once.
    """

    def __init__(
        self,
        read_order: ReadOrder,
        pipelines: list[Pipeline],
        *,
        limits: Limits,
        metrics: "Metrics",
    ) -> None:
        self._read_order, self._limits, self._metrics = read_order, limits, metrics
        self._temporary = tempfile.TemporaryDirectory(prefix="dpt-serve-")
        self._num_taken = self._num_begun = 0
        self._image_s = 1.0  # what an image takes the network, lately
        self._is_closing = False
        self._ready: deque[_Piece] = deque()
        self._changed = threading.Condition()
        first = pipelines[0]
        self._readers = ThreadPoolExecutor(first.num_readers, "dpt-read")
        self._writers = ThreadPoolExecutor(first.num_writers, "dpt-write")
        wanted = first.sizes.wanted
        on_gpu = first.loaded.device.type == "cuda"
        most = (_MOST_ON_GPU if on_gpu else 1) if wanted == "auto" else wanted
        # Decoded photographs are what takes memory: those of a batch, and some before and behind.
        self._decoded = threading.Semaphore(most + first.num_readers + first.num_writers)
        self._network = threading.Thread(target=self._run_network, name="dpt-network")
        self._network.start()

    @property
    def num_taken(self) -> int:
        """Requests that are taken in and not answered yet."""
        return self._num_taken

    @property
    def num_begun(self) -> int:
        """Requests that were ever taken in."""
        return self._num_begun

    def take(self) -> Ticket:
        """Take a request in, before its upload. Raises RefusedError where there is no room."""
        with self._changed:
            if self._num_taken >= self._limits.room:
                wait_s = max(1, min(60, math.ceil(self._num_taken * self._image_s)))
                raise RefusedError(
                    503,
                    f"no room beside {counted(self._num_taken, 'image')} waiting; come again in "
                    f"{wait_s} s",
                    retry_s=wait_s,
                )
            self._num_taken += 1
            self._num_begun += 1
            folder = Path(self._temporary.name) / f"{self._num_begun:08d}"
        folder.mkdir()
        return Ticket(folder, self._let_go)

    def _let_go(self) -> None:
        with self._changed:
            self._num_taken -= 1

    def submit(self, ticket: Ticket, upload: Upload) -> None:
        """Do an upload; the ticket's future gets its Answer, or whatever went wrong."""
        ticket.hand_over()
        ticket.future.set_running_or_notify_cancel()  # from here on nobody can cancel it
        self._readers.submit(self._prepare, ticket, upload)

    def close(self) -> None:
        """Finish what was taken in, and end."""
        self._readers.shutdown(wait=True)
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._network.join()
        self._writers.shutdown(wait=True)
        self._temporary.cleanup()

    # --- reading ---------------------------------------------------------------------------------

    def _prepare(self, ticket: Ticket, upload: Upload) -> None:
        self._decoded.acquire()
        try:
            if ticket.is_cancelled:
                self._end(ticket, RefusedError(503, "given up before it was begun"))
                return
            order = self._read_order(upload, ticket.folder / "out")
            sample = order.pipeline.decode(order.job.source)
            self._check_result(order, sample)
        except BaseException as error:
            self._end(ticket, error)
            return
        with self._changed:
            self._ready.append(_Piece(ticket, upload, order, sample))
            self._changed.notify_all()

    def _check_result(self, order: Order, sample: Sample) -> None:
        source_hw = sample.prepared.source_hw
        network_hw = sample.prepared.network_hw
        seen = sample.overview or sample.prepared
        seen_h, seen_w = seen.padded_hw
        if seen_h * seen_w > self._limits.max_side**2:
            raise PixelLimitError(
                f"size: {seen_w} × {seen_h} pixels for the network are above the limit of "
                f"{self._limits.max_side**2:,}; ask for a smaller one"
            )
        height, width = target_hw(source_hw, network_hw, order.pipeline.options.target_size)
        if height * width > self._limits.max_pixels:
            raise PixelLimitError(
                f"target-size: a result of {width} × {height} pixels is above the limit of "
                f"{self._limits.max_pixels:,}; ask for a smaller one"
            )

    # --- the network -----------------------------------------------------------------------------

    def _run_network(self) -> None:
        while batch := self._next_batch():
            self._metrics.batches.observe(len(batch))
            started = time.perf_counter()
            self._predict(batch)
            each_s = (time.perf_counter() - started) / len(batch)
            self._image_s = 0.8 * self._image_s + 0.2 * each_s

    def _next_batch(self) -> list[_Piece]:
        """The piece that waits longest, and others of its shape; nothing when all is over."""
        with self._changed:
            while True:
                for piece in [piece for piece in self._ready if piece.ticket.is_cancelled]:
                    self._ready.remove(piece)
                    self._end(piece.ticket, RefusedError(503, "given up before it was begun"))
                if self._ready:
                    break
                if self._is_closing:
                    return []
                self._changed.wait()
            first = self._ready[0]
            most = first.order.pipeline.sizes.of(first.sample.shape)
            batch = [piece for piece in self._ready if piece.key == first.key][:most]
            for piece in batch:
                self._ready.remove(piece)
            return batch

    def _predict(self, batch: list[_Piece]) -> None:
        """Run a batch; where that fails, each image by itself, so that one cannot sink others."""
        try:
            outputs = batch[0].order.pipeline.predict([piece.sample for piece in batch])
        except Exception as error:
            if len(batch) == 1:
                self._end(batch[0].ticket, error)
                return
            logger.warning("a batch of %d failed (%s); trying one by one", len(batch), error)
            for piece in batch:
                self._predict([piece])
            return
        for piece, output in zip(batch, outputs, strict=True):
            self._writers.submit(self._finish, piece, output)

    # --- writing ---------------------------------------------------------------------------------

    def _finish(self, piece: _Piece, output: "Output") -> None:
        try:
            order, folder = piece.order, piece.ticket.folder
            prediction = order.pipeline.finish(output, piece.sample)
            with order.pipeline.clock.stage("write"):
                facts = order.save(order.job, prediction)
                height, width = prediction.values.shape
                facts = {"height": height, "width": width, **facts}
                if piece.sample.about.notes:
                    facts = {**facts, "notes": list(piece.sample.about.notes)}
                answer = pack(
                    order.job,
                    facts,
                    folder=folder,
                    results=folder / "out",
                    as_zip=piece.upload.as_zip,
                )
        except BaseException as error:
            self._end(piece.ticket, error)
            return
        self._end(piece.ticket, answer)

    def _end(self, ticket: Ticket, found: Answer | BaseException) -> None:
        self._decoded.release()
        if isinstance(found, Answer):
            ticket.future.set_result(found)
        else:
            ticket.future.set_exception(found)
        ticket.release()


def refusal_of(error: BaseException, *, name: str) -> RefusedError:
    """What a request hears of an error; what nobody foresaw is logged."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, PixelLimitError):
        message = str(error).partition("; raise it with")[0]
        remedy = "" if ";" in message else "; send a smaller one"
        return RefusedError(413, f"{message}{remedy}")
    if isinstance(error, TooLargeError):
        return RefusedError(413, f"{name}: {error}")
    if isinstance(error, ImageError | UsageError):
        return RefusedError(422, str(error))
    if isinstance(error, DptError):
        logger.error("%s: %s", name, error)
        return RefusedError(500, str(error))
    logger.error("%s: unexpected %s: %s", name, type(error).__name__, error)
    logger.debug("%s", name, exc_info=error)
    first_line = (str(error).splitlines() or [""])[0]
    return RefusedError(500, f"{name}: unexpected {type(error).__name__}: {first_line}")
