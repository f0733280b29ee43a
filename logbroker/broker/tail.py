"""Following a topic: records of several partitions as they come, and what was left out.

What lives here: the endless read over many positions, with sampling. What may not: SSE, NDJSON. Invariants: the records of
a partition come in order; whatever is skipped (sampled away, or trimmed before it was read) is told as a ``Gap``;
``positions`` always says where to go on after the last event that was passed to ``advance``.
"""

from collections.abc import AsyncIterator
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


class Tail:
    """One follower. ``positions`` holds the next offset per partition; it may start anywhere."""

    def __init__(
        self, engine: Engine, waiting: Waiting, clock: Clock, topic: str, positions: dict[int, int], max_rate: int | None
    ) -> None:
        self._engine = engine
        self._waiting = waiting
        self._clock = clock
        self._topic = topic
        self.positions = positions
        self._sampler = Sampler(max_rate) if max_rate is not None else None

    async def events(self, idle_ms: float) -> AsyncIterator[list[Event]]:
        """Events as they come; none after ``idle_ms`` without one. Ends when the broker stops.

        The caller passes each event to ``advance`` before it asks for more. Raises UnknownTopicOrPartition when the topic
        is deleted.
        """
        while not self._waiting.closing:
            found = False
            for partition in list(self.positions):
                events = await self._step(partition)
                if events:
                    found = True
                    yield events
            if found or await self._waiting.changed(self._where(), idle_ms):
                continue
            if not self._waiting.closing:
                yield []

    def advance(self, event: Event) -> dict[int, int]:
        """Move past ``event`` and return where to go on."""
        self.positions[event.partition] = event.to_offset if isinstance(event, Gap) else event.record.offset + 1
        return self.positions

    def _where(self) -> dict[TopicPartition, int]:
        return {TopicPartition(self._topic, partition): offset for partition, offset in self.positions.items()}

    async def _step(self, partition: int) -> list[Event]:
        """The next events of one partition; moves its position past what holds no records."""
        where = TopicPartition(self._topic, partition)
        offset = self.positions[partition]
        try:
            read = await self._engine.read(where, offset, max_bytes=_READ_BYTES, isolation=Isolation.READ_COMMITTED)
        except OffsetOutOfRange:
            return await self._return_to_log(where, offset)
        if not read.records:
            self.positions[partition] = read.next_offset
            return []
        return self._sampled(partition, read.records)

    def _sampled(self, partition: int, records: list[StoredRecord]) -> list[Event]:
        granted = len(records)
        if self._sampler is not None:
            granted = self._sampler.take(granted, self._clock.now().mono_ms)
        events: list[Event] = [Follow(partition, record) for record in records[:granted]]
        if granted < len(records):
            dropped = records[granted:]
            events.append(Gap(partition, dropped[0].offset, dropped[-1].offset + 1, len(dropped), "sampled"))
        return events

    async def _return_to_log(self, where: TopicPartition, offset: int) -> list[Event]:
        """From a position outside the log to the nearest inside: the log start, or the end."""
        bounds = await self._engine.bounds(where)
        if offset < bounds.log_start_offset:
            return [Gap(where.partition, offset, bounds.log_start_offset, None, "trimmed")]
        self.positions[where.partition] = bounds.high_watermark
        return []
