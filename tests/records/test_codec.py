"""Records to batches and back: round trips, and the same bytes and records as other implementations of the format."""

import warnings
from typing import Any

import pytest
from hypothesis import given, settings

from logbroker.errors import CorruptMessage, InvalidRequest, InvalidTimestamp, MessageTooLarge
from logbroker.model import Header, ProducerStamp, Record, StoredRecord
from logbroker.records.batch import HEADER_SIZE, Compression, check_batch, parse_header
from logbroker.records.codec import decode, decode_all, encode, recompress
from tests.records.samples import KAFKA_WROTE, PRODUCER, RECORDS, records, resealed, stored

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

codecs = pytest.mark.parametrize("codec", Compression, ids=lambda codec: codec.kafka_name)


# -- round trips -----------------------------------------------------------------------------------------------------


@codecs
@settings(deadline=None, max_examples=60)
@given(records=records)
def test_records_come_back_as_they_went_in(codec: Compression, records: list[Record]) -> None:
    batch = encode(records, now_ms=5, base_offset=1_000, compression=codec, producer=ProducerStamp(9, 2, 77))
    header = parse_header(batch)
    check_batch(batch, 0, header)
    assert decode(batch) == stored(records, 1_000)
    assert header.compression is codec
    assert (header.size, header.base_offset, header.leader_epoch) == (len(batch), 1_000, -1)
    assert (header.record_count, header.last_offset_delta) == (len(records), len(records) - 1)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (9, 2, 77)
    times = [record.timestamp_ms for record in records]
    assert (header.base_timestamp, header.max_timestamp) == (times[0], max(time or 0 for time in times))


def test_records_read_back_have_the_types_of_the_model() -> None:
    record = decode(encode([Record(b"v", None, (Header("h", b""),))], now_ms=5))[0]
    assert type(record) is StoredRecord
    assert type(record.headers) is tuple
    assert type(record.headers[0]) is Header
    assert record.append_time is False


def test_a_record_without_a_timestamp_gets_the_time_of_the_append() -> None:
    batch = encode([Record(b"a", timestamp_ms=3), Record(b"b"), Record(b"c", timestamp_ms=0)], now_ms=9)
    assert [record.timestamp_ms for record in decode(batch)] == [3, 9, 0]


def test_a_batch_says_when_it_is_transactional() -> None:
    assert parse_header(encode([Record(b"")], now_ms=0, transactional=True, producer=PRODUCER)).is_transactional
    assert not parse_header(encode([Record(b"")], now_ms=0)).is_transactional


def test_records_that_cannot_be_encoded_are_refused_by_number() -> None:
    with pytest.raises(InvalidRequest, match="at least one record"):
        encode([], now_ms=0)
    with pytest.raises(InvalidTimestamp, match="record 1: timestamp -1 is negative"):
        encode([Record(b""), Record(b"", timestamp_ms=-1)], now_ms=0)
    with pytest.raises(InvalidTimestamp, match=r"record 0: .* 64 bits"):
        encode([Record(b"", timestamp_ms=2**63)], now_ms=0)
    with pytest.raises(InvalidRequest, match=r"record 0: header name .\\ud800. has no UTF-8 form"):
        encode([Record(b"", headers=(Header("\ud800", b""),))], now_ms=0)


# -- recompression ---------------------------------------------------------------------------------------------------


@codecs
@pytest.mark.parametrize("name", [*KAFKA_WROTE])
def test_a_batch_in_another_compression_is_the_same_otherwise(codec: Compression, name: str) -> None:
    before = KAFKA_WROTE[name]
    after = recompress(b"xx" + before, 2, codec)
    header = parse_header(after)
    check_batch(after, 0, header)
    assert header.compression is codec
    unchanged = parse_header(before)._replace(batch_length=header.batch_length, crc=header.crc)
    assert header == unchanged._replace(attributes=unchanged.attributes & ~0x07 | codec)
    assert decode(after, control=True) == decode(before, control=True)


def test_recompression_has_the_limits_of_decoding() -> None:
    with pytest.raises(MessageTooLarge):
        recompress(
            encode([Record(bytes(1_000))], now_ms=0, compression=Compression.LZ4), 0, Compression.ZSTD, max_inflated=999
        )
    with pytest.raises(CorruptMessage, match="are left"):
        recompress(KAFKA_WROTE["none"][:-1], 0, Compression.ZSTD)


# -- several batches -------------------------------------------------------------------------------------------------


