"""The seam: what groups, queues, subscriptions and the doors know of a log.

What lives here: the interface and the values that cross it. What may not: files, processes, sockets, threads; an Apache
Kafka cluster behind a Kafka client must be able to implement all of it but the declared capabilities.
Invariants every engine keeps (the contract suite in ``tests/engine/contract.py`` runs on each of them):

- offsets of a partition grow and are never given out twice, but need not be dense: always go on from ``next_offset``;
- a reader sees only what a crash cannot take back: ``high_watermark`` bounds reads, time look-ups and waiters alike;
- a record that was acknowledged with ``durable=True`` is there after any crash.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from logbroker.config import TopicConfig
from logbroker.errors import LogbrokerError
from logbroker.model import (
    ActiveProducer,
    Appended,
    Bounds,
    OffsetAndTimestamp,
    ProducerStamp,
    Record,
    SegmentInfo,
    StoredRecord,
    TopicPartition,
)
from logbroker.model import Buffer as Buffer

NO_PRODUCER = ProducerStamp()
INTERNAL = "internal"
"""Owner of the topics that logbroker keeps its own state in."""


class Isolation(enum.Enum):
    """Which records a reader wants to see (Kafka's isolation.level)."""

    READ_UNCOMMITTED = 0
    """Everything below the high watermark, also of transactions that are open or were aborted."""
    READ_COMMITTED = 1
    """What is below the last stable offset, without the records of aborted transactions."""

    def end(self, bounds: Bounds) -> int:
        """Where such a reader comes to the end, for now."""
        return bounds.last_stable_offset if self is Isolation.READ_COMMITTED else bounds.high_watermark


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """One topic of the catalogue. ``overrides`` are the settings given for it; ``config`` is what is in force."""

    name: str
    id: UUID
    partitions: int
    overrides: Mapping[str, object]
    config: TopicConfig
    created_ms: int
    owner: str | None = None
    """What the topic belongs to, as ``queue:orders`` or ``internal``; None for a topic of its own."""


class TopicSpec(NamedTuple):
    """A topic that is to be created together with something else."""

    name: str
    partitions: int
    overrides: Mapping[str, object]


class RecordsRead(NamedTuple):
    """Records of one read, ascending. Reading goes on at ``next_offset`` even when ``records`` is empty."""

    records: list[StoredRecord]
    next_offset: int
    bounds: Bounds


class Deleted(NamedTuple):
    """What one round of retention deleted of a partition: the records from ``start`` to in front of ``end``."""

    where: TopicPartition
    start: int
    end: int
    records: int
    """How many there were; fewer than offsets where the log has gaps."""


class Compacted(NamedTuple):
    """A compaction of a partition, up to in front of ``end``."""

    where: TopicPartition
    end: int
    seconds: float
    bytes_before: int
    bytes_after: int
    records_dropped: int


class AbortedTransaction(NamedTuple):
    """A transaction whose records a committed reader drops, from its first offset to its abort marker (KIP-98)."""

    producer_id: int
    first_offset: int


class BatchesRead(NamedTuple):
    """Whole record batches of one read, as stored. The first may start before the offset asked for."""

    chunks: list[Buffer]
    bounds: Bounds
    aborted: list[AbortedTransaction]


class Writer(Protocol):
    """The exclusive right to append to one partition, until a later claim fences it."""

    async def append(self, records: Sequence[Record], *, durable: bool = True) -> Appended:
        """Append all of ``records`` or none; with ``durable=False`` return once written.

        Raises WriterFenced after a later claim, AppendUnknown when the outcome cannot be known, StorageError when
        nothing was written.
        """
        ...

    async def flushed(self) -> None:
        """Return when everything this writer has appended is durable."""
        ...


class RawBatches(Protocol):
    """Capability: record batches as bytes, without decoding a record (design idea 1).

    These calls never wait, so that the hot path costs no task; they run on the loop's thread.
    """

    def append(self, where: TopicPartition, batches: Buffer, *, transactional: bool = False) -> Appended:
        """Check, stamp and write whole batches; all or none. Not yet durable: see ``when_flushed``.

        ``batches`` is read before this returns and not kept. Batches of transactions are taken only if ``transactional``:
        from a caller who knows that the transaction is open and sees to it that it ends. Raises CorruptMessage,
        MessageTooLarge, InvalidTimestamp, OutOfOrderSequence, DuplicateSequence, InvalidProducerEpoch,
        InvalidTransactionState, UnknownTopicOrPartition, StorageError.
        """
        ...

    def when_flushed(self, where: TopicPartition, next_offset: int, done: Callable[[LogbrokerError | None], None]) -> None:
        """Call ``done(None)`` once the topic's durability acknowledges offsets below ``next_offset``; at once if it does.

        ``done(FlushFailed)`` is called when it never will, because the broker is stopping.
        """
        ...

    def read(
        self,
        where: TopicPartition,
        offset: int,
        max_bytes: int,
        isolation: Isolation = Isolation.READ_UNCOMMITTED,
    ) -> BatchesRead | None:
        """Whole batches from the one that holds ``offset``, at least one if any; None when the disk would be waited for.

        Committed reads end at the last stable offset; batches of aborted transactions and markers are among those read,
        to be dropped by whoever decodes them, who is told of the transactions. Raises OffsetOutOfRange (with
        ``log_start_offset`` and ``high_watermark``) and UnknownTopicOrPartition.
        """
        ...

    async def read_cold(
        self,
        where: TopicPartition,
        offset: int,
        max_bytes: int,
        isolation: Isolation = Isolation.READ_UNCOMMITTED,
    ) -> BatchesRead:
        """As ``read``, but waits for the disk (in a thread)."""
        ...

    def producers(self, where: TopicPartition) -> list[ActiveProducer]:
        """The idempotent and transactional producers that are remembered. Raises UnknownTopicOrPartition."""
        ...


class FrozenCopy(NamedTuple):
    """A copy of everything as of one moment, for a backup to read. ``path`` is relative to the data directory."""

    id: str
    path: str
    created_ms: int
    files: int
    bytes: int


class DamagedRange(NamedTuple):
    """Bytes of a segment that are not what was written, and the offsets that cannot be read for it."""

    file: str
    position: int
    first_offset: int
    last_offset: int
    message: str


class SegmentCheck(NamedTuple):
    """What was found when a segment was last read and checked whole."""

    base_offset: int
    checked_ms: int
    damages: tuple[DamagedRange, ...]


class BatchFacts(NamedTuple):
    """A batch as it lies in its file; its CRC is right."""

    position: int
    base_offset: int
    last_offset: int
    records: int
    bytes: int
    compression: str
    max_timestamp_ms: int
    producer_id: int
    transactional: bool
    control: bool
    crc: str


class IndexEntries(NamedTuple):
    """Entries of the indexes of a segment: (last offset of a batch, its position) and (timestamp, offset)."""

    offsets: list[tuple[int, int]]
    times: list[tuple[int, int]]


class SegmentPage(NamedTuple):
    """Some batches of a segment and the index entries about them; the next page starts at ``next_position``.

    ``bad`` says why no batch could be read at ``next_position``, where that is so.
    """

    batches: list[BatchFacts]
    entries: IndexEntries
    next_position: int | None
    bad: str | None


class Storage(Protocol):
    """Capability: the files below the log."""

    def checks(self, where: TopicPartition) -> Mapping[int, SegmentCheck]:
        """What was found when its segments were last checked, by base offset; since the process started."""
        ...

    async def check(self, where: TopicPartition, base_offset: int, bytes_per_second: int) -> SegmentCheck | None:
        """Read and check a sealed segment now, at most so fast; None where there is none (any more).

        What is damaged in it can no longer be read: PartitionDamaged. Raises StorageError.
        """
        ...

    async def look_into(self, where: TopicPartition, base_offset: int, position: int, limit: int) -> SegmentPage:
        """Up to ``limit`` batches of a segment from ``position`` on. Raises UnknownTopicOrPartition, StorageError."""
        ...

    async def freeze(self) -> FrozenCopy:
        """Keep all files as they are now, until ``release``; takes no space of its own. Raises StorageError."""
        ...

    async def release(self, copy_id: str) -> None:
        """Let a frozen copy go; one that is not there is no error."""
        ...

    def segments(self, where: TopicPartition) -> list[SegmentInfo]:
        """The segments of a partition by base offset. Raises UnknownTopicOrPartition."""
        ...

    def size_bytes(self, where: TopicPartition) -> int:
        """The bytes of its log files."""
        ...


class Engine(Protocol):
    """A set of topics that can be appended to and read."""

    @property
    def raw(self) -> RawBatches | None:
        """The raw-batch capability, or None."""
        ...

    @property
    def storage(self) -> Storage | None:
        """The file capability, or None."""
        ...

    # -- topics ------------------------------------------------------------------------------------------------------

    def topics(self) -> Sequence[TopicInfo]:
        """All topics, by name."""
        ...

    def topic(self, name: str) -> TopicInfo:
        """One topic. Raises UnknownTopicOrPartition."""
        ...

    def topic_by_id(self, topic_id: UUID) -> TopicInfo:
        """One topic by its id. Raises UnknownTopicOrPartition."""
        ...

    async def create_topic(
        self, name: str, partitions: int, overrides: Mapping[str, object], *, owner: str | None = None
    ) -> TopicInfo:
        """Create a topic; durable on return. Raises TopicAlreadyExists, InvalidTopic, InvalidPartitions, InvalidConfig."""
        ...

    async def delete_topic(self, name: str) -> None:
        """Delete a topic and its records. Raises UnknownTopicOrPartition."""
        ...

    async def configure_topic(self, name: str, changes: Mapping[str, object | None]) -> TopicInfo:
        """Set (or, with None, unset) settings. Raises UnknownTopicOrPartition, InvalidConfig."""
        ...

    async def grow_topic(self, name: str, partitions: int) -> TopicInfo:
        """Raise the number of partitions. Raises UnknownTopicOrPartition, InvalidPartitions."""
        ...

    # -- definitions -------------------------------------------------------------------------------------------------

    def definitions(self) -> Mapping[str, Any]:
        """What stands on topics, by key (``queue:orders``), as plain JSON."""
        ...

    async def define(
        self,
        key: str,
        document: Any | None,
        *,
        create: Sequence[TopicSpec] = (),
        adopt: Sequence[str] = (),
        delete: Sequence[str] = (),
    ) -> None:
        """Store ``document`` under ``key`` (or, with None, remove it) and change its topics, all in one durable step.

        Topics that are created or adopted get ``key`` as their owner; with None those it owns and that stay get none.
        Raises TopicAlreadyExists, UnknownTopicOrPartition, InvalidPartitions, InvalidConfig, and then nothing has changed.
        """
        ...

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
        """Append records as one batch, beside other producers; all or none.

        ``durable=True`` returns once the topic's durability acknowledges it. ``transactional`` puts them into the open
        transaction of ``producer``, or opens one. Raises as ``RawBatches.append``, and AppendUnknown; WriterFenced where a
        ``Writer`` holds the partition.
        """
        ...

    async def end_transaction(self, where: TopicPartition, producer_id: int, epoch: int, *, committed: bool) -> None:
        """Let committed readers see the open transaction of a producer, or never; durable on return.

        Afterwards nothing of a lower epoch is taken from the producer. Where this has been done, nothing happens. Raises
        InvalidProducerEpoch where a higher epoch is here, UnknownTopicOrPartition, PartitionDamaged, StorageError,
        FlushFailed.
        """
        ...

    async def writer(self, where: TopicPartition) -> Writer:
        """Claim the exclusive right to append, fencing any earlier claim. Raises UnknownTopicOrPartition."""
        ...

    async def read(
        self,
        where: TopicPartition,
        offset: int,
        *,
        max_bytes: int,
        max_records: int | None = None,
        isolation: Isolation = Isolation.READ_UNCOMMITTED,
    ) -> RecordsRead:
        """Records at and after ``offset``, control records left out; never waits for new ones.

        At least one record is returned where one stands, however large. Raises OffsetOutOfRange (with
        ``log_start_offset`` and ``high_watermark``), UnknownTopicOrPartition, PartitionDamaged; CorruptMessage (with
        ``next_offset``, where to go on) where the batch at ``offset`` is whole but was written malformed.
        """
        ...

    async def changed(
        self, positions: Mapping[TopicPartition, int], isolation: Isolation = Isolation.READ_UNCOMMITTED
    ) -> None:
        """Return when any partition can be read past its position, or is gone. The caller bounds the wait."""
        ...

    async def bounds(self, where: TopicPartition) -> Bounds:
        """Where the partition can be read. Raises UnknownTopicOrPartition."""
        ...

    async def offset_at(self, where: TopicPartition, timestamp_ms: int) -> OffsetAndTimestamp | None:
        """The first record whose timestamp is at or after ``timestamp_ms``, or None. Timestamps may be out of order."""
        ...

    async def max_timestamp(self, where: TopicPartition) -> OffsetAndTimestamp | None:
        """The record with the largest timestamp, the first of equals (KIP-734), or None for an empty partition."""
        ...

    async def flushed(self, where: TopicPartition, offset: int) -> None:
        """Return once no crash can take back what was read below ``offset``, whatever the topic's durability.

        Raises FlushFailed, UnknownTopicOrPartition.
        """
        ...

    async def trim(self, where: TopicPartition, before_offset: int) -> int:
        """Move the log start offset to ``before_offset`` and return it; durable on return.

        Raises InvalidOffset above the high watermark or above a hold. Below the log start it changes nothing.
        """
        ...

    def hold(self, where: TopicPartition, holder: str, offset: int | None) -> None:
        """Keep everything at and above ``offset`` from retention and trim until the holder moves on; None lets go."""
        ...

    async def allocate_producer_id(self) -> int:
        """An id no producer of this log ever had, also across crashes."""
        ...
