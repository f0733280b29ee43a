"""The capabilities only the embedded engine has: batches as bytes, and the files below the log."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from logbroker.clock import Clock
from logbroker.engine.api import BatchesRead, Buffer, Isolation
from logbroker.engine.diskspace import DiskSpace
from logbroker.engine.partition import Done, Partition
from logbroker.errors import OffsetOutOfRange, WriterFenced
from logbroker.log.reading import ColdRead
from logbroker.model import ActiveProducer, Appended, SegmentInfo, TopicPartition

Lookup: TypeAlias = Callable[[TopicPartition], Partition]


def refuse_claimed(partition: Partition, where: TopicPartition) -> None:
    """Raise WriterFenced where a writer has claimed the partition."""
    if partition.claim:
        raise WriterFenced(f"{where} is written by logbroker itself")


def check_range(partition: Partition, where: TopicPartition, offset: int) -> None:
    """Raise OffsetOutOfRange, with the bounds, unless ``offset`` can be read or is the next to come."""
    low, high = partition.log.log_start_offset, partition.high_watermark
    if not low <= offset <= high:
        side = f"below the log start {low}" if offset < low else f"above the high watermark {high}"
        raise OffsetOutOfRange(f"offset {offset} is {side} of {where}", log_start_offset=low, high_watermark=high)


class EmbeddedBatches:
    """``RawBatches`` over the open partitions."""

    def __init__(self, partition: Lookup, clock: Clock, disk: DiskSpace) -> None:
        self._partition = partition
        self._clock = clock
        self._disk = disk

    def append(self, where: TopicPartition, batches: Buffer) -> Appended:
        partition = self._partition(where)
        refuse_claimed(partition, where)
        self._disk.admit(len(batches))
        return partition.append(batches, self._clock.now())

    def when_flushed(self, where: TopicPartition, next_offset: int, done: Done) -> None:
        self._partition(where).when_flushed(next_offset, done)

    def read(
        self,
        where: TopicPartition,
        offset: int,
        max_bytes: int,
        isolation: Isolation = Isolation.READ_UNCOMMITTED,
    ) -> BatchesRead | None:
        found = self._find(where, offset, max_bytes)
        return None if isinstance(found, ColdRead) else self._read(where, found)

    async def read_cold(
        self,
        where: TopicPartition,
        offset: int,
        max_bytes: int,
        isolation: Isolation = Isolation.READ_UNCOMMITTED,
    ) -> BatchesRead:
        found = self._find(where, offset, max_bytes)
        return self._read(where, await asyncio.to_thread(found.run) if isinstance(found, ColdRead) else found)

    def producers(self, where: TopicPartition) -> list[ActiveProducer]:
        return [
            ActiveProducer(state.producer_id, state.epoch, state.last_sequence, state.last_append_ms)
            for state in self._partition(where).log.producers()
        ]

    def _find(self, where: TopicPartition, offset: int, max_bytes: int) -> Buffer | ColdRead:
        partition = self._partition(where)
        check_range(partition, where, offset)
        return partition.log.read(offset, max_bytes, partition.high_watermark)

    def _read(self, where: TopicPartition, chunk: Buffer) -> BatchesRead:
        return BatchesRead([chunk] if len(chunk) else [], self._partition(where).bounds(), [])


class EmbeddedStorage:
    """``Storage`` over the open partitions."""

    def __init__(self, partition: Lookup) -> None:
        self._partition = partition

    def segments(self, where: TopicPartition) -> list[SegmentInfo]:
        return self._partition(where).log.segments()

    def size_bytes(self, where: TopicPartition) -> int:
        return self._partition(where).log.size_bytes
