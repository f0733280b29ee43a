"""The engine on segment files: topics of a data directory, in this process.

What lives here: the interface of ``engine.api`` carried out on ``Partition`` objects. What may not: the catalogue's form
(``catalog``), directories and start-up (``datadir``), deciding what a log deletes (``log.retention``), timers
(``node``).
Invariants: ``catalog.json`` is written before a topic can be used and before its files go; all state is touched on the
loop's thread only, threads see files and nothing else; after a failed flush nothing is appended or acknowledged.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from logbroker.clock import Clock
from logbroker.config import BrokerConfig, TopicConfig, checked
from logbroker.engine.api import INTERNAL, NO_PRODUCER, Compacted, Deleted, Isolation, RecordsRead, TopicInfo, TopicSpec
from logbroker.engine.catalog import Catalog, TopicEntry
from logbroker.engine.compaction import Compactor
from logbroker.engine.datadir import DataDirectory, partition_path
from logbroker.engine.diskspace import DiskSpace
from logbroker.engine.encoding import decode_from
from logbroker.engine.flusher import Flusher
from logbroker.engine.frozen import Freezer
from logbroker.engine.maintenance import BelievedTime, Maintenance
from logbroker.engine.partition import Partition
from logbroker.engine.raw import EmbeddedBatches, refuse_claimed
from logbroker.engine.scrubber import Scrubber
from logbroker.engine.storage import EmbeddedStorage
from logbroker.engine.writer import EmbeddedWriter, acknowledged, append_records, durable
from logbroker.errors import (
    DiskFull,
    FlushFailed,
    InvalidOffset,
    InvalidPartitions,
    PartitionDamaged,
    Recovering,
    UnknownTopicOrPartition,
)
from logbroker.log.files import Files
from logbroker.model import Appended, Bounds, OffsetAndTimestamp, ProducerStamp, Record, TopicPartition

_PRODUCER_ID_BLOCK = 1_000


class EmbeddedEngine:
    """An ``Engine`` over the files of one data directory."""

    def __init__(self, files: Files, config: BrokerConfig, topic_defaults: TopicConfig, clock: Clock) -> None:
        self._clock = clock
        self._flusher = Flusher(config.flush_threads, self._flush_failed)
        self.disk = DiskSpace(files, config.disk_reserve_bytes)
        self._directory = DataDirectory(files, topic_defaults, config.max_open_files)
        self._topics: dict[str, TopicInfo] = {}
        self._names: dict[UUID, str] = {}
        self._partitions: dict[TopicPartition, Partition] = {}
        self._damaged: dict[TopicPartition, PartitionDamaged] = {}
        self._catalog_lock = asyncio.Lock()
        self._next_producer_id = 0
        self.raw = EmbeddedBatches(self.partition, clock, self.disk)
        self.scrubber = Scrubber(files, self._partitions, self._path_of, clock)
        self._freezer = Freezer(files, self._directory, self._partitions, self._damaged, clock, self._catalog_lock)
        self.storage = EmbeddedStorage(self.partition, files, self._path_of, self._freezer, self.scrubber)
        believed = BelievedTime()
        self._maintenance = Maintenance(self._partitions, clock, believed)
        self._compactor = Compactor(files, self._partitions, config, clock, believed)
        self.failed: asyncio.Future[FlushFailed] = asyncio.get_running_loop().create_future()
        """Resolved with the cause when the engine cannot go on; the process must then exit."""

    @property
    def cluster_id(self) -> str:
        """The id the data directory got when it was founded."""
        return self._directory.catalog.cluster_id

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the data directory, load the catalogue and open every partition, recovering what a crash left.

        Raises DataDirectoryError when the directory is in use, damaged or of a newer format. A damaged partition does
        not stop the others: its operations raise PartitionDamaged.
        """
        self._directory.take()
        self._freezer.clear()
        self.disk.look()
        self._next_producer_id = self._directory.catalog.next_producer_id
        for entry in self._directory.catalog:
            info = self._directory.info(entry)
            await self._open(info, range(info.partitions))
            self._topics[entry.name] = info
            self._names[info.id] = info.name

    async def stop(self) -> None:
        """Flush everything, close every file and let the data directory go."""
        for partition in self._partitions.values():
            partition.flush_soon()
        self.scrubber.close()
        await self._flusher.drain()
        self._flusher.close()
        for partition in self._partitions.values():
            partition.end(Recovering("the broker has stopped"))
            if not self.failed.done():
                partition.log.close()
        self._partitions.clear()
        self._directory.release()

    def _flush_failed(self, failure: FlushFailed) -> None:
        for partition in self._partitions.values():
            partition.end(failure)
        if not self.failed.done():
            self.failed.set_result(failure)

    async def _open(self, info: TopicInfo, numbers: range) -> None:
        for number in numbers:
            await asyncio.sleep(0)
            where = TopicPartition(info.name, number)
            try:
                log = self._directory.open_log(info, number, self._clock.now())
            except PartitionDamaged as damage:
                self._damaged[where] = damage
            else:
                self._partitions[where] = Partition(log, info.config, self._flusher)

    def _path_of(self, where: TopicPartition) -> str:
        return partition_path(self.topic(where.topic).id, where.partition)

    def partition(self, where: TopicPartition) -> Partition:
        """The open partition. Raises UnknownTopicOrPartition, or the PartitionDamaged it failed with."""
        partition = self._partitions.get(where)
        if partition is not None:
            return partition
        if where in self._damaged:
            raise self._damaged[where]
        info = self.topic(where.topic)
        raise UnknownTopicOrPartition(
            f"topic {info.name!r} has {info.partitions} partitions, there is no partition {where.partition}",
            **where._asdict(),
        )

    # -- topics ------------------------------------------------------------------------------------------------------

    def topics(self) -> Sequence[TopicInfo]:
        return [self._topics[name] for name in sorted(self._topics)]

    def topic(self, name: str) -> TopicInfo:
        try:
            return self._topics[name]
        except KeyError:
            raise UnknownTopicOrPartition(f"there is no topic {name!r}", topic=name) from None

    def topic_by_id(self, topic_id: UUID) -> TopicInfo:
        info = self._topics.get(self._names.get(topic_id, ""))
        if info is None or info.id != topic_id:
            raise UnknownTopicOrPartition(f"there is no topic with id {topic_id}")
        return info

    async def create_topic(
        self, name: str, partitions: int, overrides: Mapping[str, object], *, owner: str | None = None
    ) -> TopicInfo:
        if owner != INTERNAL:
            self.disk.admit(partitions)
        entry = self._entry(TopicSpec(name, partitions, overrides), owner)
        return await self._publish(name, lambda catalog: catalog.with_new(entry))

    def _entry(self, spec: TopicSpec, owner: str | None) -> TopicEntry:
        settings = checked(TopicConfig, spec.overrides)
        if spec.partitions < 1:
            raise InvalidPartitions(f"a topic needs at least 1 partition, not {spec.partitions}")
        return TopicEntry(spec.name, uuid4(), spec.partitions, settings, self._clock.now().wall_ms, owner)

    async def configure_topic(self, name: str, changes: Mapping[str, object | None]) -> TopicInfo:
        checked(TopicConfig, {key: value for key, value in changes.items() if value is not None})
        changed = {**self.topic(name).overrides, **changes}
        settings = checked(TopicConfig, {key: value for key, value in changed.items() if value is not None})
        return await self._publish(name, lambda catalog: catalog.with_overrides(name, settings))

    async def grow_topic(self, name: str, partitions: int) -> TopicInfo:
        self.disk.admit(partitions)
        present = self.topic(name).partitions
        if partitions < present:
            raise InvalidPartitions(
                f"topic {name!r} has {present} partitions; their number can only grow, not to {partitions}"
            )
        return await self._publish(name, lambda catalog: catalog.with_partitions(name, partitions))

    async def delete_topic(self, name: str) -> None:
        async with self._catalog_lock:
            await self._commit(lambda catalog: catalog.without(name))
            info = self._forget(name)
        await self._remove([info])

    def _forget(self, name: str) -> TopicInfo:
        info = self._topics.pop(name)
        del self._names[info.id]
        return info

    async def _remove(self, gone: Iterable[TopicInfo]) -> None:
        for info in gone:
            self._close(info)
            await self._compactor.abandon()
            await asyncio.to_thread(self._directory.remove_files, info.id)

    def definitions(self) -> Mapping[str, Any]:
        return self._directory.catalog.definitions

    async def define(
        self,
        key: str,
        document: Any | None,
        *,
        create: Sequence[TopicSpec] = (),
        adopt: Sequence[str] = (),
        delete: Sequence[str] = (),
    ) -> None:
        entries = [self._entry(spec, key) for spec in create]
        if entries:
            self.disk.admit(len(entries))
        async with self._catalog_lock:
            await self._commit(lambda catalog: catalog.defining(key, document, entries, adopt, delete))
            gone = [self._forget(name) for name in delete]
            for entry in self._directory.catalog:
                known = self._topics.get(entry.name)
                if known is None or known.owner != entry.owner:
                    await self._follow(entry.name)
        await self._remove(gone)

    def _close(self, info: TopicInfo) -> None:
        for number in range(info.partitions):
            where = TopicPartition(info.name, number)
            self._damaged.pop(where, None)
            partition = self._partitions.pop(where, None)
            if partition is not None:
                partition.end(UnknownTopicOrPartition(f"topic {info.name!r} was deleted", topic=info.name))
                partition.log.delete()

    async def _publish(self, name: str, change: Callable[[Catalog], Catalog]) -> TopicInfo:
        """Commit a change of one topic, then let its partitions follow; the topic is seen when they are open."""
        async with self._catalog_lock:
            await self._commit(change)
            return await self._follow(name)

    async def _follow(self, name: str) -> TopicInfo:
        """Let a topic be as the catalogue has it."""
        known = self._topics.get(name)
        info = self._directory.info(self._directory.catalog.topic(name))
        await self._open(info, range(known.partitions if known else 0, info.partitions))
        self._topics[name] = info
        self._names[info.id] = name
        if known is not None and known.config != info.config:
            self._configure(info, known.partitions)
        return info

    def _configure(self, info: TopicInfo, partitions: int) -> None:
        for number in range(partitions):
            partition = self._partitions.get(TopicPartition(info.name, number))
            if partition is not None:
                partition.configure(info.config)

    async def _commit(self, change: Callable[[Catalog], Catalog]) -> None:
        """Write the changed catalogue; the caller holds the lock, so that each change starts from the one before."""
        changed = change(self._directory.catalog)
        try:
            await asyncio.to_thread(self._directory.commit, changed)
        except DiskFull:
            if not self.disk.give_up_reserve():
                raise
            await asyncio.to_thread(self._directory.commit, changed)

    # -- records -----------------------------------------------------------------------------------------------------

    async def append(
        self,
        where: TopicPartition,
        records: Sequence[Record],
        *,
        durable: bool = True,
        producer: ProducerStamp = NO_PRODUCER,
        transactional: bool = False,
    ) -> Appended:
        partition = self.partition(where)
        refuse_claimed(partition, where)
        appended = append_records(
            partition,
            records,
            self._clock,
            self.disk,
            producer,
            must_go_on=self.topic(where.topic).owner == INTERNAL,
            transactional=transactional,
        )
        if durable:
            await acknowledged(partition, appended.next_offset)
        return appended

    async def end_transaction(self, where: TopicPartition, producer_id: int, epoch: int, *, committed: bool) -> None:
        partition = self.partition(where)
        now = self._clock.now()
        upto = self.disk.insist(lambda: partition.end_transaction(producer_id, epoch, committed, now))
        await durable(partition, upto)

    async def writer(self, where: TopicPartition) -> EmbeddedWriter:
        return EmbeddedWriter(where, self.partition(where), self._clock, self.disk)

    async def read(
        self,
        where: TopicPartition,
        offset: int,
        *,
        max_bytes: int,
        max_records: int | None = None,
        isolation: Isolation = Isolation.READ_UNCOMMITTED,
    ) -> RecordsRead:
        batches = self.raw.read(where, offset, max_bytes, isolation) or await self.raw.read_cold(
            where, offset, max_bytes, isolation
        )
        try:
            records, next_offset = decode_from(batches.chunks, offset, max_records, batches.aborted)
        except PartitionDamaged as damage:
            raise PartitionDamaged(f"{where}: {damage.detail}", **where._asdict(), **damage.fields) from None
        return RecordsRead(records, next_offset, batches.bounds)

    async def changed(
        self, positions: Mapping[TopicPartition, int], isolation: Isolation = Isolation.READ_UNCOMMITTED
    ) -> None:
        watched = [(self._partitions.get(where), position) for where, position in positions.items()]
        if any(one is None or one.readable_end(isolation) > position for one, position in watched):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            for partition, position in watched:
                if partition is not None:
                    partition.watch(future, position, isolation)
            await future
        finally:
            for partition, _ in watched:
                if partition is not None:
                    partition.unwatch(future)

    async def bounds(self, where: TopicPartition) -> Bounds:
        return self.partition(where).bounds()

    async def offset_at(self, where: TopicPartition, timestamp_ms: int) -> OffsetAndTimestamp | None:
        partition = self.partition(where)
        return partition.log.offset_at(timestamp_ms, partition.high_watermark)

    async def max_timestamp(self, where: TopicPartition) -> OffsetAndTimestamp | None:
        partition = self.partition(where)
        return partition.log.max_timestamp(partition.high_watermark)

    async def flushed(self, where: TopicPartition, offset: int) -> None:
        await durable(self.partition(where), offset)

    async def trim(self, where: TopicPartition, before_offset: int) -> int:
        partition = self.partition(where)
        if before_offset > partition.high_watermark:
            raise InvalidOffset(
                f"cannot trim {where} before {before_offset}: its high watermark is {partition.high_watermark}",
                high_watermark=partition.high_watermark,
            )
        if before_offset > partition.floor:
            raise InvalidOffset(
                f"cannot trim {where} before {before_offset}: {partition.floor} is still needed by a consumer"
            )
        return self.disk.insist(lambda: partition.trim(before_offset, self._clock.now()))

    def hold(self, where: TopicPartition, holder: str, offset: int | None) -> None:
        holds = self.partition(where).holds
        if offset is None:
            holds.pop(holder, None)
        else:
            holds[holder] = offset

    async def allocate_producer_id(self) -> int:
        async with self._catalog_lock:
            if self._next_producer_id == self._directory.catalog.next_producer_id:
                limit = self._next_producer_id + _PRODUCER_ID_BLOCK
                await self._commit(lambda catalog: catalog.with_producer_ids_below(limit))
            self._next_producer_id += 1
            return self._next_producer_id - 1

    # -- upkeep ------------------------------------------------------------------------------------------------------

    async def maintain(self) -> list[Deleted]:
        """Roll and retire segments that are due; returns what was deleted.

        Raises FlushFailed, and then ``failed`` is resolved.
        """
        return await self._maintenance.run()

    async def compact(self) -> Compacted | None:
        """Compact the partition that needs it most; None if none does.

        Raises FlushFailed, and then ``failed`` is resolved.
        """
        return await self._compactor.run()
