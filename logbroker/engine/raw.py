"""A capability only the embedded engine has: batches as bytes."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from logbroker.clock import Clock
from logbroker.engine.api import AbortedTransaction, BatchesRead, Buffer, Isolation
from logbroker.engine.diskspace import DiskSpace
from logbroker.engine.encoding import next_offset_behind
from logbroker.engine.partition import Done, Partition
from logbroker.errors import OffsetOutOfRange, WriterFenced
from logbroker.log.reading import ColdRead
from logbroker.model import ActiveProducer, Appended, TopicPartition

Lookup: TypeAlias = Callable[[TopicPartition], Partition]


_WORTH_A_WALK = 16
"""With more aborted transactions than this it is worth to look where the batches read end, and leave out later ones."""


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

    def append(self, where: TopicPartition, batches: Buffer, *, transactional: bool = False) -> Appended:
        partition = self._partition(where)
        refuse_claimed(partition, where)
        self._disk.admit(len(batches))
        return partition.append(batches, self._clock.now(), transactional=transactional)

    def when_flushed(self, where: TopicPartition, next_offset: int, done: Done) -> None:
        self._partition(where).when_flushed(next_offset, done)

    def read(
        self,
        where: TopicPartition,
        offset: int,
        max_bytes: int,
        isolation: Isolation = Isolation.READ_UNCOMMITTED,
    ) -> BatchesRead | None:
        partition = self._partition(where)
        check_range(partition, where, offset)
        upto = partition.readable_end(isolation)
        if partition.damages:
            upto = partition.intact_end(offset, upto)
        found = partition.log.read(offset, max_bytes, upto)
        return None if isinstance(found, ColdRead) else _batches(partition, found, offset, upto, isolation)

    async def read_cold(
        self,
        where: TopicPartition,
        offset: int,
        max_bytes: int,
        isolation: Isolation = Isolation.READ_UNCOMMITTED,
    ) -> BatchesRead:
        partition = self._partition(where)
        check_range(partition, where, offset)
        upto = partition.readable_end(isolation)
        if partition.damages:
            upto = partition.intact_end(offset, upto)
        found = partition.log.read(offset, max_bytes, upto)
        chunk = await asyncio.to_thread(found.run) if isinstance(found, ColdRead) else found
        return _batches(partition, chunk, offset, upto, isolation)

    def producers(self, where: TopicPartition) -> list[ActiveProducer]:
        log = self._partition(where).log
        return [
            ActiveProducer(
                state.producer_id,
                state.epoch,
                state.last_sequence,
                state.last_append_ms,
                log.transaction_start(state.producer_id),
            )
            for state in log.producers()
        ]


def _batches(partition: Partition, chunk: Buffer, offset: int, upto: int, isolation: Isolation) -> BatchesRead:
    bounds = partition.bounds()
    if not len(chunk):
        return BatchesRead([], bounds, [])
    aborted: list[AbortedTransaction] = []
    if isolation is Isolation.READ_COMMITTED:
        found = partition.log.aborted(offset, upto, _WORTH_A_WALK)
        if found is None:
            found = partition.log.aborted(offset, next_offset_behind(chunk)) or []
        aborted = [AbortedTransaction(one.producer_id, one.first_offset) for one in found]
    return BatchesRead([chunk], bounds, aborted)
