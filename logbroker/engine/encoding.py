"""Records to batches and back, as the embedded engine needs it. Pure."""

from collections.abc import Iterable, Sequence
from struct import Struct

from logbroker.config import TopicConfig
from logbroker.engine.api import AbortedTransaction, Buffer
from logbroker.errors import CorruptMessage, PartitionDamaged
from logbroker.model import ProducerStamp, Record, StoredRecord
from logbroker.records.batch import LOG_OVERHEAD, BatchHeader, Compression, check_batch, iter_headers
from logbroker.records.codec import decode, encode
from logbroker.records.committed import AbortedBatches

_SPAN = Struct(">qi11xi")
"""Base offset, length and last offset delta of a header: what it takes to get to the next one."""


def encode_batch(
    records: Sequence[Record], config: TopicConfig, now_ms: int, producer: ProducerStamp, *, transactional: bool = False
) -> bytes:
    """``records`` as one batch, compressed as the topic asks."""
    named = config.compression_type
    compression = Compression.NONE if named in ("producer", "uncompressed") else Compression.from_name(named)
    return encode(records, now_ms=now_ms, compression=compression, producer=producer, transactional=transactional)


def decode_from(
    chunks: Iterable[Buffer], offset: int, max_records: int | None, aborted: Sequence[AbortedTransaction] = ()
) -> tuple[list[StoredRecord], int]:
    """The records at and after ``offset`` in whole batches, and where to go on.

    Control records and those of ``aborted`` transactions are left out.

    What cannot be read ends the read before it; where it comes first, this raises: PartitionDamaged for a batch whose
    bytes changed since it was written, CorruptMessage with ``next_offset``, where reading can go on behind it, for one that
    was written with records that cannot be decoded (the CRC is right).
    """
    records: list[StoredRecord] = []
    next_offset = offset
    dropped = AbortedBatches(aborted) if aborted else None
    for chunk in chunks:
        for position, header in iter_headers(chunk):
            try:
                _check_unchanged(chunk, position, header)
            except PartitionDamaged:
                if next_offset > offset:
                    return records, next_offset
                raise
            is_dropped = dropped is not None and dropped.drops(header)
            if not (header.is_control or is_dropped):
                try:
                    decoded = decode(chunk, position)
                except CorruptMessage as error:
                    if next_offset > offset:
                        return records, next_offset
                    raise CorruptMessage(error.detail, **{**error.fields, "next_offset": header.next_offset}) from None
                records.extend(
                    decoded if header.base_offset >= offset else [one for one in decoded if one.offset >= offset]
                )
            next_offset = max(next_offset, header.next_offset)
            if max_records is not None and len(records) >= max_records:
                del records[max_records:]
                return records, (records[-1].offset + 1 if records else next_offset)
    return records, next_offset


def next_offset_behind(chunk: Buffer) -> int:
    """The offset behind the last of the whole batches in ``chunk``, which holds at least one."""
    position = 0
    next_offset = 0
    while position + _SPAN.size <= len(chunk):
        base_offset, length, delta = _SPAN.unpack_from(chunk, position)
        position += length + LOG_OVERHEAD
        next_offset = base_offset + delta + 1
    return next_offset


def _check_unchanged(chunk: Buffer, position: int, header: BatchHeader) -> None:
    try:
        check_batch(chunk, position, header, dense=False)
    except CorruptMessage as error:
        raise PartitionDamaged(
            f"the batch at offsets {header.base_offset} to {header.last_offset} is not what was written: {error.detail}. "
            "Nothing was skipped; see 'logbroker segment verify'",
            base_offset=header.base_offset,
            last_offset=header.last_offset,
        ) from None
