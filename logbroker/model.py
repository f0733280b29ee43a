"""The nouns that every layer shares: records, positions, instants.

What lives here: frozen values without behaviour beyond their own arithmetic. What may not: I/O, clocks, formats.
Invariant: nothing here knows where a record came from or through which door it left.
Times are integers in milliseconds since the epoch (``_ms``); offsets are 64-bit integers; sizes are bytes.
"""

from typing import NamedTuple, TypeAlias

import msgspec

NO_TIMESTAMP = -1

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes that are read where they lie, without a copy."""


class TopicPartition(NamedTuple):
    """One partition of one topic: what an append, a read or a journal names."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class Now(NamedTuple):
    """One instant, read once at the edge and passed down.

    ``wall_ms`` is for schedules, TTL and timestamps; ``mono_ms`` for leases, sessions and time-outs, which must not move
    when somebody sets the clock.
    """

    wall_ms: int
    mono_ms: int


class Header(NamedTuple):
    """A record header; names may repeat and their order is kept. ``None`` is Kafka's null header value."""

    name: str
    value: bytes | None


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record to be appended. ``value=None`` is a tombstone; ``timestamp_ms=None`` means the time of the append.

    A msgspec struct, because doors make them by the hundred thousand: it costs a quarter of a frozen dataclass.
    """

    value: bytes | None
    key: bytes | None = None
    headers: tuple[Header, ...] = ()
    timestamp_ms: int | None = None


class StoredRecord(NamedTuple):
    """A record read from a partition. A named tuple, because reads make them by the hundred thousand."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()
    append_time: bool = False
    """Whether ``timestamp_ms`` is the broker's append time rather than the producer's."""


class OffsetAndTimestamp(NamedTuple):
    """An offset found by time, with the timestamp of the record that stands there."""

    offset: int
    timestamp_ms: int


class Appended(NamedTuple):
    """What an append did. Offsets are dense only on the embedded engine; ``next_offset`` is one past the last record."""

    base_offset: int
    next_offset: int
    append_time_ms: int
    """The broker's append time where the topic stamps it (message.timestamp.type = LogAppendTime), else -1."""
    log_start_offset: int
    duplicate: bool = False
    """Whether an idempotent producer repeated a batch; the offsets are then those of the original."""


class ProducerStamp(NamedTuple):
    """Identity and sequence an idempotent producer puts on a batch (KIP-98); -1 everywhere means none."""

    producer_id: int = -1
    epoch: int = -1
    base_sequence: int = -1


class ActiveProducer(NamedTuple):
    """An idempotent or transactional producer that a partition remembers."""

    producer_id: int
    epoch: int
    last_sequence: int
    last_append_ms: int
    """By the broker's clock."""
    transaction_start_offset: int | None = None
    """Where its open transaction begins, if it has one."""


class Bounds(NamedTuple):
    """Where a partition can be read. Readers see offsets in ``[log_start_offset, high_watermark)``."""

    log_start_offset: int
    high_watermark: int
    last_stable_offset: int
    """Where committed reads end: the high watermark, or the begin of the oldest transaction that is not decided."""


class SegmentInfo(NamedTuple):
    """One segment of a partition. ``max_timestamp_ms`` is -1 while it is empty."""

    base_offset: int
    next_offset: int
    size_bytes: int
    max_timestamp_ms: int
    active: bool