def test_batches_in_a_row_decode_from_an_offset_on() -> None:
    log = b"".join(
        encode(RECORDS, now_ms=0, base_offset=3 * number, compression=codec) for number, codec in enumerate(Compression)
    )
    everything = stored(RECORDS * len(Compression))
    for offset in range(len(everything) + 1):
        assert list(decode_all(log, from_offset=offset)) == everything[offset:]
    assert list(decode_all(log[:-1])) == everything[:-3]


def test_batches_below_the_offset_are_not_decoded() -> None:
    bad = resealed(parse_header(encode(RECORDS, now_ms=0)), b"no records")
    assert list(decode_all(bad + encode(RECORDS, now_ms=0, base_offset=3), from_offset=3)) == stored(RECORDS, 3)


def test_gaps_that_compaction_left_are_read_over() -> None:
    records = encode(RECORDS, now_ms=0)[HEADER_SIZE:]
    second_only = records[7:-7]
    header = parse_header(encode(RECORDS, now_ms=0, base_offset=40))
    batch = resealed(header._replace(record_count=1), second_only)
    assert decode(batch) == [stored(RECORDS, 40)[1]]
    assert decode(resealed(header._replace(record_count=0), b"")) == []


# -- control batches -------------------------------------------------------------------------------------------------


def test_control_batches_hold_nothing_for_readers() -> None:
    marker = KAFKA_WROTE["commit_marker"]
    assert decode(marker) == []
    assert list(decode_all(KAFKA_WROTE["none"] + marker)) == stored(RECORDS, 40)
    (record,) = decode(marker, control=True)
    assert (record.offset, record.key, record.value) == (50, bytes.fromhex("00000001"), bytes.fromhex("000000000009"))


# -- limits ----------------------------------------------------------------------------------------------------------


@codecs
def test_records_above_the_limit_are_not_inflated(codec: Compression) -> None:
    batch = encode([Record(bytes(100_000))], now_ms=0, compression=codec)
    size = len(encode([Record(bytes(100_000))], now_ms=0)) - HEADER_SIZE
    assert len(decode(batch, max_inflated=size)) == 1
    if codec is not Compression.NONE:
        with pytest.raises(MessageTooLarge, match=f"more than {size - 1} bytes"):
            decode(batch, max_inflated=size - 1)


def test_a_batch_that_is_cut_off_is_not_decoded() -> None:
    batch = encode(RECORDS, now_ms=0)
    with pytest.raises(CorruptMessage, match="are left"):
        decode(batch[:-1])


# -- other implementations -------------------------------------------------------------------------------------------


@codecs
def test_what_kafka_wrote_is_read(codec: Compression) -> None:
    assert decode(KAFKA_WROTE[codec.kafka_name]) == stored(RECORDS, 40)


def test_append_time_as_kafka_writes_it_is_read() -> None:
    assert decode(KAFKA_WROTE["append_time"]) == stored(RECORDS, 40, 1_700_000_000_500)


def test_the_bytes_are_those_that_kafka_writes() -> None:
    theirs = bytearray(KAFKA_WROTE["none"])
    theirs[12:16] = b"\xff" * 4  # the leader epoch that a producer leaves open
    assert encode(RECORDS, now_ms=0, base_offset=40, producer=PRODUCER) == theirs


@codecs
@settings(deadline=None, max_examples=25)
@given(records=records)
def test_kafka_python_reads_what_we_write(codec: Compression, records: list[Record]) -> None:
    theirs = DefaultRecordBatch(encode(records, now_ms=5, base_offset=12, compression=codec))
    assert theirs.validate_crc()
    assert [read_by_kafka_python(record) for record in theirs] == stored(records, 12)


@codecs
@settings(deadline=None, max_examples=25)
@given(records=records)
def test_we_read_what_kafka_python_writes(codec: Compression, records: list[Record]) -> None:
    builder = DefaultRecordBatchBuilder(2, codec.value, True, 3, 4, 5, 2**40)
    for delta, record in enumerate(records):
        assert builder.append(
            delta, record.timestamp_ms, record.key, record.value, [(*header,) for header in record.headers]
        )
    batch = bytes(builder.build())
    header = parse_header(batch)
    check_batch(batch, 0, header)
    assert header.is_transactional
    assert decode(batch) == stored(records)


def read_by_kafka_python(record: Any) -> StoredRecord:
    headers = tuple(Header(name, value) for name, value in record.headers)
    return StoredRecord(record.offset, record.timestamp, record.key, record.value, headers)
