"""Looking at the messages of a queue, in any state, without any effect.

What lives here: walking the topics and the machines' indexes in slices. What may not: changes.
Invariants: a page examines a bounded number of messages, whatever matches; a cursor names the last one examined, so that
what comes and goes between two pages shifts nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from typing import NamedTuple

from logbroker.clock import Clock
from logbroker.config import INT64_MAX
from logbroker.errors import MessageNotFound
from logbroker.filters import Verdict
from logbroker.model import StoredRecord
from logbroker.queues.dispatcher.partition import QueuePartition
from logbroker.queues.dispatcher.tally import Tally
from logbroker.queues.peeks import EVERYTHING, MessageState, Peeked, PeekFilter, peeked
from logbroker.queues.positions import MessageId, Position, Source, index_of

SLICE = 200
MAX_EXAMINED = 10_000
"""How many messages one page looks at."""


class Cursor(NamedTuple):
    """The last message that was examined: what ``major`` and ``minor`` are depends on the state."""

    partition: int = 0
    major: int = -1
    minor: int = -1


class Page(NamedTuple):
    """Messages, and where to go on; None at the end."""

    items: list[Peeked]
    next: Cursor | None


_Found = tuple[Cursor, Peeked | None]
"""A message that was examined; None for one that is not in the state asked for."""


class Peek:
    """The messages of one queue."""

    def __init__(self, partitions: Sequence[QueuePartition], clock: Clock, priorities: int, tally: Tally) -> None:
        self._partitions = partitions
        self._clock = clock
        self._priorities = priorities
        self._tally = tally

    async def page(self, state: MessageState, after: Cursor, size: int, wanted: PeekFilter = EVERYTHING) -> Page:
        """The next messages in a state; a page may be short, or empty, before the end."""
        items: list[Peeked] = []
        examined = 0
        async for cursor, message in self.walk(state, after):
            examined += 1
            if message is not None and await self.wants(wanted, message):
                items.append(message)
            if len(items) >= size or examined >= MAX_EXAMINED:
                return Page(items, cursor)
        return Page(items, None)

    async def wants(self, wanted: PeekFilter, message: Peeked) -> bool:
        """Whether a message is meant; a heavy filter is asked in a thread."""
        if wanted.expression is not None and wanted.expression.heavy:
            verdict = await asyncio.to_thread(wanted.verdict, message, self._tally.name)
        else:
            verdict = wanted.verdict(message, self._tally.name)
        if verdict is Verdict.ERROR:
            self._tally.count("filter_errors")
        return verdict is Verdict.MATCH

    async def walk(self, state: MessageState, after: Cursor) -> AsyncIterator[_Found]:
        """Every message in a state, after a cursor."""
        walks: dict[MessageState, Callable[[QueuePartition, Cursor], AsyncIterator[_Found]]] = {
            MessageState.READY: self._ready,
            MessageState.IN_FLIGHT: self._in_flight,
            MessageState.DELAYED: self._delayed,
            MessageState.RETRYING: self._retrying,
            MessageState.DEAD: self._dead,
        }
        for partition in self._partitions[after.partition :]:
            start = after if partition.number == after.partition else Cursor(partition.number)
            walked = 0
            async for found in walks[state](partition, start):
                yield found
                walked += 1
                if walked % SLICE == 0:
                    await asyncio.sleep(0)

    async def one(self, message_id: MessageId) -> Peeked:
        """A message by its id; a dead letter is searched for. Raises MessageNotFound."""
        partition = self._partitions[message_id.partition]
        position = partition.machine.find(index_of(message_id.first))
        records = [] if position is None else await partition.records_at(position.source, [position.offset])
        if position is not None and records:
            return self._standing(partition, position.source, records[0])
        return await self.dead_letter(message_id)

    async def dead_letter(self, message_id: MessageId) -> Peeked:
        """A dead letter by its id: a walk over the dead letters of its partition. Raises MessageNotFound."""
        start = Cursor(message_id.partition)
        async for _, letter in self._dead(self._partitions[message_id.partition], start):
            if letter is not None and letter.id == message_id:
                return letter
        raise MessageNotFound(f"there is no message {message_id}: it is done, or never was")

    # -- the states ------------------------------------------------------------------------------------------------------

    async def _ready(self, partition: QueuePartition, after: Cursor) -> AsyncIterator[_Found]:
        for source in (Source.SOURCE, Source.RETRY):
            if source < after.major:
                continue
            start = after.minor + 1 if source == after.major else 0
            async for record in self._open(partition, source, start):
                message = self._standing(partition, source, record)
                cursor = Cursor(partition.number, source, record.offset)
                yield cursor, message if message.state is MessageState.READY else None

    def _standing(self, partition: QueuePartition, source: Source, record: StoredRecord) -> Peeked:
        """A message of source or retry topic in the state it is in now."""
        message = peeked(record, source, MessageState.READY, partition.place, self._priorities)
        lease = partition.machine.lease_at(message.position)
        now = self._clock.now()
        if lease is not None:
            return message._replace(
                state=MessageState.IN_FLIGHT,
                deliveries=lease.grant.deliveries,
                consumer=lease.consumer,
                lease_ends_ms=now.wall_ms + lease.deadline - now.mono_ms,
            )
        if message.due_ms is not None and message.due_ms > now.wall_ms:
            return message._replace(state=MessageState.RETRYING if message.failures else MessageState.DELAYED)
        return message

    async def _in_flight(self, partition: QueuePartition, after: Cursor) -> AsyncIterator[_Found]:
        leases = sorted((lease.number, lease.grant.position) for lease in partition.machine.leases())
        for number, position in leases:
            if number <= after.major:
                continue
            for record in await partition.records_at(position.source, [position.offset]):
                message = self._standing(partition, position.source, record)
                cursor = Cursor(partition.number, number)
                yield cursor, message if message.state is MessageState.IN_FLIGHT else None

    def _delayed(self, partition: QueuePartition, after: Cursor) -> AsyncIterator[_Found]:
        return self._scheduled(partition, after, MessageState.DELAYED)

    def _retrying(self, partition: QueuePartition, after: Cursor) -> AsyncIterator[_Found]:
        return self._scheduled(partition, after, MessageState.RETRYING)

    async def _scheduled(self, partition: QueuePartition, after: Cursor, state: MessageState) -> AsyncIterator[_Found]:
        """By due time; what is due already is ready."""
        due = (self._clock.now().wall_ms, INT64_MAX)
        last = max(due, (after.major, after.minor))
        while part := list(islice(partition.machine.scheduled(*last), SLICE)):
            of_state = sorted(offset for _, offset, failed in part if failed == (state is MessageState.RETRYING))
            records = {record.offset: record for record in await partition.records_at(Source.RETRY, of_state)}
            for due_ms, offset, _ in part:
                record = records.get(offset)
                message = None if record is None else self._standing(partition, Source.RETRY, record)
                yield (
                    Cursor(partition.number, due_ms, offset),
                    message if message is not None and message.state is state else None,
                )
            last = part[-1][:2]

    async def _dead(self, partition: QueuePartition, after: Cursor) -> AsyncIterator[_Found]:
        async for record in self._open(partition, Source.DEAD, after.major + 1):
            letter = peeked(record, Source.DEAD, MessageState.DEAD, partition.place, self._priorities)
            yield Cursor(partition.number, record.offset), letter

    async def _open(self, partition: QueuePartition, source: Source, start: int) -> AsyncIterator[StoredRecord]:
        """The records of a topic that are not done, ascending."""
        while True:
            bounds = await partition.bounds(source)
            start = max(start, bounds.log_start_offset)
            offsets = list(islice(partition.machine.open_offsets(source, start, bounds.last_stable_offset), SLICE))
            if not offsets:
                return
            for record in await partition.records_at(source, offsets):
                done = partition.machine.is_finished(Position(source, record.offset))
                if not done and await partition.is_message(source, record):
                    yield record
            start = offsets[-1] + 1
