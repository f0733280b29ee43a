"""Records to batches and back: the one adapter over aiokafka's C builder and parser.

What lives here: that adapter, and the distrust it needs. What may not: knowledge of segments, topics or clocks.
Invariant: bytes that are no record batch raise CorruptMessage (or MessageTooLarge when they inflate too far), never
anything else, and are never read past their end.

What aiokafka is not trusted with:
- Compression: its own has no cap. It is given batches that are not compressed, or no longer.
- CRCs: its own is software. ``batch.check_batch`` checks them, before decoding, where bytes come from outside.
- The end of its input: it reads the length of a header's name and value without a look at the end, up to ``_OVERREAD``
  bytes past it, before it notices. So the bytes behind a batch must be readable.
- Huge lengths, which come out as MemoryError or OverflowError.
- Offsets: any delta passes.
"""

from collections.abc import Iterator, Sequence
from operator import itemgetter, lt
from struct import Struct
from typing import Final, NamedTuple

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from logbroker.errors import CorruptMessage, InvalidRequest, InvalidTimestamp
from logbroker.model import Header, ProducerStamp, Record, StoredRecord
from logbroker.records.batch import (
    COMPRESSION_MASK,
    HEADER_SIZE,
    LOG_OVERHEAD,
    MAGIC,
    BatchHeader,
    Buffer,
    Compression,
    iter_headers,
    parse_header,
    sealed_header,
)
from logbroker.records.compression import compress, decompress

MAX_INFLATED: Final = 64 * 1024 * 1024
"""Bytes that the records of one batch may take when inflated, unless the caller says otherwise."""

_OVERREAD: Final = 20
_SLACK: Final = bytes(_OVERREAD)
_ATTRIBUTES_LOW_BYTE: Final = 22
_BASE_OFFSET: Final = Struct(">q")
_NO_PRODUCER: Final = ProducerStamp()
_ANY_SIZE: Final = 2**62
_NO_HEADERS: Final[list[tuple[str, bytes | None]]] = []


# -- records to a batch ----------------------------------------------------------------------------------------------


def encode(
    records: Sequence[Record],
    *,
    now_ms: int,
    base_offset: int = 0,
    compression: Compression = Compression.NONE,
    producer: ProducerStamp | None = None,
    transactional: bool = False,
) -> bytes:
    """``records``, at least one, as one batch with dense offsets from ``base_offset`` and leader epoch -1.

    ``now_ms`` is the timestamp of records that have none. Raises InvalidTimestamp, and InvalidRequest for an empty batch
    or a header name that has no UTF-8 form.
    """
    if not records:
        raise InvalidRequest("a batch needs at least one record")
    stamp = producer or _NO_PRODUCER
    builder = DefaultRecordBatchBuilder(MAGIC, Compression.NONE, transactional, *stamp, _ANY_SIZE)
    _append_all(builder, records, now_ms)
    batch = builder.build()
    if base_offset:
        _BASE_OFFSET.pack_into(batch, 0, base_offset)
    if compression is Compression.NONE:
        return bytes(batch)
    return _compressed(parse_header(batch), memoryview(batch)[HEADER_SIZE:], compression)


def _append_all(builder: DefaultRecordBatchBuilder, records: Sequence[Record], now_ms: int) -> None:
    append = builder.append
    for delta, record in enumerate(records):
        timestamp = record.timestamp_ms
        if timestamp is None:
            timestamp = now_ms
        elif timestamp < 0:
            raise InvalidTimestamp(f"record {delta}: timestamp {timestamp} is negative")
        headers = [(*header,) for header in record.headers] if record.headers else _NO_HEADERS
        try:
            append(delta, timestamp, record.key, record.value, headers)
        except OverflowError:
            raise InvalidTimestamp(f"record {delta}: timestamp {timestamp} takes more than 64 bits") from None
        except UnicodeEncodeError as problem:
            raise InvalidRequest(f"record {delta}: header name {problem.object!r} has no UTF-8 form") from None


def recompress(buf: Buffer, pos: int, compression: Compression, *, max_inflated: int = MAX_INFLATED) -> bytes:
    """The batch at ``pos`` in another compression: the same records, byte for byte, and all else in its header.

    No record is looked at. Raises CorruptMessage; MessageTooLarge when they inflate to more than ``max_inflated`` bytes.
    """
    header = parse_header(buf, pos)
    return _compressed(header, _uncompressed(buf, pos, header, max_inflated)[HEADER_SIZE:], compression)


def _compressed(header: BatchHeader, plain: Buffer, compression: Compression) -> bytes:
    records = compress(compression, plain)
    header = header._replace(
        batch_length=HEADER_SIZE - LOG_OVERHEAD + len(records),
        attributes=header.attributes & ~COMPRESSION_MASK | compression,
    )
    return sealed_header(header, records) + records


