"""Reading records: from a position, waiting for more when there are too few.

What lives here: the use case of a fetch, for doors that want records (the Kafka door passes batches on as bytes). What
may not: JSON, the verdicts of filters. Invariants: a fetch answers at least one record where one stands, however large;
``next_offset`` is where to go on, whatever the gaps; with a filter a fetch ends when it has looked at its share, whatever
it has found.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from logbroker.broker.filtering import Extent, Filtering, size_of
from logbroker.broker.positions import Position, end_of, last_offsets, resolve
from logbroker.broker.waiting import Waiting
from logbroker.clock import Clock
from logbroker.engine.api import Engine, Isolation
from logbroker.errors import LogbrokerError, MessageNotFound, OffsetOutOfRange
from logbroker.filters import Filter
from logbroker.metrics import Metrics
from logbroker.model import Bounds, StoredRecord, TopicPartition

OutOfRange = Literal["error", "earliest", "latest"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one fetch answers and how long it waits. ``min_bytes`` counts keys and values."""

    max_records: int = 500
    max_bytes: int = 1 << 20
    min_bytes: int = 1
    wait_ms: int = 0
    isolation: Isolation = Isolation.READ_UNCOMMITTED
    wanted: Filter | None = None


class Fetched(NamedTuple):
    """What a fetch found. ``truncated`` says that a limit ended it before the end of what can be read."""

    where: TopicPartition
    records: list[StoredRecord]
    next_offset: int
    bounds: Bounds
    truncated: bool
    scanned: int
    """How many records were looked at."""


class Start(NamedTuple):
    """One partition of a fetch over many."""

    where: TopicPartition
    offset: int


