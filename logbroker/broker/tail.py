"""Following a topic: records of several partitions as they come, and what was left out.

What lives here: the endless read over many positions, with sampling. What may not: SSE, NDJSON. Invariants: the records of
a partition come in order; whatever is skipped (sampled away, or trimmed before it was read) is told as a ``Gap``;
``positions`` always says where to go on after the last event that was passed to ``advance``.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from logbroker.broker.waiting import Waiting
from logbroker.clock import Clock
from logbroker.engine.api import Engine, Isolation
from logbroker.errors import OffsetOutOfRange
from logbroker.model import StoredRecord, TopicPartition

_READ_BYTES = 256 * 1024
_WINDOW_MS = 1_000


class Follow(NamedTuple):
    """A record that was followed to."""

    partition: int
    record: StoredRecord


class Gap(NamedTuple):
    """Records that are left out: offsets from ``from_offset`` up to, not including, ``to_offset``."""

    partition: int
    from_offset: int
    to_offset: int
    dropped: int | None
    """How many records, None when that cannot be known."""
    reason: Literal["sampled", "trimmed"]


Event: TypeAlias = Follow | Gap
Select: TypeAlias = Callable[[TopicPartition, list[StoredRecord]], Awaitable[list[StoredRecord]]]
"""Which of the records of a partition are wanted."""


@dataclass(slots=True)
class Sampler:
    """Lets at most ``max_rate`` records per second through."""

    max_rate: int
    window_ms: int = -_WINDOW_MS
    used: int = 0

    def take(self, wanted: int, now_ms: int) -> int:
        """How many of ``wanted`` records may pass now."""
        if now_ms - self.window_ms >= _WINDOW_MS:
            self.window_ms, self.used = now_ms, 0
        granted = min(wanted, self.max_rate - self.used)
        self.used += granted
        return granted


@dataclass(frozen=True, slots=True)
class Thinning:
    """What a follower leaves out: what ``select`` does not want and what is not committed, silently; what is above
    ``max_rate``, as a gap.
    """

    max_rate: int | None = None
    select: Select | None = None
    isolation: Isolation = Isolation.READ_COMMITTED


class Tail:
    """One follower. ``positions`` holds the next offset per partition; it may start anywhere."""

    def __init__(
        self, engine: Engine, waiting: Waiting, clock: Clock, topic: str, positions: dict[int, int], thinning: Thinning
    ) -> None:
        self._engine = engine
        self._waiting = waiting
        self._clock = clock
        self._topic = topic
        self.positions = positions
        self._select = thinning.select
        self._isolation = thinning.isolation
        self._sampler = Sampler(thinning.max_rate) if thinning.max_rate is not None else None

    async def events(self, idle_ms: float) -> AsyncIterator[list[Event]]:
        """Events as they come; an empty list after ``idle_ms`` without one. Ends when the broker stops.

        The caller passes each event to ``advance`` before it asks for more. Raises UnknownTopicOrPartition when the topic
        is deleted.
        """
        loop = asyncio.get_running_loop()
        idle_since = loop.time()
        while not self._waiting.closing:
            found = False
            for partition in list(self.positions):
                events, next_offset = await self._step(partition)
                if events or loop.time() - idle_since > idle_ms / 1000:
                    found = True
                    yield events
                    idle_since = loop.time()
                self.positions[partition] = max(self.positions[partition], next_offset) if events else next_offset
            if found or await self._waiting.changed(self._where(), idle_ms, self._isolation):
                continue
            if not self._waiting.closing:
                yield []
                idle_since = loop.time()

    def advance(self, event: Event) -> dict[int, int]:
        """Move past ``event`` and return where to go on."""
        self.positions[event.partition] = event.to_offset if isinstance(event, Gap) else event.record.offset + 1
        return self.positions

    def _where(self) -> dict[TopicPartition, int]:
        return {TopicPartition(self._topic, partition): offset for partition, offset in self.positions.items()}

    async def _step(self, partition: int) -> tuple[list[Event], int]:
        """The next events of one partition, and where to go on once they are passed."""
        where = TopicPartition(self._topic, partition)
        offset = self.positions[partition]
        try:
            read = await self._engine.read(where, offset, max_bytes=_READ_BYTES, isolation=self._isolation)
        except OffsetOutOfRange:
            return await self._return_to_log(where, offset)
        records = read.records
        if self._select is not None:
            await asyncio.sleep(0)  # a read of what is cached does not wait, and most of many partitions may not match
            records = await self._select(where, records)
        return self._sampled(partition, records) if records else [], read.next_offset

    def _sampled(self, partition: int, records: list[StoredRecord]) -> list[Event]:
        granted = len(records)
        if self._sampler is not None:
            granted = self._sampler.take(granted, self._clock.now().mono_ms)
        events: list[Event] = [Follow(partition, record) for record in records[:granted]]
        if granted < len(records):
            dropped = records[granted:]
            events.append(Gap(partition, dropped[0].offset, dropped[-1].offset + 1, len(dropped), "sampled"))
        return events

    async def _return_to_log(self, where: TopicPartition, offset: int) -> tuple[list[Event], int]:
        """From a position outside the log to the nearest inside: the log start, or the end."""
        bounds = await self._engine.bounds(where)
        if offset < bounds.log_start_offset:
            return [Gap(where.partition, offset, bounds.log_start_offset, None, "trimmed")], offset
        return [], bounds.high_watermark