# -- a batch to records ----------------------------------------------------------------------------------------------


def decode(buf: Buffer, pos: int = 0, *, max_inflated: int = MAX_INFLATED, control: bool = False) -> list[StoredRecord]:
    """The records of the batch at ``pos``, whose CRC has been checked by whoever let it in.

    A control batch (a transaction marker) gives none unless ``control``. Raises CorruptMessage; MessageTooLarge when the
    records inflate to more than ``max_inflated`` bytes.
    """
    header = parse_header(buf, pos)
    if header.is_control and not control:
        return []
    records = _parse(_uncompressed(buf, pos, header, max_inflated), header)
    _check_offsets(records, header)
    return records


class Outline(NamedTuple):
    """What compaction has to know of a record."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    has_value: bool


def outline(buf: Buffer, pos: int = 0, *, max_inflated: int = MAX_INFLATED) -> tuple[list[Outline], memoryview]:
    """The records of the batch at ``pos`` without values and headers, and the batch as it is when not compressed.

    Control records too. Raises as ``decode`` does.
    """
    header = parse_header(buf, pos)
    plain = _uncompressed(buf, pos, header, max_inflated)
    new = tuple.__new__
    try:
        records = [
            new(Outline, (one.offset, one.timestamp, one.key, one.value is not None)) for one in DefaultRecordBatch(plain)
        ]
    except UnicodeDecodeError:
        raise _malformed(header, "the name of a header is not UTF-8") from None
    except (CorruptRecordException, OverflowError, MemoryError) as problem:
        raise _malformed(header, str(problem) or "a length is impossible") from None
    if records:
        _check_offsets(records, header)
    return records, plain


def decode_all(buf: Buffer, *, from_offset: int = 0, max_inflated: int = MAX_INFLATED) -> Iterator[StoredRecord]:
    """The records at and after ``from_offset`` in the whole batches of ``buf``, one batch inflated at a time.

    Control batches and a partial batch at the tail are left out. Raises as ``decode`` does.
    """
    for pos, header in iter_headers(buf):
        if header.last_offset >= from_offset:
            for record in decode(buf, pos, max_inflated=max_inflated):
                if record.offset >= from_offset:
                    yield record


def _uncompressed(buf: Buffer, pos: int, header: BatchHeader, max_inflated: int) -> memoryview:
    """The batch as aiokafka may see it: not compressed, and with readable bytes behind its end."""
    end = pos + header.size
    if end > len(buf):
        raise CorruptMessage(f"batch at byte {pos}: {header.size} bytes long, {len(buf) - pos} are left", position=pos)
    source = memoryview(buf)
    codec = header.compression
    if codec is Compression.NONE:
        if end + _OVERREAD <= len(source):
            return source[pos:end]
        batch = bytearray(source[pos:end])
    else:
        batch = decompress(codec, source[pos + HEADER_SIZE : end], max_inflated)
        batch[:0] = source[pos : pos + HEADER_SIZE]
        batch[_ATTRIBUTES_LOW_BYTE] &= ~COMPRESSION_MASK
    batch += _SLACK
    return memoryview(batch)[:-_OVERREAD]


def _parse(batch: memoryview, header: BatchHeader) -> list[StoredRecord]:
    new = tuple.__new__  # StoredRecord(...) itself would take as long as all the rest
    append_time = header.is_append_time
    try:
        return [
            new(
                StoredRecord,
                (
                    record.offset,
                    record.timestamp,
                    record.key,
                    record.value,
                    tuple(map(Header._make, record.headers)) if record.headers else (),
                    append_time,
                ),
            )
            for record in DefaultRecordBatch(batch)
        ]
    except UnicodeDecodeError:
        raise _malformed(header, "the name of a header is not UTF-8") from None
    except (CorruptRecordException, OverflowError, MemoryError) as problem:
        raise _malformed(header, str(problem) or "a length is impossible") from None


_offset_of = itemgetter(0)


def _check_offsets(records: Sequence[StoredRecord | Outline], header: BatchHeader) -> None:
    """Refuse offsets that do not ascend within what the header spans; gaps are what compaction leaves."""
    offsets = list(map(_offset_of, records))
    base = header.base_offset
    if offsets == list(range(base, base + len(offsets))) and len(offsets) <= header.last_offset_delta + 1:
        return
    if not offsets or offsets[0] < base or offsets[-1] > header.last_offset or not all(map(lt, offsets, offsets[1:])):
        raise _malformed(header, "the offsets of its records do not ascend within the batch")


def _malformed(header: BatchHeader, why: str) -> CorruptMessage:
    return CorruptMessage(f"batch at offset {header.base_offset}: {why}", base_offset=header.base_offset)
