"""Records to batches and back, as the embedded engine needs it. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from logbroker.config import TopicConfig
from logbroker.engine.api import Buffer
from logbroker.model import ProducerStamp, Record, StoredRecord
from logbroker.records.batch import HEADER_SIZE, Compression, iter_headers
from logbroker.records.codec import decode, encode

_RECORD_OVERHEAD = 21
"""Upper bound of a record's own varints and attributes in a batch (KIP-98): length 5, attributes 1, deltas 10, sizes 5."""


def encode_batches(records: Sequence[Record], config: TopicConfig, now_ms: int, producer: ProducerStamp) -> bytes:
    """``records`` as batches that each fit ``max_message_bytes``; a single larger record is left for the log to refuse."""
    compression = _compression(config)
    batches = []
    stamp = producer
    for run in _runs(records, config.max_message_bytes):
        batches.append(encode(run, now_ms=now_ms, compression=compression, producer=stamp))
        if stamp.base_sequence >= 0:
            stamp = stamp._replace(base_sequence=(stamp.base_sequence + len(run)) & 0x7FFFFFFF)
    return batches[0] if len(batches) == 1 else b"".join(batches)


def _compression(config: TopicConfig) -> Compression:
    if config.compression_type in ("producer", "uncompressed"):
        return Compression.NONE
    return Compression.from_name(config.compression_type)


def _runs(records: Sequence[Record], max_bytes: int) -> Iterator[Sequence[Record]]:
    start, size = 0, HEADER_SIZE
    for at, record in enumerate(records):
        needed = _size_bound(record)
        if size + needed > max_bytes and at > start:
            yield records[start:at]
            start, size = at, HEADER_SIZE
        size += needed
    yield records[start:] if start else records


def _size_bound(record: Record) -> int:
    size = _RECORD_OVERHEAD + len(record.value or b"") + len(record.key or b"")
    if record.headers:
        size += sum(10 + 4 * len(header.name) + len(header.value or b"") for header in record.headers)
    return size


def decode_from(chunks: Iterable[Buffer], offset: int, max_records: int | None) -> tuple[list[StoredRecord], int]:
    """The records at and after ``offset`` in whole batches, control records left out, and where to go on.

    Raises CorruptMessage.
    """
    records: list[StoredRecord] = []
    next_offset = offset
    for chunk in chunks:
        for position, header in iter_headers(chunk):
            if not header.is_control:
                decoded = decode(chunk, position)
                records.extend(
                    decoded if header.base_offset >= offset else [one for one in decoded if one.offset >= offset]
                )
            next_offset = max(next_offset, header.next_offset)
            if max_records is not None and len(records) >= max_records:
                del records[max_records:]
                return records, (records[-1].offset + 1 if records else next_offset)
    return records, next_offset
