"""A batch with fewer records than it had, as compaction leaves it.

What lives here: bytes to bytes, keeping what the header says of offsets, sequences and transactions. What may not: which
records stay (``log.compaction``). Invariants: a record that stays keeps its offset and timestamp; it is copied as it
lies, but for its timestamp's distance from the base where that becomes the delete horizon (KIP-534).
"""

from collections.abc import Iterator, Sequence
from typing import Final

from logbroker.model import NO_TIMESTAMP, Buffer
from logbroker.records.batch import (
    COMPRESSION_MASK,
    CONTROL_BIT,
    HEADER_SIZE,
    HORIZON_BIT,
    LOG_OVERHEAD,
    MAGIC,
    NO_SEQUENCE,
    TRANSACTIONAL_BIT,
    BatchHeader,
    sealed_header,
)
from logbroker.records.codec import Outline
from logbroker.records.compression import compress

_SURVIVING_BITS: Final = TRANSACTIONAL_BIT | CONTROL_BIT | 0x08


def shrunk(
    header: BatchHeader, plain: memoryview, records: Sequence[Outline], kept: Sequence[bool], horizon_ms: int | None = None
) -> bytes:
    """The batch with those of its ``records`` that are ``kept``, at least one, compressed as it was.

    ``plain`` is the batch when not compressed. ``horizon_ms`` gives it a delete horizon.
    """
    shift = 0 if horizon_ms is None else header.base_timestamp - horizon_ms
    pieces: list[Buffer] = [piece for piece, stays in zip(_pieces(plain, header.record_count), kept, strict=True) if stays]
    if shift:
        pieces = [_shifted(memoryview(piece), shift) for piece in pieces]
    body = compress(header.compression, b"".join(pieces))
    stamps = [record.timestamp_ms for record, stays in zip(records, kept, strict=True) if stays]
    changed = header._replace(
        batch_length=HEADER_SIZE - LOG_OVERHEAD + len(body),
        attributes=header.attributes if horizon_ms is None else header.attributes | HORIZON_BIT,
        base_timestamp=header.base_timestamp if horizon_ms is None else horizon_ms,
        max_timestamp=header.max_timestamp if header.is_append_time else max(stamps),
        record_count=len(pieces),
    )
    return sealed_header(changed, body) + body


def emptied(header: BatchHeader) -> bytes:
    """The batch without records: what it says of offsets, of its producer and of its transaction stays.

    Unlike Kafka's its largest timestamp is gone with the records, so that a look-up by time is not led to it.
    """
    changed = header._replace(
        batch_length=HEADER_SIZE - LOG_OVERHEAD,
        attributes=header.attributes & _SURVIVING_BITS & ~COMPRESSION_MASK,
        base_timestamp=NO_TIMESTAMP,
        max_timestamp=NO_TIMESTAMP,
        record_count=0,
    )
    return sealed_header(changed, b"")


def filler(offset: int, leader_epoch: int) -> bytes:
    """An empty batch that holds the place of ``offset``."""
    header = BatchHeader(offset, 0, leader_epoch, MAGIC, 0, 0, 0, NO_TIMESTAMP, NO_TIMESTAMP, -1, -1, NO_SEQUENCE, 0)
    return emptied(header)


def _pieces(plain: memoryview, count: int) -> Iterator[memoryview]:
    """The records as they lie."""
    at = HEADER_SIZE
    for _ in range(count):
        length, body = _varint(plain, at)
        yield plain[at : body + length]
        at = body + length


def _shifted(piece: memoryview, shift: int) -> bytes:
    """A record whose base timestamp was lowered by ``shift``."""
    _, body = _varint(piece, 0)
    delta, rest = _varint(piece, body + 1)
    record = b"".join((piece[body : body + 1], _encoded(delta + shift), piece[rest:]))
    return _encoded(len(record)) + record


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The zigzag varint at ``at``, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def _encoded(value: int) -> bytes:
    left = (value << 1) ^ (value >> 63)
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)
