"""What may enter a partition, and the form in which it is stored.

What lives here: the checks of a produced batch that need no history, and the bytes to write for it. What may not:
I/O, sequences of producers (``producers``). Pure.
Invariant: the bytes of a batch are neither copied nor changed; what the broker sets stands in a short prefix of its
own, unless the topic wants another compression than the producer's.
"""

from collections.abc import Sequence
from typing import NamedTuple

from logbroker.config import TopicConfig
from logbroker.errors import CorruptMessage, InvalidTimestamp, InvalidTransactionState, KeyRequired, MessageTooLarge
from logbroker.log.compaction.plan import COMPACT
from logbroker.log.files import Buffer
from logbroker.log.state import COVERED
from logbroker.model import NO_TIMESTAMP
from logbroker.records.batch import (
    HEADER_SIZE,
    LOG_OVERHEAD,
    BatchHeader,
    Compression,
    check_batch,
    parse_header,
    stamped_prefix,
)
from logbroker.records.codec import outline, recompress

LEADER_EPOCH = 0
"""What a broker that is alone stamps; ``verify`` finds a changed epoch because it is always the same."""

_BEHIND_STAMP = 16
"""Where the part of a header begins that a broker leaves as it is: magic and CRC."""


_OF_TRANSACTIONS = 0x30
"""The attribute bits of a transactional batch and of a control batch (KIP-98)."""


class Admitted(NamedTuple):
    """A batch that may be written at ``base_offset``."""

    header: BatchHeader
    """As produced: its base offset means nothing."""
    base_offset: int
    max_timestamp_ms: int
    covered: bytes
    """The first bytes as stored, over which ``SegmentState.header_crc`` runs."""
    parts: Sequence[Buffer]


def admit(
    batches: Buffer, config: TopicConfig, now_ms: int, next_offset: int, *, transactional: bool = False
) -> list[Admitted]:
    """Check whole batches and stamp them from ``next_offset`` on. Those of a transaction only enter if ``transactional``.

    Raises CorruptMessage, MessageTooLarge, InvalidTimestamp, InvalidTransactionState, KeyRequired.
    """
    if not len(batches):
        raise CorruptMessage("there is no record batch to append")
    view = memoryview(batches)
    total = len(view)
    append_time = now_ms if config.message_timestamp_type == "LogAppendTime" else None
    keeps_compression = config.compression_type == "producer"
    admitted = []
    position = 0
    while position < total:
        header = parse_header(view, position)
        end = position + header.batch_length + LOG_OVERHEAD
        if end - position > config.max_message_bytes:
            raise MessageTooLarge(
                f"a batch of {header.size} bytes is larger than max_message_bytes = {config.max_message_bytes}",
                max_message_bytes=config.max_message_bytes,
            )
        check_batch(view, position, header)
        if header.attributes & _OF_TRANSACTIONS:
            _check_transactional(header, transactional)
        if COMPACT in config.cleanup_policy:
            _check_keys(view, position)
        if append_time is None:
            _check_timestamps(header, config, now_ms)
        if keeps_compression:
            batch = _stamp(view if end == total and not position else view[position:end], header, next_offset, append_time)
        else:
            batch = _recompressed(view, position, header, config, next_offset, append_time)
        admitted.append(batch)
        next_offset += header.last_offset_delta + 1
        position = end
    return admitted


def admit_marker(batch: Buffer, next_offset: int) -> Admitted:
    """A transaction marker of the broker's own making, stamped with its offset."""
    view = memoryview(batch)
    return _stamp(view, parse_header(view), next_offset, None)


def _check_transactional(header: BatchHeader, allowed: bool) -> None:
    """A batch of a transaction that no coordinator knows would never get a marker and stop all committed readers."""
    if header.is_control:
        raise CorruptMessage("control records are not for clients to write")
    if header.producer_id < 0:
        raise CorruptMessage("a batch of a transaction needs a producer id")
    if not allowed:
        raise InvalidTransactionState(
            f"the batch of producer {header.producer_id} is of a transaction, which this way of writing has not"
        )


def _check_keys(view: memoryview, position: int) -> None:
    records, _ = outline(view, position)
    bare = next((number for number, record in enumerate(records) if record.key is None), None)
    if bare is not None:
        raise KeyRequired(f"record {bare} of the batch has no key, and the topic is compacted")


def _stamp(batch: memoryview, header: BatchHeader, base_offset: int, append_time: int | None) -> Admitted:
    if append_time is None:
        prefix = stamped_prefix(header, base_offset, LEADER_EPOCH, None, b"")
        covered = prefix + batch[_BEHIND_STAMP:COVERED]
        return Admitted(header, base_offset, header.max_timestamp, covered, (prefix, batch[_BEHIND_STAMP:]))
    prefix = stamped_prefix(header, base_offset, LEADER_EPOCH, append_time, batch[HEADER_SIZE:])
    return Admitted(header, base_offset, append_time, prefix[:COVERED], (prefix, batch[HEADER_SIZE:]))


def _check_timestamps(header: BatchHeader, config: TopicConfig, now_ms: int) -> None:
    """By the header: the first and the largest timestamp; a record in between may lie further back than the first."""
    if header.max_timestamp > now_ms + config.message_timestamp_after_max_ms:
        raise InvalidTimestamp(
            f"timestamp {header.max_timestamp} is more than message_timestamp_after_max_ms = "
            f"{config.message_timestamp_after_max_ms} after the broker's clock ({now_ms})"
        )
    if NO_TIMESTAMP < header.base_timestamp < now_ms - config.message_timestamp_before_max_ms:
        raise InvalidTimestamp(
            f"timestamp {header.base_timestamp} is more than message_timestamp_before_max_ms = "
            f"{config.message_timestamp_before_max_ms} before the broker's clock ({now_ms})"
        )


def _recompressed(
    view: memoryview, position: int, header: BatchHeader, config: TopicConfig, base_offset: int, append_time: int | None
) -> Admitted:
    """The batch in the compression the topic asks for."""
    name = "none" if config.compression_type == "uncompressed" else config.compression_type
    wanted = Compression.from_name(name)
    if header.compression == wanted:
        return _stamp(view[position : position + header.size], header, base_offset, append_time)
    changed = memoryview(recompress(view, position, wanted))
    return _stamp(changed, parse_header(changed), base_offset, append_time)
