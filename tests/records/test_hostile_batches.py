"""Batches that pass the CRC and lie all the same: CorruptMessage or MessageTooLarge, and never a read past the end."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logbroker.errors import CorruptMessage, MessageTooLarge
from logbroker.records.batch import HEADER_SIZE, Compression, check_batch, parse_header
from logbroker.records.codec import decode
from logbroker.records.compression import compress
from tests.records.samples import KAFKA_WROTE, RECORDS, resealed, stored, with_records

PLAIN = KAFKA_WROTE["none"]
ONE = resealed(parse_header(PLAIN)._replace(record_count=1, last_offset_delta=0), b"")


def varint(number: int) -> bytes:
    """Zigzag base-128, as the lengths of a record have it."""
    rest = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*encoded, rest])


def record(rest: bytes, *, length: int | None = None, delta: int = 0) -> bytes:
    """A record of attributes, timestamp delta, offset delta and ``rest`` (key, value, headers)."""
    body = b"\0\0" + varint(delta) + rest
    return varint(len(body) if length is None else length) + body


EMPTY = b"\1\1\0"  # null key, null value, no headers
HUGE = [2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 100, 2**63 - 40, 2**63 - 34, 2**63 - 33, 2**63 - 1]

LIES = {
    "a key that is longer than the batch": record(varint(50) + b"k\1\0"),
    "a value that is longer than the batch": record(b"\1" + varint(50) + b"v\0"),
    "a negative count of headers": record(b"\1\1" + varint(-1)),
    "a negative length of a header name": record(b"\1\1\2" + varint(-1) + b"\1"),
    "a header name that is longer than the batch": record(b"\1\1\2" + varint(50) + b"h\1"),
    "a header name that is not UTF-8": record(b"\1\1\2\2\xff\1"),
    "a header value that is longer than the batch": record(b"\1\1\2\2h" + varint(50) + b"v"),
    "headers that are missing": record(b"\1\1\2"),
    "the value of a header that is missing": record(b"\1\1\2\2h"),
    "a length that does not end": record(b"\1\1\2" + b"\xff" * 9),
    "a length of more than 64 bits": record(b"\xff" * 11),
    "a record length that is too small": record(EMPTY, length=3),
    "a record length that is too large": record(EMPTY, length=9),
    "a negative record length": record(EMPTY, length=-5),
    "bytes behind the last record": record(EMPTY) + b"\0",
    "no record": b"",
    "an offset below the batch": record(EMPTY, delta=-1),
    "an offset above the batch": record(EMPTY, delta=1),
    "an offset of 64 bits": record(EMPTY, delta=2**63 - 1),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("codec", [Compression.NONE, Compression.ZSTD], ids=lambda codec: codec.kafka_name)
def test_a_record_that_lies_is_refused(lie: str, codec: Compression) -> None:
    header = parse_header(ONE)._replace(attributes=codec)
    batch = resealed(header, compress(codec, LIES[lie]))
    check_batch(batch, 0, parse_header(batch))
    for neighbours in (b"", b"\0" * 40, b"\xff" * 40, b"\1" * 40, b"\2" * 40):
        with pytest.raises(CorruptMessage, match="batch at offset 40"):
            decode(batch + neighbours)


@pytest.mark.parametrize("length", HUGE)
@pytest.mark.parametrize(
    "before", [b"", b"\1", b"\1\1\2", b"\1\1\2\0"], ids=["key", "value", "header name", "header value"]
)
def test_a_huge_length_is_refused(length: int, before: bytes) -> None:
    with pytest.raises(CorruptMessage):
        decode(with_records(ONE, record(before + varint(length) + b"x" * 8)))


def test_a_true_record_is_taken() -> None:
    (only,) = decode(with_records(ONE, record(EMPTY)))
    assert (only.offset, only.key, only.value, only.headers) == (40, None, None, ())


@pytest.mark.parametrize("deltas", [(0, 0, 0), (0, 2, 1), (2, 1, 0), (0, 1, 3), (-1, 0, 1)])
def test_offsets_must_ascend_within_the_batch(deltas: tuple[int, ...]) -> None:
    with pytest.raises(CorruptMessage, match="offsets of its records"):
        decode(with_records(PLAIN, b"".join(record(EMPTY, delta=delta) for delta in deltas)))


def test_more_records_than_offsets_are_refused() -> None:
    header = parse_header(ONE)._replace(record_count=2)
    with pytest.raises(CorruptMessage, match="offsets of its records"):
        decode(resealed(header, record(EMPTY) + record(EMPTY, delta=1)))


@pytest.mark.parametrize("count", [2, 4, 2**31 - 1])
def test_a_count_that_does_not_match_the_records_is_refused(count: int) -> None:
    header = parse_header(PLAIN)._replace(record_count=count, last_offset_delta=count - 1)
    with pytest.raises(CorruptMessage):
        decode(resealed(header, PLAIN[HEADER_SIZE:]))


READ_TO_THE_EDGE = """
import ctypes, mmap, sys
from logbroker.errors import CorruptMessage
from logbroker.records.codec import decode

