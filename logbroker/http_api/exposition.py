"""Plain counters as Prometheus metrics, made at scrape time.

What lives here: the collector over ``Metrics`` and the gauges of topics. Invariant: nothing is kept between scrapes and
the hot path never sees a lock of the client library. Labels name topics, never partitions.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from logbroker.broker.services import Services
from logbroker.engine.api import TopicInfo
from logbroker.errors import PartitionDamaged, UnknownTopicOrPartition
from logbroker.metrics import Gauge, Histogram, Metrics
from logbroker.model import TopicPartition

PREFIX = "logbroker_"
_PARTITIONS_PER_SLICE = 500


class TopicSample(NamedTuple):
    """The sums over the partitions of a topic that are not damaged, offsets included; None where the engine cannot tell."""

    topic: str
    log_start_offset: int
    high_watermark: int
    segments: int | None
    size_bytes: int | None
    damaged_partitions: int


async def topic_samples(services: Services) -> list[TopicSample]:
    """A sample of every topic, taken in slices so that the loop is not held."""
    samples: list[TopicSample] = []
    for info in services.engine.topics():
        samples.append(await _sample(services, info))
        await asyncio.sleep(0)
    return samples


async def _sample(services: Services, info: TopicInfo) -> TopicSample:
    storage = services.engine.storage
    start = end = segments = size = damaged = 0
    for number in range(info.partitions):
        where = TopicPartition(info.name, number)
        try:
            bounds = await services.engine.bounds(where)
            if storage is not None:
                segments, size = segments + len(storage.segments(where)), size + storage.size_bytes(where)
        except PartitionDamaged:
            damaged += 1
        except UnknownTopicOrPartition:
            break
        else:
            start, end = start + bounds.log_start_offset, end + bounds.high_watermark
        if number % _PARTITIONS_PER_SLICE == _PARTITIONS_PER_SLICE - 1:
            await asyncio.sleep(0)
    known = storage is not None
    return TopicSample(info.name, start, end, segments if known else None, size if known else None, damaged)


class BrokerCollector(Collector):
    """One scrape."""

    def __init__(self, services: Services, topics: list[TopicSample]) -> None:
        self._services = services
        self._topics = topics

    def collect(self) -> Iterable[Metric]:
        """All families."""
        yield from self._process()
        yield from _declared(self._services.metrics)
        yield from self._of_topics()

    def _process(self) -> Iterator[Metric]:
        services = self._services
        build = GaugeMetricFamily(f"{PREFIX}build_info", "The version.", labels=["version"])
        build.add_metric([services.facts.version], 1)
        yield build
        yield GaugeMetricFamily(f"{PREFIX}up", "1 while the process runs.", value=1)
        yield GaugeMetricFamily(f"{PREFIX}ready", "1 while /readyz says so.", value=int(services.lifecycle.ready))
        uptime = (services.clock.now().wall_ms - services.facts.started_ms) / 1000
        yield GaugeMetricFamily(f"{PREFIX}uptime_seconds", "Time since the start.", value=uptime)

    def _of_topics(self) -> Iterator[Metric]:
        docs = {
            "log_start_offset": "Log start offsets, summed over partitions.",
            "high_watermark": "High watermarks, summed over partitions.",
            "segments": "Segments.",
            "size_bytes": "Bytes of log files.",
            "damaged_partitions": "Partitions that cannot be read because their files are damaged.",
        }
        for field, doc in docs.items():
            family = GaugeMetricFamily(f"{PREFIX}topic_{field}", doc, labels=["topic"])
            for sample in self._topics:
                value: int | None = getattr(sample, field)
                if value is not None:
                    family.add_metric([sample.topic], value)
            yield family


def _declared(metrics: Metrics) -> Iterator[Metric]:
    for metric in metrics:
        name = PREFIX + metric.name
        if isinstance(metric, Histogram):
            yield _histogram(name, metric)
        elif isinstance(metric, Gauge):
            gauge = GaugeMetricFamily(name, metric.doc, labels=metric.labels)
            for labels, value in metric.samples().items():
                gauge.add_metric(labels, value)
            yield gauge
        else:
            counter = CounterMetricFamily(name, metric.doc, labels=metric.labels)
            for labels, value in metric.values.items():
                counter.add_metric(labels, value)
            yield counter


def _histogram(name: str, metric: Histogram) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, metric.doc, labels=metric.labels)
    bounds = [*(str(bound) for bound in metric.buckets), "+Inf"]
    for labels, (counts, total) in metric.series.items():
        running = 0
        buckets = []
        for bound, count in zip(bounds, counts, strict=True):
            running += count
            buckets.append((bound, running))
        family.add_metric(labels, buckets, total[0])
    return family
