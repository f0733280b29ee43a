"""What may be deleted, what is worth rewriting, and the bound on dead letters.

What lives here: the passes. What may not: timers (the dispatcher's).
Invariants: nothing is let go before the journal that no longer needs it is flushed; what a deduplication window may still
ask for stays. A retry or dead-letter topic is trimmed only when that is worth a write.
"""

import logging
from collections.abc import Sequence

from logbroker.engine.api import Engine
from logbroker.errors import FlushFailed, InvalidOffset, LogbrokerError, StorageError, UnknownTopicOrPartition
from logbroker.model import TopicPartition
from logbroker.queues import commands as c
from logbroker.queues.dispatcher.definition import View
from logbroker.queues.dispatcher.partition import LeaseJournal, QueuePartition
from logbroker.queues.dispatcher.sending import Deduplication
from logbroker.queues.positions import Position, Source
from logbroker.queues.settings import QueueSettings

log = logging.getLogger(__name__)

WORTH_TRIMMING = 1_000
"""Records below the floor of a copy topic before it is trimmed."""
MAX_REWRITES = 1_000
"""Waiting messages that are written again in one pass."""


class Upkeep:
    """The upkeep of one queue."""

    def __init__(
        self,
        engine: Engine,
        journal: LeaseJournal,
        definition: View,
        partitions: Sequence[QueuePartition],
        deduplication: Deduplication | None,
    ) -> None:
        self._engine = engine
        self._deduplication = deduplication
        self._journal = journal
        self._holder = definition.key
        self._partitions = partitions
        self._trimmed: dict[TopicPartition, int] = {}
        self._is_full = False
        self.settings: QueueSettings = definition.settings

    # -- deletion --------------------------------------------------------------------------------------------------------

    async def let_go(self) -> None:
        """Let retention and trim have what is done. Raises what flushing raises."""
        floors = [
            (partition, source, await self._floor(partition, source)) for partition in self._partitions for source in Source
        ]
        await self._journal.flushed()
        for partition, source, floor in floors:
            where = partition.place.topic(source)
            try:
                self._engine.hold(where, self._holder, floor)
                if source is not Source.SOURCE:
                    await self._trim(where, floor)
            except UnknownTopicOrPartition:
                continue  # a copy topic that is not there yet
            except InvalidOffset:
                continue  # another still reads what is done here
            except FlushFailed:
                raise
            except StorageError as error:
                log.warning("queue %s: %s cannot be trimmed now: %s", partition.place.queue, where, error)

    async def _floor(self, partition: QueuePartition, source: Source) -> int:
        floor = partition.machine.floor(source)
        if source is Source.DEAD or self._deduplication is None:
            return floor
        needed = await self._deduplication.floor(partition, source)
        return floor if needed is None else min(floor, needed)

    async def _trim(self, where: TopicPartition, floor: int) -> None:
        start = self._trimmed.get(where)
        if start is None:
            start = (await self._engine.bounds(where)).log_start_offset
        if floor - start >= WORTH_TRIMMING:
            start = await self._engine.trim(where, floor)
        self._trimmed[where] = start

    def release_holds(self) -> None:
        """The queue is going: hold nothing any more."""
        for partition in self._partitions:
            for source in Source:
                try:
                    self._engine.hold(partition.place.topic(source), self._holder, None)
                except LogbrokerError:
                    continue

    # -- rewriting -------------------------------------------------------------------------------------------------------

    async def rewrite(self) -> None:
        """Append again what waits long and alone keeps much that is done alive."""
        storage = self._engine.storage
        if storage is None:
            return
        for partition in self._partitions:
            where = partition.place.retry
            try:
                bounds = await self._engine.bounds(where)
                size = storage.size_bytes(where)
            except UnknownTopicOrPartition:
                continue
            records = bounds.high_watermark - bounds.log_start_offset
            if records:
                await self._rewrite(partition, partition.machine.worth_rewriting(size / records, MAX_REWRITES))

    async def _rewrite(self, partition: QueuePartition, offsets: Sequence[int]) -> None:
        for message in await partition.messages_at([Position(Source.RETRY, offset) for offset in offsets]):
            try:
                await partition.ask(c.Reschedule(partition.new_token(), message, message.due_ms))
            except LogbrokerError as error:
                log.info("%s: a waiting message is not written again now: %s", partition.place.queue, error)

    # -- dead letters ----------------------------------------------------------------------------------------------------

    async def bound_dead_letters(self) -> int:
        """Drop the oldest dead letters beyond the bound, or hold back what would become one; how many were dropped."""
        dlq = self.settings.dlq
        excess = sum(partition.machine.dead for partition in self._partitions) - dlq.max_size
        if dlq.overflow == "reject":
            await self._say_full(excess >= 0)
            return 0
        await self._say_full(False)
        dropped = 0
        while excess > 0:
            partition, count = await self._oldest(excess)
            done: int = await partition.ask(c.DropOldest(count))
            if not done:
                break  # they are being redriven
            dropped, excess = dropped + done, excess - done
        return dropped

    async def _say_full(self, is_full: bool) -> None:
        if is_full != self._is_full:
            self._is_full = is_full
            for partition in self._partitions:
                await partition.ask(c.DeadFull(is_full))

    async def _oldest(self, excess: int) -> tuple[QueuePartition, int]:
        """The partition with the oldest dead letter, and how many of the excess to drop there at once."""
        having = [partition for partition in self._partitions if partition.machine.dead]
        if len(having) == 1:
            return having[0], excess
        ages = [(await self._oldest_ms(partition), partition.number) for partition in having]
        number = min(ages)[1]
        return self._partitions[number], 1

    async def _oldest_ms(self, partition: QueuePartition) -> int:
        end = (await partition.bounds(Source.DEAD)).high_watermark
        first = next(partition.machine.open_offsets(Source.DEAD, 0, end), None)
        records = [] if first is None else await partition.records_at(Source.DEAD, [first])
        return records[0].timestamp_ms if records else 0
