"""Queues and subscriptions as Prometheus metrics, made at scrape time.

What lives here: samples of views and their families; what is counted as it happens are plain counters of the dispatchers.
Invariants: labels name views, never partitions or messages; a scrape answers while one is deleted, without it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from logbroker.broker.services import Services
from logbroker.broker.views import Views
from logbroker.errors import LogbrokerError
from logbroker.http_api.exposition import PREFIX
from logbroker.http_api.queues import ACTIVE_MS
from logbroker.queues.dispatcher.size import Counts
from logbroker.queues.peeks import MessageState


class ViewSample(NamedTuple):
    """One queue or subscription."""

    name: str
    counts: Counts
    oldest_age_ms: int
    consumers: int
    unreadable: int


Samples = Mapping[str, Sequence[ViewSample]]
"""By the kind of view."""


async def view_samples(services: Services) -> Samples:
    """A sample of every queue and subscription, one after the other so that the loop is not held."""
    since = services.clock.now().wall_ms - ACTIVE_MS
    kinds: tuple[Views[Any], ...] = (services.queues, services.subscriptions)
    return {views.KIND.KIND: [sample async for sample in _samples(views, since)] for views in kinds}


async def _samples(views: Views[Any], since_ms: int) -> AsyncIterator[ViewSample]:
    for view in views.list():
        try:
            counts, age_ms = await view.size.counts(), await view.size.oldest_age_ms()
        except LogbrokerError:
            continue
        unreadable = sum(partition.unreadable for partition in view.partitions)
        yield ViewSample(view.definition.name, counts, age_ms, view.tally.active_since(since_ms), unreadable)
        await asyncio.sleep(0)


class ViewCollector(Collector):
    """One scrape."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        """All families."""
        for kind, samples in self._samples.items():
            yield _messages(kind, samples)
            yield from _gauges(kind, samples)


def _messages(kind: str, samples: Sequence[ViewSample]) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}{kind}_messages", "Messages by state.", labels=[kind, "state"])
    for sample in samples:
        for state in MessageState:
            count: int = getattr(sample.counts, state.value)
            family.add_metric([sample.name, state.value], count)
    return family


def _gauges(kind: str, samples: Sequence[ViewSample]) -> Iterator[Metric]:
    families: tuple[tuple[str, str, Callable[[ViewSample], float]], ...] = (
        ("backlog", "Messages that are not done, those held by consumers included.", lambda s: s.counts.backlog),
        ("oldest_age_seconds", "Age of the oldest message that is not done.", lambda s: s.oldest_age_ms / 1_000),
        ("parked_messages", "Ready messages behind an earlier one of their key.", lambda s: s.counts.parked),
        ("consumers", "Consumers seen within a minute.", lambda s: s.consumers),
        ("unreadable_batches", "Malformed record batches passed over since the start.", lambda s: s.unreadable),
    )
    for name, doc, read in families:
        family = GaugeMetricFamily(f"{PREFIX}{kind}_{name}", doc, labels=[kind])
        for sample in samples:
            family.add_metric([sample.name], read(sample))
        yield family
