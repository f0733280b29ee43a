"""One subscription at work: a dispatcher over a topic that others read too.

What lives here: what a subscription has of its own: its filter, being sent elsewhere in its topic, and the end of what is
kept for it. What may not: leases, retries, dead letters (as a queue's), the catalogue.
Invariants: while the filter or the place changes nothing is read; what is not taken for ``retain_unacked_ms`` is dropped,
counted and logged, so that a forgotten subscription does not keep its topic for ever.
"""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import NamedTuple

from logbroker.clock import Clock
from logbroker.engine.api import Engine
from logbroker.errors import PartitionDamaged
from logbroker.filters import Verdict
from logbroker.model import StoredRecord, TopicPartition
from logbroker.pubsub.cursors import Cursor
from logbroker.pubsub.definition import SubscriptionDefinition
from logbroker.pubsub.filtering import VersionedFilter
from logbroker.pubsub.judging import judged
from logbroker.queues import commands as c
from logbroker.queues.dispatcher.definition import View
from logbroker.queues.dispatcher.dispatcher import Dispatcher
from logbroker.queues.dispatcher.partition import Intake, QueuePartition
from logbroker.queues.dispatcher.tally import Counters
from logbroker.queues.positions import Source

log = logging.getLogger(__name__)

COUNTED: Mapping[str, str] = {
    "filtered": "Records that the filter left out.",
    "filter_errors": "Records on which the filter failed; they do not match.",
    "expired_unacked": "Offsets dropped because nobody took their records within retain_unacked_ms.",
}
"""What is counted of subscriptions besides what is of all views."""
AGING_STEPS = 64
"""How often within ``retain_unacked_ms`` the age of what is not taken is looked at."""


class Progress(NamedTuple):
    """How far one partition is: everything below ``frontier`` is done, ``read`` is where reading goes on."""

    partition: int
    frontier: int
    read: int
    end: int


class Subscription(Dispatcher):
    """A subscription. Made closed; ``start`` loads it."""

    definition: SubscriptionDefinition

    def __init__(
        self, engine: Engine, clock: Clock, definition: SubscriptionDefinition, counters: Counters, run: int
    ) -> None:
        super().__init__(engine, clock, definition, counters, run)
        self._filter = VersionedFilter(definition.filters)
        self._age_at_ms = 0

    # -- reading ---------------------------------------------------------------------------------------------------------

    def _intake(self) -> Intake | None:
        return self

    async def chosen(self, where: TopicPartition, records: Sequence[StoredRecord]) -> Sequence[StoredRecord]:
        """The records that are messages of this subscription; what is left out is counted."""
        if self._filter.takes_all:
            return records
        verdicts = await self._judged(where, records)
        chosen = [record for record, verdict in zip(records, verdicts, strict=True) if verdict is Verdict.MATCH]
        if len(chosen) < len(records):
            self.tally.count("filtered", len(records) - len(chosen))
        if errors := verdicts.count(Verdict.ERROR):
            self.tally.count("filter_errors", errors)
        return chosen

    async def takes(self, where: TopicPartition, record: StoredRecord) -> bool:
        """Whether a record is a message of this subscription; that counts nothing."""
        [verdict] = await self._judged(where, [record])
        return verdict is Verdict.MATCH

    async def _judged(self, where: TopicPartition, records: Sequence[StoredRecord]) -> list[Verdict]:
        return await judged(partial(self._filter.verdict, where), records, heavy=self._filter.heavy)

    async def progress(self) -> list[Progress]:
        """How far each partition is."""
        return [
            Progress(one.number, one.machine.floor(Source.SOURCE), one.machine.read_next, await one.end())
            for one in self.partitions
        ]

    # -- changing --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """Nothing is read meanwhile, so that what is read so far can be relied on."""
        async with AsyncExitStack() as stack:
            for partition in self.partitions:
                await stack.enter_async_context(partition.feeding)
            yield

    async def configure(self, definition: View) -> None:
        """Be as ``definition`` says from now on; to be called while it is still, if the filter changes."""
        assert isinstance(definition, SubscriptionDefinition), "a subscription has a definition of its kind"
        self._filter = VersionedFilter(definition.filters)
        self._age_at_ms = 0
        await super().configure(definition)

    def cursor(self, partition: QueuePartition) -> Cursor:
        """What is done of a partition. A message that failed and waits for its retry is not, although its place is."""
        machine = partition.machine
        cursor = Cursor.of(machine.floor(Source.SOURCE), machine.done_above(Source.SOURCE))
        return cursor.without(machine.retried_from_source())

    def next_generation(self) -> int:
        """That of the machines after the next seek."""
        return 1 + max([self.definition.generation, *(one.machine.generation for one in self.partitions)])

    async def seek(self, definition: SubscriptionDefinition) -> None:
        """Go to where the definition says, which is written already; to be called while it is still.

        Leases and waiting retries of these partitions are void, dead letters stay.
        """
        await self.configure(definition)
        for partition in self.partitions:
            seek = definition.seek_first(partition.number, partition.machine.generation)
            if seek is not None:
                floor = min(seek.offset, partition.machine.floor(Source.SOURCE))
                self._engine.hold(partition.place.source, definition.key, floor)
                await partition.ask(seek)
                partition.noticed = 0
        self.wake()

    # -- upkeep ----------------------------------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        await self.grow(self._engine.topic(self.definition.topic).partitions)
        now_ms = self._clock.now().mono_ms
        if now_ms >= self._age_at_ms:
            self._age_at_ms = now_ms + self.definition.config.retain_unacked_ms // AGING_STEPS
            for partition in self.partitions:
                await self._age(partition)

    async def _age(self, partition: QueuePartition) -> None:
        try:
            end = (await partition.bounds(Source.SOURCE)).last_stable_offset
        except PartitionDamaged:
            return
        keep_ms = self.definition.config.retain_unacked_ms
        gone, partition.gone = partition.gone, 0
        dropped: int = await partition.ask(c.Age(end, keep_ms))
        if dropped:
            log.warning(
                "%s: %d offsets of %s were dropped, nobody took them within %d ms",
                *(self.definition.key, dropped, partition.place.source, keep_ms),
                extra={"subscription": self.definition.name, "dropped": dropped},
            )
        if dropped + gone:
            self.tally.count("expired_unacked", dropped + gone)
