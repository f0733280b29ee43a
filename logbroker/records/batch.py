"""The header of a record batch, format v2, on bytes: read, checked and stamped without decoding a record.

    offset  size  field
         0     8  base offset             set by the broker
         8     4  batch length            of what follows this field: size of the batch - 12
        12     4  partition leader epoch  set by the broker
        16     1  magic                   2
        17     4  CRC-32C                 of everything from 21 to the end of the batch
        21     2  attributes              bits 0-2 compression, 3 timestamp type (1 = append time), 4 transactional,
                                          5 control, 6 delete horizon; the others are unused
        23     4  last offset delta       offset of the last record - base offset
        27     8  base timestamp          of the first record, ms; with a delete horizon that (KIP-534)
        35     8  max timestamp           ms; with append time the timestamp of every record
        43     8  producer id             -1: none
        51     2  producer epoch
        53     4  base sequence           -1: none
        57     4  record count
        61        records, compressed together when the attributes say so

All integers are big-endian. The CRC starts behind magic so that a broker can set base offset and leader epoch of a
produced batch without touching it; so a damaged base offset, length, epoch or magic shows only by what stands around the
batch. Trusted once the CRC holds: everything from 21 on. Compaction may leave fewer records than the offsets span, even
none.

What lives here: this layout. What may not: records (``codec``), I/O, positions in files.
Invariant: nothing here copies the records of a batch. Source: Apache Kafka protocol guide, "Record Batch"; KIP-98.
"""

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from struct import error as StructError
from typing import Final, NamedTuple

from crc32c import crc32c

from logbroker.errors import CorruptMessage, UnsupportedCompression
from logbroker.model import Buffer as Buffer

HEADER_SIZE: Final = 61
LOG_OVERHEAD: Final = 12
"""Bytes of a batch that its length field does not count."""
MAGIC: Final = 2
NO_SEQUENCE: Final = -1

COMPRESSION_MASK: Final = 0x07
APPEND_TIME_BIT: Final = 0x08
TRANSACTIONAL_BIT: Final = 0x10
CONTROL_BIT: Final = 0x20
HORIZON_BIT: Final = 0x40

HEADER_LAYOUT: Final = Struct(">qiibIhiqqqhii")
CRC_STARTS_AT: Final = 21
_PLACE: Final = Struct(">qii")
_UNCOVERED: Final = Struct(">qiibI")
_COVERED: Final = Struct(">hiqqqhii")
_INT32_MAX: Final = 2**31 - 1
_LEAST_LENGTH: Final = HEADER_SIZE - LOG_OVERHEAD


