"""What a hostile or broken client could make of a request: mutations of recorded frames, and bombs.

Everything is a function of a ``Random``, so that a seed names a run.
"""

import gzip
import struct
from collections.abc import Callable, Sequence
from functools import cache
from random import Random

import cramjam

from logbroker.model import Record
from logbroker.records.batch import HEADER_SIZE, parse_header
from logbroker.records.codec import encode
from logbroker.wire.apis import Api
from tests.kafka_api.capture import RECOMPRESSED
from tests.kafka_api.raw import produce_body, request_frame
from tests.records.samples import resealed

INTERESTING = (0, 1, -1, 2, 127, 128, 255, 32767, -32768, 65535, 2**31 - 1, -(2**31), 10_000_000)
BOMB_BYTES = 64 * 1024 * 1024
"""What a bomb unpacks to; it is a few KiB on the wire."""

Mutation = Callable[[bytearray, Random], bytearray]


def flip_bits(frame: bytearray, random: Random) -> bytearray:
    for _ in range(random.choice((1, 1, 1, 3, 20))):
        frame[random.randrange(len(frame))] ^= 1 << random.randrange(8)
    return frame


def set_number(frame: bytearray, random: Random) -> bytearray:
    """A length, a count, a version or whatever stands there becomes a number that is often mishandled."""
    layout = random.choice((">b", ">h", ">i", ">q"))
    size = struct.calcsize(layout)
    at = random.randrange(max(1, len(frame) - size))
    bits = 8 * size
    value = (random.choice(INTERESTING) + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    frame[at : at + size] = struct.pack(layout, value)
    return frame


def cut(frame: bytearray, random: Random) -> bytearray:
    return frame[: random.randrange(len(frame))]


def extend(frame: bytearray, random: Random) -> bytearray:
    return frame + random.randbytes(random.choice((1, 10, 1000)))


def drop_part(frame: bytearray, random: Random) -> bytearray:
    at = random.randrange(len(frame))
    del frame[at : at + random.randrange(1, 20)]
    return frame


def repeat_part(frame: bytearray, random: Random) -> bytearray:
    at = random.randrange(len(frame))
    part = frame[at : at + random.randrange(1, 40)]
    return frame[:at] + part * random.choice((2, 3, 50)) + frame[at:]


def other_version(frame: bytearray, random: Random) -> bytearray:
    frame[2:4] = struct.pack(">h", random.choice((*range(-1, 20), 99, 32767)))
    return frame


def other_api(frame: bytearray, random: Random) -> bytearray:
    frame[:2] = struct.pack(">h", random.choice((*range(100), -1, 32767)))
    return frame


def varint_bomb(frame: bytearray, random: Random) -> bytearray:
    at = random.randrange(len(frame))
    frame[at:at] = random.choice((b"\xff" * 4 + b"\x07", b"\xff" * 9 + b"\x01", b"\x80" * 500))
    return frame


def reseal(frame: bytearray, random: Random) -> bytearray:
    """Other bytes for records under a header and a CRC that hold; frames without a batch get bits flipped."""
    at = bytes(frame).find(b"\x02", 60)
    while at >= 0:
        start = at - 16
        try:
            header = parse_header(frame, start)
        except Exception:
            at = bytes(frame).find(b"\x02", at + 1)
            continue
        if header.size == len(frame) - start or start + header.size <= len(frame):
            records = bytearray(frame[start + HEADER_SIZE : start + header.size])
            if records:
                records[random.randrange(len(records))] = random.randrange(256)
            changed = header._replace(
                attributes=random.choice((header.attributes, random.randrange(64))),
                record_count=random.choice((header.record_count, 2**31 - 1, 0)),
            )
            frame[start : start + header.size] = resealed(changed, records)
        break
    return flip_bits(frame, random) if at < 0 else frame


MUTATIONS: Sequence[Mutation] = (
    flip_bits,
    set_number,
    set_number,
    set_number,
    cut,
    extend,
    drop_part,
    repeat_part,
    other_version,
    other_api,
    varint_bomb,
    reseal,
    reseal,
)


def mutated(payload: bytes, random: Random) -> bytes:
    """A frame on the wire made of a recorded payload; now and then its size is wrong too."""
    frame = bytearray(payload)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        if frame:
            frame = random.choice(MUTATIONS)(frame, random)
    size = len(frame)
    if random.random() < 0.05:
        size = random.choice((size + 1, max(0, size - 1), -1, 2**31 - 1, 200 * 1024 * 1024, 0))
    return struct.pack(">i", size) + bytes(frame)


@cache
def bombs() -> tuple[bytes, ...]:
    """A Produce for each codec whose records unpack to BOMB_BYTES, to a topic that has them unpacked."""
    zeros = bytes(BOMB_BYTES)
    framed = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
    raw_snappy = bytes(cramjam.snappy.compress_raw(zeros))
    compressed = {
        1: gzip.compress(zeros, 9),
        2: framed + struct.pack(">i", len(raw_snappy)) + raw_snappy,
        3: bytes(cramjam.lz4.compress(zeros)),
        4: bytes(cramjam.zstd.compress(zeros)),
    }
    header = parse_header(bytes(encode([Record(b"x")], now_ms=1_700_000_000_000)))
    return tuple(
        request_frame(
            Api.PRODUCE, 9, 1, produce_body(9, RECOMPRESSED, resealed(header._replace(attributes=codec), records))
        )
        for codec, records in compressed.items()
    )