page = mmap.PAGESIZE
batch = bytes.fromhex(sys.argv[1])
memory = mmap.mmap(-1, 2 * page)
memory[page - len(batch) : page] = batch
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + page), page, 0) == 0  # the next page may not be touched
try:
    decode(memoryview(memory)[:page], page - len(batch))
except CorruptMessage:
    print("refused", end="", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
def test_nothing_is_read_past_the_end_of_the_buffer() -> None:
    batch = with_records(ONE, LIES["headers that are missing"])
    command = [sys.executable, "-c", READ_TO_THE_EDGE, batch.hex()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (0, "refused"), run.stderr


@pytest.mark.parametrize("name", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_any_byte_of_the_records_may_be_wrong(name: str) -> None:
    batch = KAFKA_WROTE[name]
    for at in range(HEADER_SIZE, len(batch)):
        for value in (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, batch[at] ^ 1, batch[at] ^ 0x10):
            decode_or_refuse(with_records(batch, batch[HEADER_SIZE:at] + bytes([value]) + batch[at + 1 :]))


@settings(deadline=None, max_examples=1_000)
@given(name=st.sampled_from(["none", "gzip", "snappy", "lz4", "zstd"]), data=st.data())
def test_any_records_behind_a_valid_crc_are_decoded_or_refused(name: str, data: st.DataObject) -> None:
    records = bytearray(KAFKA_WROTE[name][HEADER_SIZE:])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(records)))
        records[at : at + data.draw(st.integers(0, 4))] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"\xff" * 9, b"\xfe" * 9 + b"\1"])
        )
    decode_or_refuse(with_records(KAFKA_WROTE[name], records))


@settings(deadline=None, max_examples=500)
@given(codec=st.sampled_from(Compression), records=st.binary(max_size=100), count=st.integers(0, 4))
def test_random_bytes_behind_a_valid_crc_are_decoded_or_refused(codec: Compression, records: bytes, count: int) -> None:
    header = parse_header(PLAIN)._replace(record_count=count, last_offset_delta=max(count - 1, 0), attributes=codec)
    decode_or_refuse(resealed(header, compress(codec, records)))


def decode_or_refuse(batch: bytes) -> None:
    check_batch(batch, 0, parse_header(batch), dense=False)
    try:
        decoded = decode(batch, max_inflated=1024 * 1024)
    except (CorruptMessage, MessageTooLarge):
        return
    header = parse_header(batch)
    assert len(decoded) == header.record_count
    offsets = [one.offset for one in decoded]
    assert offsets == sorted(set(offsets))
    assert all(header.base_offset <= offset <= header.last_offset for offset in offsets)


def test_the_undamaged_batch_decodes() -> None:
    assert decode(with_records(PLAIN, PLAIN[HEADER_SIZE:])) == stored(RECORDS, 40)
