"""Batch headers: the layout, the checks, the walk, the stamp."""

import struct

import pytest

from logbroker.errors import CorruptMessage, UnsupportedCompression
from logbroker.model import ProducerStamp, Record
from logbroker.records.batch import (
    HEADER_SIZE,
    BatchHeader,
    Buffer,
    Compression,
    check_batch,
    iter_headers,
    parse_header,
    sealed_header,
    stamped_prefix,
)
from logbroker.records.codec import decode, encode
from tests.records.samples import KAFKA_WROTE, RECORDS, resealed, stored


def crc32c_by_the_book(data: bytes) -> int:
    """CRC-32C bit by bit: reflected polynomial 82F63B78, initial and final value all ones (RFC 3720, B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


RECORDS_BY_HAND = bytes.fromhex(
    "12"  # record length 9
    "00 00 00"  # attributes, timestamp delta 0, offset delta 0
    "02 6b"  # key length 1, "k"
    "04 7631"  # value length 2, "v1"
    "00"  # no headers
    "18"  # record length 12
    "00 c801 02"  # attributes, timestamp delta 100, offset delta 1
    "01"  # key length -1
    "04 7632"  # value length 2, "v2"
    "02 02 68 01"  # one header: name length 1, "h", value length -1
)
COVERED_BY_HAND = bytes.fromhex(
    "0018"  # attributes: append time, transactional
    "00000001"  # last offset delta
    "0000018bcfe56800"  # base timestamp 1,700,000,000,000
    "0000018bcfe56864"  # max timestamp 1,700,000,000,100
    "00000000000003e9"  # producer id 1001
    "0007"  # producer epoch
    "7fffffff"  # base sequence
    "00000002"  # record count
)


def batch_by_hand() -> bytes:
    covered = COVERED_BY_HAND + RECORDS_BY_HAND
    crc = crc32c_by_the_book(covered).to_bytes(4, "big")
    length = (49 + len(RECORDS_BY_HAND)).to_bytes(4, "big")
    return bytes.fromhex("0000000000000064") + length + bytes.fromhex("00000009 02") + crc + covered


def small_batch(count: int = 3, base_offset: int = 0) -> bytes:
    return encode([Record(b"value", b"key")] * count, now_ms=1_000, base_offset=base_offset)


# -- layout ----------------------------------------------------------------------------------------------------------


def test_the_crc_by_the_book_is_crc_32c() -> None:
    assert crc32c_by_the_book(b"123456789") == 0xE3069283


def test_a_header_built_by_hand_parses_field_by_field() -> None:
    batch = batch_by_hand()
    header = parse_header(b"before" + batch, 6)
    crc = crc32c_by_the_book(batch[21:])
    assert header == BatchHeader(
        100, len(batch) - 12, 9, 2, crc, 0x18, 1, 1_700_000_000_000, 1_700_000_000_100, 1001, 7, 2**31 - 1, 2
    )
    assert (header.size, header.last_offset, header.next_offset) == (len(batch), 101, 102)
    assert (header.is_append_time, header.is_transactional, header.is_control) == (True, True, False)
    assert header.compression is Compression.NONE


def test_a_batch_built_by_hand_passes_the_checks_and_decodes() -> None:
    batch = batch_by_hand()
    check_batch(batch, 0, parse_header(batch))
    first, second = decode(batch)
    assert (first.offset, first.key, first.value, first.headers) == (100, b"k", b"v1", ())
    assert (second.offset, second.key, second.value, second.headers) == (101, None, b"v2", (("h", None),))
    assert first.timestamp_ms == second.timestamp_ms == 1_700_000_000_100  # append time is the max timestamp


@pytest.mark.parametrize("name", KAFKA_WROTE)
def test_batches_that_kafka_wrote_pass_the_checks(name: str) -> None:
    batch = KAFKA_WROTE[name]
    header = parse_header(batch)
    check_batch(batch, 0, header)
    assert header.size == len(batch)
    assert sealed_header(header, batch[HEADER_SIZE:]) == batch[:HEADER_SIZE]


@pytest.mark.parametrize(
    ("base", "last"),
    [(-1, -1), (0, 4), (2**31 - 5, 2**31 - 1), (2**31 - 4, 0), (2**31 - 1, 3)],
)
def test_sequences_wrap_after_the_largest_int32(base: int, last: int) -> None:
    header = parse_header(encode([Record(b"")] * 5, now_ms=0, producer=ProducerStamp(1, 0, base)))
    assert header.last_sequence == last


def test_codecs_go_by_kafkas_names_and_numbers() -> None:
    assert [(codec.value, codec.kafka_name) for codec in Compression] == [
        (0, "none"),
        (1, "gzip"),
        (2, "snappy"),
        (3, "lz4"),
        (4, "zstd"),
    ]
    assert all(Compression.from_name(codec.kafka_name) is codec for codec in Compression)
    with pytest.raises(UnsupportedCompression, match="'brotli'"):
        Compression.from_name("brotli")


# -- checks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "layout", "value", "complaint"),
    [
        (16, ">b", 1, "magic 1"),
        (8, ">i", 48, "length 48"),
        (8, ">i", -1, "length -1"),
        (23, ">i", -1, "last offset delta -1"),
        (57, ">i", -1, "record count -1"),
    ],
)
def test_a_misshapen_header_is_refused(at: int, layout: str, value: int, complaint: str) -> None:
    batch = bytearray(b"xx" + small_batch())
    struct.pack_into(layout, batch, 2 + at, value)
    with pytest.raises(CorruptMessage, match=f"batch at byte 2: {complaint}"):
        parse_header(batch, 2)


@pytest.mark.parametrize("left", [0, 1, 60])
def test_a_header_that_is_cut_off_is_refused(left: int) -> None:
    with pytest.raises(CorruptMessage, match=f"{left} bytes left"):
        parse_header(small_batch()[:left])


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_will_do(buffer: type[bytes] | type[bytearray] | type[memoryview]) -> None:
    data: Buffer = buffer(b"xx" + small_batch())
    check_batch(data, 2, parse_header(data, 2))


def test_a_batch_that_is_cut_off_is_refused() -> None:
    batch = small_batch()
    with pytest.raises(CorruptMessage, match="are left"):
        check_batch(batch[:-1], 0, parse_header(batch))


def test_every_change_of_one_byte_behind_the_leader_epoch_is_caught() -> None:
    batch = bytearray(KAFKA_WROTE["snappy"])
    for at in range(16, len(batch)):
        original = batch[at]
        for value in range(256):
            if value != original:
                batch[at] = value
                with pytest.raises(CorruptMessage):
                    check_batch(batch, 0, parse_header(batch))
        batch[at] = original
    check_batch(batch, 0, parse_header(batch))


def test_every_change_of_one_byte_of_the_length_is_caught() -> None:
    batch = bytearray(KAFKA_WROTE["none"] * 2)
    for at in range(8, 12):
        original = batch[at]
        for value in set(range(256)) - {original}:
            batch[at] = value
            with pytest.raises(CorruptMessage):
                check_batch(batch, 0, parse_header(batch))
        batch[at] = original


@pytest.mark.parametrize(
    ("count", "last_delta", "dense", "stored"), [(3, 2, 1, 1), (2, 2, 0, 1), (0, 2, 0, 1), (4, 2, 0, 0)]
)
def test_counts_must_agree_with_offsets(count: int, last_delta: int, dense: bool, stored: bool) -> None:
    header = parse_header(small_batch())._replace(record_count=count, last_offset_delta=last_delta)
    batch = resealed(header, small_batch()[HEADER_SIZE:])
    for flag, passes in ((True, dense), (False, stored)):
        if passes:
            check_batch(batch, 0, parse_header(batch), dense=flag)
        else:
            with pytest.raises(CorruptMessage, match=f"{count} records for 3 offsets"):
                check_batch(batch, 0, parse_header(batch), dense=flag)


@pytest.mark.parametrize("number", [5, 6, 7])
def test_an_unknown_compression_is_refused(number: int) -> None:
    header = parse_header(small_batch())._replace(attributes=number)
    batch = resealed(header, small_batch()[HEADER_SIZE:])
    with pytest.raises(CorruptMessage, match=f"compression type {number}"):
        check_batch(batch, 0, parse_header(batch))
    with pytest.raises(CorruptMessage, match=f"compression type {number}"):
        decode(batch)


# -- walk ------------------------------------------------------------------------------------------------------------


def test_a_walk_yields_whole_batches_and_stops_at_a_partial_one() -> None:
    batches = [small_batch(1), small_batch(5, 1), small_batch(2, 6)]
    log = b"".join(batches)
    places = [0, len(batches[0]), len(batches[0]) + len(batches[1])]
    for end in range(len(log) + 1):
        whole = [place for place, batch in zip(places, batches, strict=True) if place + len(batch) <= end]
        assert [position for position, _ in iter_headers(log[:end])] == whole
        assert [position for position, _ in iter_headers(log, end=end)] == whole
    assert [header.base_offset for _, header in iter_headers(log, places[1])] == [1, 6]


def test_a_walk_sees_a_batch_that_compaction_emptied() -> None:
    emptied = resealed(parse_header(small_batch())._replace(record_count=0), b"")
    assert len(emptied) == HEADER_SIZE
    assert [position for position, _ in iter_headers(emptied * 2)] == [0, HEADER_SIZE]


def test_a_walk_does_not_step_over_damage() -> None:
    log = bytearray(small_batch(1) * 3)
    log[len(log) // 3 + 16] = 1
    walk = iter_headers(log)
    next(walk)
    with pytest.raises(CorruptMessage, match="magic 1"):
        next(walk)


# -- stamp -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KAFKA_WROTE)
def test_stamping_the_place_changes_only_what_the_crc_leaves_out(name: str) -> None:
    produced = KAFKA_WROTE[name]
    prefix = stamped_prefix(parse_header(produced), 2**40, 17, None, produced[HEADER_SIZE:])
    assert len(prefix) == 16
    batch = prefix + produced[len(prefix) :]
    header = parse_header(batch)
    check_batch(batch, 0, header)
    assert header == parse_header(produced)._replace(base_offset=2**40, leader_epoch=17)


@pytest.mark.parametrize("name", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_stamping_the_append_time_gives_it_to_every_record(name: str) -> None:
    produced = KAFKA_WROTE[name]
    before = parse_header(produced)
    prefix = stamped_prefix(before, 90, 4, 1_800_000_000_000, memoryview(produced)[HEADER_SIZE:])
    batch = prefix + produced[len(prefix) :]
    header = parse_header(batch)
    check_batch(batch, 0, header)
    assert header.is_append_time
    assert header == before._replace(
        base_offset=90,
        leader_epoch=4,
        attributes=before.attributes | 0x08,
        max_timestamp=1_800_000_000_000,
        crc=header.crc,
    )
    assert decode(batch) == stored(RECORDS, 90, 1_800_000_000_000)
