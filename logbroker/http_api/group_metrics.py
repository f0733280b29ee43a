"""Consumer groups as Prometheus metrics, made at scrape time.

What lives here: samples of groups and their families. Invariants: labels name groups and topics, never partitions or
members; a family has at most ``MAX_SERIES`` samples; a scrape answers while groups are loaded or stopped, without them.
"""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from logbroker.broker.services import Services
from logbroker.errors import LogbrokerError
from logbroker.groups.lag import LagTotal, PartitionLag, total
from logbroker.http_api.exposition import PREFIX
from logbroker.metrics import MAX_SERIES


class GroupSample(NamedTuple):
    """One group: how many members it has, how often it has rebalanced, how far it is behind."""

    group_id: str
    state: str
    members: int
    generation: int
    status: str
    by_topic: dict[str, LagTotal]


async def group_samples(services: Services) -> list[GroupSample]:
    """A sample of every group, one after the other so that the loop is not held."""
    samples: list[GroupSample] = []
    listed = services.groups.list_groups()
    services.lag.forget_all_but(one.group_id for one in listed)
    for one in listed:
        try:
            view = await services.groups.describe(one.group_id)
            lags = await services.lag.of(one.group_id)
        except LogbrokerError:
            break
        by_topic: dict[str, list[PartitionLag]] = {}
        for lag in lags:
            by_topic.setdefault(lag.where.topic, []).append(lag)
        totals = {topic: total(found) for topic, found in by_topic.items()}
        status = total(lags).status.value
        samples.append(GroupSample(one.group_id, view.state.value, len(view.members), view.generation, status, totals))
        await asyncio.sleep(0)
    return samples


class GroupCollector(Collector):
    """One scrape."""

    def __init__(self, samples: list[GroupSample]) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        """All families."""
        yield from self._of_lag()
        yield from self._of_groups()

    def _of_lag(self) -> Iterator[Metric]:
        labels = ["group", "topic"]
        records = GaugeMetricFamily(f"{PREFIX}group_lag_records", "Unread records, offsets counted.", labels=labels)
        seconds = GaugeMetricFamily(f"{PREFIX}group_lag_seconds", "Age of the first unread record.", labels=labels)
        series = (((sample.group_id, topic), found) for sample in self._samples for topic, found in sample.by_topic.items())
        for names, found in islice(series, MAX_SERIES):
            records.add_metric(names, found.lag)
            seconds.add_metric(names, found.lag_ms / 1000)
        yield records
        yield seconds

    def _of_groups(self) -> Iterator[Metric]:
        members = GaugeMetricFamily(f"{PREFIX}group_members", "Members.", labels=["group"])
        state = GaugeMetricFamily(f"{PREFIX}group_state", "1 for the state it is in.", labels=["group", "state"])
        status = GaugeMetricFamily(f"{PREFIX}group_status", "1 for its worst status.", labels=["group", "status"])
        rebalances = CounterMetricFamily(f"{PREFIX}group_rebalances", "The number of its generation.", labels=["group"])
        for sample in islice(self._samples, MAX_SERIES):
            members.add_metric([sample.group_id], sample.members)
            state.add_metric([sample.group_id, sample.state], 1)
            status.add_metric([sample.group_id, sample.status], 1)
            rebalances.add_metric([sample.group_id], sample.generation)
        yield from (members, state, status, rebalances)
