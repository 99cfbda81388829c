"""What a server counts, for Prometheus."""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dptcli.records.report import Clock

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counts of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "dpt_requests",
            "Requests for a result, by task and by status of HTTP (499: the client left)",
            ["task", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "dpt_request_seconds",
            "From the first byte of an answered request to its result",
            ["task"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "dpt_batch_images",
            "Images that went through the network at once",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )

    def follow(self, clocks: Sequence[Clock], num_taken: Callable[[], int], *, room: int) -> None:
        """Report the desk's load and the pipelines' time by stage too."""
        self.registry.register(_Followed(clocks, num_taken, room))

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)


class _Followed(Collector):
    def __init__(self, clocks: Sequence[Clock], num_taken: Callable[[], int], room: int) -> None:
        self._clocks, self._num_taken, self._room = clocks, num_taken, room

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "dpt_images_taken", "Images taken in and not answered yet", value=self._num_taken()
        )
        yield GaugeMetricFamily("dpt_room", "Images that may be taken in at once", value=self._room)
        stages = CounterMetricFamily(
            "dpt_stage_seconds", "Busy seconds by stage of the work", labels=["stage"]
        )
        for stage in self._clocks[0].seconds:
            spent = sum(clock.seconds[stage] for clock in self._clocks)
            stages.add_metric([stage], spent)
        yield stages