class Fetch:
    """The use case of reading records."""

    def __init__(self, engine: Engine, clock: Clock, waiting: Waiting, metrics: Metrics, filtering: Filtering) -> None:
        self._engine = engine
        self._filtering = filtering
        self._clock = clock
        self._waiting = waiting
        self._records_out = metrics.counter("topic_records_out_total", "Records read.", ("topic",))
        self._bytes_out = metrics.counter("topic_bytes_out_total", "Bytes of keys and values read.", ("topic",))

    async def fetch(
        self, where: TopicPartition, start: Position, limits: Limits, on_out_of_range: OutOfRange = "error"
    ) -> Fetched:
        """Records of one partition from ``start`` on.

        Waits up to ``wait_ms`` until ``min_bytes`` are there. Raises UnknownTopicOrPartition, PartitionDamaged and, unless
        ``on_out_of_range`` says where to go instead, OffsetOutOfRange.
        """
        offset = await resolve(self._engine, where, start, limits.isolation)
        try:
            fetched = await self._read(where, offset, limits)
        except OffsetOutOfRange:
            if on_out_of_range == "error":
                raise
            offset = await self._edge(where, on_out_of_range, limits.isolation)
            fetched = await self._read(where, offset, limits)
        deadline = self._clock.now().mono_ms + limits.wait_ms
        while not _enough(fetched.records, limits) and not (fetched.truncated and fetched.records):
            left_ms = deadline - self._clock.now().mono_ms
            if not await self._waiting.changed({where: fetched.next_offset}, left_ms, limits.isolation):
                break
            before = fetched.next_offset
            fetched = await self._more(fetched, limits)
            if fetched.next_offset == before:
                break
        self._count(fetched)
        return fetched

    async def fetch_many(self, starts: Sequence[Start], limits: Limits) -> list[Fetched | LogbrokerError]:
        """Records of many partitions within one budget of records and bytes; the limits hold for all together.

        Waits until any of them has something. A partition that cannot be read answers its error in its place.
        """
        deadline = self._clock.now().mono_ms + limits.wait_ms
        while True:
            answers = await self._read_many(starts, limits)
            found = [record for answer in answers if isinstance(answer, Fetched) for record in answer.records]
            if _enough(found, limits) or any(isinstance(answer, LogbrokerError) for answer in answers):
                break
            positions = {answer.where: answer.next_offset for answer in answers if isinstance(answer, Fetched)}
            if not found:  # then nothing has to be read twice
                starts = [Start(where, positions[where]) for where, _ in starts]
            left_ms = deadline - self._clock.now().mono_ms
            if not await self._waiting.changed(positions, left_ms, limits.isolation):
                break
        for answer in answers:
            if isinstance(answer, Fetched):
                self._count(answer)
        return answers

    async def one(
        self, where: TopicPartition, offset: int, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> StoredRecord:
        """The record at ``offset``. Raises MessageNotFound naming the next one, OffsetOutOfRange outside the log."""
        read = await self._engine.read(where, offset, max_bytes=1, max_records=1, isolation=isolation)
        if read.records and read.records[0].offset == offset:
            return read.records[0]
        if offset >= read.bounds.high_watermark:
            raise OffsetOutOfRange(
                f"offset {offset} is past the last record of {where}, which ends at {read.bounds.high_watermark}",
                log_start_offset=read.bounds.log_start_offset,
                high_watermark=read.bounds.high_watermark,
            )
        previous = await last_offsets(self._engine, where, offset, 1, isolation)
        raise MessageNotFound(
            f"there is no record at offset {offset} of {where}",
            previous_offset=previous[0] if previous else None,
            next_offset=read.records[0].offset if read.records else read.next_offset,
        )

    async def _read_many(self, starts: Sequence[Start], limits: Limits) -> list[Fetched | LogbrokerError]:
        answers: list[Fetched | LogbrokerError] = []
        records, size = limits.max_records, limits.max_bytes
        for where, offset in starts:
            if records <= 0 or size <= 0:
                answers.append(Fetched(where, [], offset, await self._engine.bounds(where), True, 0))
                continue
            share = replace(limits, max_records=records, max_bytes=size)
            try:
                fetched = await self._read(where, offset, share)
            except LogbrokerError as error:
                answers.append(error)
                continue
            answers.append(fetched)
            records -= len(fetched.records)
            size -= _size(fetched.records)
        return answers

    async def _read(self, where: TopicPartition, offset: int, limits: Limits) -> Fetched:
        if limits.wanted is not None:
            extent = Extent(limits.max_records, limits.max_bytes, isolation=limits.isolation)
            found = await self._filtering.scan(where, offset, limits.wanted, extent)
            return _fetched(where, found.records, found.next_offset, found.bounds, limits, found.scanned)
        read = await self._engine.read(
            where,
            offset,
            max_bytes=limits.max_bytes,
            max_records=limits.max_records,
            isolation=limits.isolation,
        )
        return _fetched(where, read.records, read.next_offset, read.bounds, limits, len(read.records))

    async def _more(self, fetched: Fetched, limits: Limits) -> Fetched:
        left = replace(
            limits,
            max_records=limits.max_records - len(fetched.records),
            max_bytes=limits.max_bytes - _size(fetched.records),
        )
        if left.max_records <= 0 or left.max_bytes <= 0:
            return fetched._replace(truncated=True)
        more = await self._read(fetched.where, fetched.next_offset, left)
        return more._replace(records=fetched.records + more.records, scanned=fetched.scanned + more.scanned)

    async def _edge(self, where: TopicPartition, edge: OutOfRange, isolation: Isolation) -> int:
        if edge == "latest":
            return await end_of(self._engine, where, isolation)
        return (await self._engine.bounds(where)).log_start_offset

    def _count(self, fetched: Fetched) -> None:
        if fetched.records:
            self._records_out.add(len(fetched.records), fetched.where.topic)
            self._bytes_out.add(_size(fetched.records), fetched.where.topic)


def _fetched(
    where: TopicPartition, records: list[StoredRecord], next_offset: int, bounds: Bounds, limits: Limits, scanned: int
) -> Fetched:
    return Fetched(where, records, next_offset, bounds, next_offset < limits.isolation.end(bounds), scanned)


def _enough(records: Sequence[StoredRecord], limits: Limits) -> bool:
    return bool(records) and (limits.min_bytes <= 1 or _size(records) >= limits.min_bytes)


def _size(records: Sequence[StoredRecord]) -> int:
    """Bytes of keys and values."""
    return sum(map(size_of, records))
