"""How far groups are behind, measured on the logs.

What lives here: the reading that ``groups.lag`` needs. What may not: the arithmetic, formats of a door.
Invariant: nothing is sampled and nothing interpolated; each answer is read from the log as it stands, with the first unread
record of each partition remembered, since once it is committed neither the record nor its offset ever changes.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

from logbroker.clock import Clock
from logbroker.engine.api import Engine, Isolation
from logbroker.errors import OffsetOutOfRange, PartitionDamaged, UnknownTopicOrPartition
from logbroker.groups.coordinator import GroupCoordinator
from logbroker.groups.events import CommittedOffset
from logbroker.groups.lag import (
    LagStatus,
    PartitionLag,
    first_unread_from,
    lag_of,
    lag_unknown,
)
from logbroker.model import Bounds, OffsetAndTimestamp, TopicPartition

_PARTITIONS_PER_SLICE = 100


class _Known(NamedTuple):
    """A first unread record: of which topic, and for which committed offset."""

    topic_id: UUID
    committed: int
    record: OffsetAndTimestamp


class Lag:
    """The use case of looking at how far groups are behind."""

    def __init__(self, engine: Engine, groups: GroupCoordinator, clock: Clock) -> None:
        self._engine = engine
        self._groups = groups
        self._clock = clock
        self._known: dict[str, dict[TopicPartition, _Known]] = {}

    async def of(self, group_id: str, assigned: Iterable[TopicPartition] = ()) -> list[PartitionLag]:
        """The group in every partition it has committed for or is ``assigned``, in order."""
        committed = await self._groups.fetch_offsets(group_id)
        before = self._known.get(group_id, {})
        known: dict[TopicPartition, _Known] = {}
        lags: list[PartitionLag] = []
        for number, where in enumerate(sorted({*committed, *assigned}), 1):
            try:
                lags.append(await self._one(where, committed.get(where), before, known))
            except UnknownTopicOrPartition:
                continue
            if number % _PARTITIONS_PER_SLICE == 0:
                await asyncio.sleep(0)
        self._known[group_id] = known
        return lags

    def forget_all_but(self, group_ids: Iterable[str]) -> None:
        """Drop what is remembered of groups that are no more."""
        self._known = {group_id: self._known[group_id] for group_id in group_ids if group_id in self._known}

    async def _one(
        self,
        where: TopicPartition,
        committed: CommittedOffset | None,
        before: Mapping[TopicPartition, _Known],
        known: dict[TopicPartition, _Known],
    ) -> PartitionLag:
        topic_id = self._engine.topic(where.topic).id
        try:
            bounds = await self._engine.bounds(where)
            if committed is None:
                return lag_unknown(where, None, bounds, LagStatus.NO_OFFSET)
            start = first_unread_from(committed.offset, bounds)
            found = before.get(where)
            unread: OffsetAndTimestamp | None
            if found is not None and found[:2] == (topic_id, committed.offset) and found.record.offset >= start:
                unread = found.record
            else:
                unread = await self._first_record(where, start, bounds)
        except PartitionDamaged:
            return lag_unknown(where, committed, None, LagStatus.DAMAGED)
        if unread is not None and unread.offset < bounds.last_stable_offset:
            known[where] = _Known(topic_id, committed.offset, unread)
        return lag_of(where, committed, bounds, unread, self._clock.now().wall_ms)

    async def _first_record(self, where: TopicPartition, offset: int, bounds: Bounds) -> OffsetAndTimestamp | None:
        """The first record at or after ``offset``, past control records, aborted transactions and holes.

        Behind the last stable offset nothing is decided, so there every record counts.
        """
        while offset < bounds.high_watermark:
            is_stable = offset < bounds.last_stable_offset
            isolation = Isolation.READ_COMMITTED if is_stable else Isolation.READ_UNCOMMITTED
            try:
                read = await self._engine.read(where, offset, max_bytes=1, max_records=1, isolation=isolation)
            except OffsetOutOfRange as error:  # retention has moved the start meanwhile
                offset = max(error.fields["log_start_offset"], offset + 1)
                continue
            if read.records:
                return OffsetAndTimestamp(read.records[0].offset, read.records[0].timestamp_ms)
            if read.next_offset <= offset:
                break
            offset = read.next_offset
        return None
