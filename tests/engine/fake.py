"""An engine that is as unlike the embedded one as the interface allows: nothing may depend on more than the seam promises.

Every append leaves a gap of unused offsets behind it (as transaction markers and compaction do), writers fence each other,
an append may be told to fail or to end with AppendUnknown, and there are no raw batches and no files.
Records of one append still stand side by side, because an append is one batch.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from logbroker.clock import Clock, ManualClock
from logbroker.config import TopicConfig, checked, configured
from logbroker.engine.api import NO_PRODUCER, Isolation, RecordsRead, TopicInfo, TopicSpec
from logbroker.errors import (
    AppendUnknown,
    DuplicateSequence,
    InvalidOffset,
    InvalidPartitions,
    InvalidProducerEpoch,
    InvalidTransactionState,
    LogbrokerError,
    MessageTooLarge,
    OffsetOutOfRange,
    OutOfOrderSequence,
    TopicAlreadyExists,
    UnknownTopicOrPartition,
    WriterFenced,
)
from logbroker.model import (
    Appended,
    Bounds,
    OffsetAndTimestamp,
    ProducerStamp,
    Record,
    StoredRecord,
    TopicPartition,
)


class _Log:
    def __init__(self) -> None:
        self.records: list[StoredRecord] = []
        self.start = 0
        self.end = 0
        self.claim: object | None = None
        self.holds: dict[str, int] = {}
        self.sequences: dict[int, tuple[ProducerStamp, int, Appended]] = {}
        self.open_since: dict[int, int] = {}
        """First offset of each open transaction, by producer."""
        self.written_by: dict[int, int] = {}
        """Producer of each record of a transaction that is open or was aborted, by offset."""
        self.epochs: dict[int, int] = {}
        """The lowest epoch that is taken from a producer after a marker."""
        self.gone = False
        self.changes = asyncio.Event()

    def touch(self) -> None:
        self.changes.set()
        self.changes = asyncio.Event()


class FakeEngine:
    """An ``Engine`` in memory that leaves ``gap`` unused offsets after every append."""

    raw = None
    storage = None

    def __init__(self, clock: Clock | None = None, *, gap: int = 1, defaults: TopicConfig | None = None) -> None:
        self._clock = clock or ManualClock()
        self._defaults = defaults or TopicConfig()
        self._gap = gap
        self._topics: dict[str, TopicInfo] = {}
        self._logs: dict[TopicPartition, _Log] = {}
        self._next_producer_id = 0
        self._definitions: dict[str, Any] = {}
        self._failures: list[tuple[LogbrokerError, TopicPartition | None]] = []
        self.appends: list[tuple[TopicPartition, int]] = []
        """Every append that was written: where, and how many records."""
        self.waiting = 0
        """How many calls of ``changed`` are waiting now."""

    def fail_next_append(self, error: LogbrokerError, where: TopicPartition | None = None) -> None:
        """Make the next append (to ``where``) raise ``error``; with AppendUnknown the records are written all the same."""
        self._failures.append((error, where))

    # -- topics ------------------------------------------------------------------------------------------------------

    def topics(self) -> Sequence[TopicInfo]:
        return [self._topics[name] for name in sorted(self._topics)]

    def topic(self, name: str) -> TopicInfo:
        if name not in self._topics:
            raise UnknownTopicOrPartition(f"there is no topic {name!r}", topic=name)
        return self._topics[name]

    def topic_by_id(self, topic_id: UUID) -> TopicInfo:
        for info in self._topics.values():
            if info.id == topic_id:
                return info
        raise UnknownTopicOrPartition(f"there is no topic with id {topic_id}")

    async def create_topic(
        self, name: str, partitions: int, overrides: Mapping[str, object], *, owner: str | None = None
    ) -> TopicInfo:
        if name in self._topics:
            raise TopicAlreadyExists(f"topic {name!r} exists", topic=name)
        if partitions < 1:
            raise InvalidPartitions(f"a topic needs at least 1 partition, not {partitions}")
        settings = checked(TopicConfig, overrides)
        config = configured(self._defaults, settings)
        self._topics[name] = TopicInfo(name, uuid4(), 0, settings, config, self._clock.now().wall_ms, owner)
        return await self.grow_topic(name, partitions)

    async def delete_topic(self, name: str) -> None:
        info = self.topic(name)
        del self._topics[name]
        for partition in range(info.partitions):
            log = self._logs.pop(TopicPartition(name, partition))
            log.gone = True
            log.touch()

    async def configure_topic(self, name: str, changes: Mapping[str, object | None]) -> TopicInfo:
        info = self.topic(name)
        checked(TopicConfig, {key: value for key, value in changes.items() if value is not None})
        merged = {**info.overrides, **changes}
        settings = checked(TopicConfig, {key: value for key, value in merged.items() if value is not None})
        self._topics[name] = replace(info, overrides=settings, config=configured(self._defaults, settings))
        return self._topics[name]

    async def grow_topic(self, name: str, partitions: int) -> TopicInfo:
        info = self.topic(name)
        if partitions < max(1, info.partitions):
            raise InvalidPartitions(f"topic {name!r} has {info.partitions} partitions, not to be made {partitions}")
        for partition in range(info.partitions, partitions):
            self._logs[TopicPartition(name, partition)] = _Log()
        self._topics[name] = replace(info, partitions=partitions)
        return self._topics[name]

    def definitions(self) -> Mapping[str, Any]:
        return self._definitions

    async def define(
        self,
        key: str,
        document: Any | None,
        *,
        create: Sequence[TopicSpec] = (),
        adopt: Sequence[str] = (),
        delete: Sequence[str] = (),
    ) -> None:
        for name in (*adopt, *delete):
            self.topic(name)
        for spec in create:
            checked(TopicConfig, spec.overrides)
            if spec.name in self._topics and spec.name not in delete:
                raise TopicAlreadyExists(f"topic {spec.name!r} exists", topic=spec.name)
        for name in delete:
            await self.delete_topic(name)
        for spec in create:
            await self.create_topic(*spec, owner=key)
        for name in adopt:
            self._topics[name] = replace(self._topics[name], owner=key)
        self._definitions = {name: one for name, one in self._definitions.items() if name != key}
        if document is not None:
            self._definitions[key] = document
            return
        for info in [info for info in self._topics.values() if info.owner == key]:
            self._topics[info.name] = replace(info, owner=None)

    # -- appending ---------------------------------------------------------------------------------------------------

    async def append(
        self,
        where: TopicPartition,
        records: Sequence[Record],
        *,
        durable: bool = True,
        producer: ProducerStamp = NO_PRODUCER,
        transactional: bool = False,
    ) -> Appended:
        log = self._log(where)
        if log.claim is not None:
            raise WriterFenced(f"a writer holds {where}")
        await asyncio.sleep(0)
        if producer.epoch < log.epochs.get(producer.producer_id, -1):
            raise InvalidProducerEpoch(f"epoch {producer.epoch} of producer {producer.producer_id} is over")
        if producer.producer_id in log.open_since and not transactional:
            raise InvalidTransactionState(f"producer {producer.producer_id} has an open transaction")
        appended = self._write(where, log, records, producer)
        if transactional and not appended.duplicate:
            log.open_since.setdefault(producer.producer_id, appended.base_offset)
            log.written_by |= dict.fromkeys(range(appended.base_offset, appended.next_offset), producer.producer_id)
        return appended

    async def end_transaction(self, where: TopicPartition, producer_id: int, epoch: int, *, committed: bool) -> None:
        log = self._log(where)
        known = log.sequences.get(producer_id)
        if epoch < max(log.epochs.get(producer_id, -1), known[0].epoch if known else -1):
            raise InvalidProducerEpoch(f"epoch {epoch} of producer {producer_id} is over")
        log.epochs[producer_id] = epoch
        if producer_id not in log.open_since:
            return
        first = log.open_since.pop(producer_id)
        if committed:
            ended = [offset for offset, one in log.written_by.items() if one == producer_id and offset >= first]
            for offset in ended:
                del log.written_by[offset]
        log.end += 1
        log.touch()

    async def writer(self, where: TopicPartition) -> "FakeWriter":
        log = self._log(where)
        log.claim = object()
        return FakeWriter(self, where, log.claim)

    def append_claimed(self, where: TopicPartition, claim: object, records: Sequence[Record]) -> Appended:
        log = self._log(where)
        if log.claim is not claim:
            raise WriterFenced(f"a later writer holds {where}")
        return self._write(where, log, records, NO_PRODUCER)

    def _write(self, where: TopicPartition, log: _Log, records: Sequence[Record], producer: ProducerStamp) -> Appended:
        failure = self._take_failure(where)
        if failure is not None and not isinstance(failure, AppendUnknown):
            raise failure
        self._check_size(where, records)
        original = _check_sequence(log, producer)
        if original is not None:
            return original._replace(duplicate=True)
        appended = self._store(where, log, records)
        if producer.producer_id >= 0:
            log.sequences[producer.producer_id] = (producer, len(records), appended)
        log.touch()
        if failure is not None:
            raise failure
        return appended

    def _store(self, where: TopicPartition, log: _Log, records: Sequence[Record]) -> Appended:
        now = self._clock.now().wall_ms
        stamps = self._topics[where.topic].config.message_timestamp_type == "LogAppendTime"
        base = log.end
        for offset, record in enumerate(records, base):
            timestamp = now if stamps or record.timestamp_ms is None else record.timestamp_ms
            stored = StoredRecord(offset, timestamp, record.key, record.value, record.headers, stamps)
            log.records.append(stored)
        log.end = base + len(records) + self._gap
        self.appends.append((where, len(records)))
        return Appended(base, base + len(records), now if stamps else -1, log.start)

    def _take_failure(self, where: TopicPartition) -> LogbrokerError | None:
        for position, (error, only) in enumerate(self._failures):
            if only is None or only == where:
                del self._failures[position]
                return error
        return None

    def _check_size(self, where: TopicPartition, records: Sequence[Record]) -> None:
        size = sum(len(record.key or b"") + len(record.value or b"") for record in records)
        if size > self._topics[where.topic].config.max_message_bytes:
            raise MessageTooLarge(f"{size} bytes are more than {where} accepts")

    # -- reading -----------------------------------------------------------------------------------------------------

    async def read(
        self,
        where: TopicPartition,
        offset: int,
        *,
        max_bytes: int,
        max_records: int | None = None,
        isolation: Isolation = Isolation.READ_UNCOMMITTED,
    ) -> RecordsRead:
        log = self._log(where)
        if not log.start <= offset <= log.end:
            raise OffsetOutOfRange(
                f"offset {offset} of {where} is outside {log.start} to {log.end}",
                log_start_offset=log.start,
                high_watermark=log.end,
            )
        records: list[StoredRecord] = []
        size = 0
        end = max(offset, isolation.end(_bounds(log)))
        for record in log.records:
            if not offset <= record.offset < end:
                continue
            if isolation is Isolation.READ_COMMITTED and record.offset in log.written_by:
                continue
            size += len(record.key or b"") + len(record.value or b"") + 10
            if records and (size > max_bytes or len(records) == max_records):
                return RecordsRead(records, records[-1].offset + 1, _bounds(log))
            records.append(record)
        return RecordsRead(records, end, _bounds(log))

    async def changed(
        self, positions: Mapping[TopicPartition, int], isolation: Isolation = Isolation.READ_UNCOMMITTED
    ) -> None:
        self.waiting += 1
        try:
            while not any(self._has_changed(where, offset, isolation) for where, offset in positions.items()):
                waits = [asyncio.ensure_future(self._logs[where].changes.wait()) for where in positions]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()
        finally:
            self.waiting -= 1

    def _has_changed(self, where: TopicPartition, offset: int, isolation: Isolation) -> bool:
        return where not in self._logs or isolation.end(_bounds(self._logs[where])) > offset

    async def bounds(self, where: TopicPartition) -> Bounds:
        return _bounds(self._log(where))

    async def offset_at(self, where: TopicPartition, timestamp_ms: int) -> OffsetAndTimestamp | None:
        for record in self._log(where).records:
            if record.timestamp_ms >= timestamp_ms:
                return OffsetAndTimestamp(record.offset, record.timestamp_ms)
        return None

    async def max_timestamp(self, where: TopicPartition) -> OffsetAndTimestamp | None:
        newest = max(self._log(where).records, key=lambda record: (record.timestamp_ms, -record.offset), default=None)
        return None if newest is None else OffsetAndTimestamp(newest.offset, newest.timestamp_ms)

    async def flushed(self, where: TopicPartition, offset: int) -> None:
        self._log(where)

    async def trim(self, where: TopicPartition, before_offset: int) -> int:
        log = self._log(where)
        if before_offset > min([log.end, *log.holds.values()]):
            raise InvalidOffset(f"cannot trim {where} to {before_offset}: it is held or ends before")
        log.start = max(log.start, before_offset)
        log.records = [record for record in log.records if record.offset >= log.start]
        return log.start

    def hold(self, where: TopicPartition, holder: str, offset: int | None) -> None:
        holds = self._log(where).holds
        if offset is None:
            holds.pop(holder, None)
        else:
            holds[holder] = offset

    async def allocate_producer_id(self) -> int:
        self._next_producer_id += 1
        return self._next_producer_id

    def _log(self, where: TopicPartition) -> _Log:
        if where not in self._logs:
            raise UnknownTopicOrPartition(f"there is no partition {where}", **where._asdict())
        return self._logs[where]


class FakeWriter:
    """A ``Writer`` of the fake engine."""

    def __init__(self, engine: FakeEngine, where: TopicPartition, claim: object) -> None:
        self._engine = engine
        self._where = where
        self._claim = claim

    async def append(self, records: Sequence[Record], *, durable: bool = True) -> Appended:
        await asyncio.sleep(0)
        return self._engine.append_claimed(self._where, self._claim, records)

    async def flushed(self) -> None:
        await asyncio.sleep(0)


def _bounds(log: _Log) -> Bounds:
    return Bounds(log.start, log.end, max(log.start, min(log.open_since.values(), default=log.end)))


def _check_sequence(log: _Log, producer: ProducerStamp) -> Appended | None:
    """The answer of the original when ``producer`` repeats its last batch; raises as ``RawBatches.append`` does."""
    if producer.producer_id not in log.sequences:
        return None
    last, count, appended = log.sequences[producer.producer_id]
    if producer.epoch < last.epoch:
        raise InvalidProducerEpoch(f"epoch {producer.epoch} of producer {producer.producer_id} is over")
    if producer.epoch > last.epoch:
        return None
    if producer.base_sequence == last.base_sequence:
        return appended
    if producer.base_sequence < last.base_sequence:
        raise DuplicateSequence(f"sequence {producer.base_sequence} is older than what is remembered")
    if producer.base_sequence != last.base_sequence + count:
        raise OutOfOrderSequence(f"sequence {producer.base_sequence} does not follow {last.base_sequence}")
    return None