class Compression(IntEnum):
    """The codecs of Kafka, by their number in the attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4

    @property
    def kafka_name(self) -> str:
        """The name in configurations: ``none``, ``gzip``, ``snappy``, ``lz4`` or ``zstd``."""
        return self.name.lower()

    @classmethod
    def from_name(cls, name: str) -> "Compression":
        """The codec of that name. Raises UnsupportedCompression."""
        for codec in cls:
            if codec.kafka_name == name:
                return codec
        known = ", ".join(codec.kafka_name for codec in cls)
        raise UnsupportedCompression(f"compression {name!r} is unknown; take one of {known}")


_CODECS: Final = tuple(Compression)


class BatchHeader(NamedTuple):
    """The fields of a header in their order on the wire. Times are milliseconds."""

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.batch_length + LOG_OVERHEAD

    @property
    def last_offset(self) -> int:
        """Offset of the last record (or of the last one there was, before compaction)."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """The first offset after this batch."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> Compression:
        """Raises CorruptMessage for a number that names no codec."""
        number = self.attributes & COMPRESSION_MASK
        if number >= len(_CODECS):
            raise CorruptMessage(f"batch at offset {self.base_offset}: compression type {number} is unknown")
        return _CODECS[number]

    @property
    def is_append_time(self) -> bool:
        """Whether every record has the broker's append time, which is ``max_timestamp``."""
        return self.attributes & APPEND_TIME_BIT != 0

    @property
    def is_transactional(self) -> bool:
        return self.attributes & TRANSACTIONAL_BIT != 0

    @property
    def is_control(self) -> bool:
        """Whether the batch holds a transaction marker rather than records for readers."""
        return self.attributes & CONTROL_BIT != 0

    @property
    def delete_horizon_ms(self) -> int | None:
        """When compaction may remove the tombstones or the marker in it (KIP-534); the base timestamp holds it."""
        return self.base_timestamp if self.attributes & HORIZON_BIT else None

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record; sequences wrap from 2^31 - 1 to 0. -1 without an idempotent producer."""
        if self.base_sequence == NO_SEQUENCE:
            return NO_SEQUENCE
        return (self.base_sequence + self.last_offset_delta) & _INT32_MAX


_header_of = BatchHeader._make


def parse_header(buf: Buffer, pos: int = 0) -> BatchHeader:
    """The header at ``pos``. Raises CorruptMessage unless its shape is that of a v2 batch; the CRC is not looked at."""
    try:
        header = _header_of(HEADER_LAYOUT.unpack_from(buf, pos))
    except StructError:
        raise CorruptMessage(
            f"batch at byte {pos}: {len(buf) - pos} bytes left, a header takes {HEADER_SIZE}", position=pos
        ) from None
    if header[3] != MAGIC or header[1] < _LEAST_LENGTH or header[6] < 0 or header[12] < 0:
        raise CorruptMessage(f"batch at byte {pos}: {_misshape(header)}", position=pos)
    return header


def _misshape(header: BatchHeader) -> str:
    if header.magic != MAGIC:
        return f"magic {header.magic}, only record batches of format {MAGIC} (Kafka 0.11 and later) are taken"
    if header.batch_length < _LEAST_LENGTH:
        return f"length {header.batch_length}, a header alone has {_LEAST_LENGTH}"
    if header.last_offset_delta < 0:
        return f"last offset delta {header.last_offset_delta} is negative"
    return f"record count {header.record_count} is negative"


def check_batch(buf: Buffer, pos: int, header: BatchHeader, *, dense: bool = True) -> None:
    """Check the batch at ``pos`` as a whole: it lies inside ``buf``, its CRC holds, its counts agree, its codec is known.

    ``dense`` is right for what a producer sends: one record for each offset, at least one. Batches of a compacted log
    are checked with ``dense=False``. Raises CorruptMessage.
    """
    end = pos + header.batch_length + LOG_OVERHEAD
    if end > len(buf):
        raise CorruptMessage(f"batch at byte {pos}: {header.size} bytes long, {len(buf) - pos} are left", position=pos)
    crc = crc32c(memoryview(buf)[pos + CRC_STARTS_AT : end])
    if crc != header.crc:
        raise CorruptMessage(f"batch at byte {pos}: CRC-32C is {crc:08x}, the header says {header.crc:08x}", position=pos)
    count, spanned = header.record_count, header.last_offset_delta + 1
    if count > spanned or (dense and count != spanned):
        raise CorruptMessage(f"batch at byte {pos}: {count} records for {spanned} offsets", position=pos)
    if header.attributes & COMPRESSION_MASK >= len(_CODECS):
        codec = header.attributes & COMPRESSION_MASK
        raise CorruptMessage(f"batch at byte {pos}: compression type {codec} is unknown", position=pos)


def iter_headers(buf: Buffer, pos: int = 0, end: int | None = None) -> Iterator[tuple[int, BatchHeader]]:
    """Position and header of each whole batch in ``buf[pos:end]``; a partial one at the tail ends the walk.

    Raises CorruptMessage where a header is misshapen.
    """
    stop = len(buf) if end is None else end
    while stop - pos >= HEADER_SIZE:
        header = parse_header(buf, pos)
        following = pos + header.batch_length + LOG_OVERHEAD
        if following > stop:
            return
        yield pos, header
        pos = following


def stamped_prefix(
    header: BatchHeader, base_offset: int, leader_epoch: int, append_time_ms: int | None, records: Buffer
) -> bytes:
    """The bytes that stand in for the first ones of a produced batch when it is appended; it goes on at ``len(prefix)``.

    ``records`` is what follows the 61 bytes of the header. It is read only for ``append_time_ms``: base offset and epoch
    alone leave the CRC as it is and give 16 bytes; an append time changes attributes and max timestamp, hence the CRC,
    and gives the whole header.
    """
    if append_time_ms is None:
        return _PLACE.pack(base_offset, header.batch_length, leader_epoch)
    stamped = header._replace(
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        attributes=header.attributes | APPEND_TIME_BIT,
        max_timestamp=append_time_ms,
    )
    return sealed_header(stamped, records)


def sealed_header(header: BatchHeader, records: Buffer) -> bytes:
    """The 61 bytes of ``header``, with the CRC that it needs in front of ``records``; its own ``crc`` is ignored."""
    covered = _COVERED.pack(*header[5:])
    return _UNCOVERED.pack(*header[:4], crc32c(records, crc32c(covered))) + covered
