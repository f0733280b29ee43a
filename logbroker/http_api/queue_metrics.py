"""Queues as Prometheus metrics, made at scrape time.

What lives here: samples of queues and their families; what is counted as it happens are plain counters of the dispatchers.
Invariants: labels name queues, never partitions or messages; a scrape answers while a queue is deleted, without it.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from logbroker.broker.services import Services
from logbroker.errors import LogbrokerError
from logbroker.http_api.exposition import PREFIX
from logbroker.http_api.queues import ACTIVE_MS
from logbroker.queues.dispatcher.size import Counts
from logbroker.queues.peeks import MessageState


class QueueSample(NamedTuple):
    """One queue."""

    queue: str
    counts: Counts
    oldest_age_ms: int
    consumers: int
    unreadable: int


async def queue_samples(services: Services) -> list[QueueSample]:
    """A sample of every queue, one after the other so that the loop is not held."""
    samples: list[QueueSample] = []
    since = services.clock.now().wall_ms - ACTIVE_MS
    for queue in services.queues.list():
        try:
            counts, age_ms = await queue.size.counts(), await queue.size.oldest_age_ms()
        except LogbrokerError:
            continue
        consumers = queue.tally.active_since(since)
        unreadable = sum(partition.unreadable for partition in queue.partitions)
        samples.append(QueueSample(queue.definition.name, counts, age_ms, consumers, unreadable))
        await asyncio.sleep(0)
    return samples


class QueueCollector(Collector):
    """One scrape."""

    def __init__(self, samples: list[QueueSample]) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        """All families."""
        yield self._messages()
        yield from self._gauges()

    def _messages(self) -> Metric:
        family = GaugeMetricFamily(f"{PREFIX}queue_messages", "Messages by state.", labels=["queue", "state"])
        for sample in self._samples:
            for state in MessageState:
                count: int = getattr(sample.counts, state.value)
                family.add_metric([sample.queue, state.value], count)
        return family

    def _gauges(self) -> Iterator[Metric]:
        families: tuple[tuple[str, str, Callable[[QueueSample], float]], ...] = (
            ("queue_oldest_age_seconds", "Age of the oldest message that is not done.", lambda s: s.oldest_age_ms / 1_000),
            ("queue_parked_messages", "Ready messages behind an earlier one of their key.", lambda s: s.counts.parked),
            ("queue_consumers", "Consumers seen within a minute.", lambda s: s.consumers),
            ("queue_unreadable_batches", "Malformed record batches passed over since the start.", lambda s: s.unreadable),
        )
        for name, doc, read in families:
            family = GaugeMetricFamily(PREFIX + name, doc, labels=["queue"])
            for sample in self._samples:
                family.add_metric([sample.queue], read(sample))
            yield family
