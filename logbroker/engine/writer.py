"""Appends that wait: the async face of a partition's group commit, shared and exclusive."""

import asyncio
from collections.abc import Callable, Sequence

from logbroker.clock import Clock
from logbroker.engine.api import NO_PRODUCER
from logbroker.engine.diskspace import DiskSpace
from logbroker.engine.encoding import encode_batch
from logbroker.engine.partition import Done, Partition
from logbroker.errors import LogbrokerError, WriterFenced
from logbroker.model import Appended, ProducerStamp, Record, TopicPartition


def append_records(
    partition: Partition,
    records: Sequence[Record],
    clock: Clock,
    disk: DiskSpace,
    producer: ProducerStamp = NO_PRODUCER,
    *,
    must_go_on: bool,
    transactional: bool = False,
) -> Appended:
    """Encode and write ``records``; all or none. Not yet durable. What ``must_go_on`` may use the reserve of the disk."""
    now = clock.now()
    batch = encode_batch(records, partition.log.config, now.wall_ms, producer, transactional=transactional)
    if must_go_on:
        return disk.insist(lambda: partition.append(batch, now))
    disk.admit(len(batch))
    return partition.append(batch, now, transactional=transactional)


async def acknowledged(partition: Partition, next_offset: int) -> None:
    """Return once the topic's durability acknowledges ``next_offset``. Raises FlushFailed when it never will."""
    if next_offset > partition.high_watermark:
        await _called(partition.when_flushed, next_offset)


async def durable(partition: Partition, next_offset: int) -> None:
    """Return once ``next_offset`` is flushed, whatever the topic's durability. Raises FlushFailed when it never will."""
    if next_offset > partition.log.flushed_offset:
        await _called(partition.when_durable, next_offset)


async def _called(call: Callable[[int, Done], None], next_offset: int) -> None:
    """Return when ``call`` calls back. Raises what it is called back with."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(failure: LogbrokerError | None) -> None:
        if future.done():
            return
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)

    call(next_offset, done)
    await future


class EmbeddedWriter:
    """A claim on one partition; a later claim has a higher number."""

    def __init__(self, where: TopicPartition, partition: Partition, clock: Clock, disk: DiskSpace) -> None:
        partition.claim += 1
        self._where = where
        self._partition = partition
        self._clock = clock
        self._disk = disk
        self._claim = partition.claim
        self._written = partition.log.end_offset

    async def append(self, records: Sequence[Record], *, durable: bool = True) -> Appended:
        if self._partition.claim != self._claim:
            raise WriterFenced(f"a later writer has claimed {self._where}", **self._where._asdict())
        appended = append_records(self._partition, records, self._clock, self._disk, must_go_on=True)
        self._written = appended.next_offset
        if durable:
            await self.flushed()
        return appended

    async def flushed(self) -> None:
        await acknowledged(self._partition, self._written)
