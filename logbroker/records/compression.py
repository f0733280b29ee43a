"""The four codecs of Kafka, each in the dialect its Java client reads and writes, inflated under a cap.

    gzip    one or more members
    snappy  written in the framing of xerial's snappy-java, which is what Kafka's Java client writes:
                magic 82 'SNAPPY' 00 | version int32 1 | compatible int32 1 | blocks [ length int32 | raw snappy ]
            with blocks of at most 32 KiB before compression; read in that framing, also repeated, or raw (librdkafka)
    lz4     one or more frames; written with independent blocks, the only kind that the Java client reads (KIP-57)
    zstd    one or more frames (KIP-110)

What lives here: bytes to bytes. What may not: batches and records.
Invariant: inflating takes a buffer of at most ``limit`` bytes whatever the input claims, and one that grows with what was
really inflated: a few bytes that claim much cost little. cramjam stops at the end of the buffer it is given.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any, Final

import cramjam

from logbroker.errors import CorruptMessage, MessageTooLarge
from logbroker.records.batch import Buffer, Compression

_XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = _XERIAL_MAGIC + b"\x00\x00\x00\x01" * 2
_XERIAL_BLOCK: Final = 32 * 1024
_LENGTH: Final = Struct(">i")

_SNAPPY_MOST: Final = 22
"""A snappy element turns 3 bytes into at most 64, so a block that claims more than 22 times its size lies."""

_GZIP_LEVEL: Final = 6
_LZ4_LEVEL: Final = 1
_ZSTD_LEVEL: Final = 3

_FIRST_GUESS: Final = 4
_LEAST_GUESS: Final = 16 * 1024
_NO_ROOM: Final = "failed to write whole buffer"
"""How cramjam says that the output buffer is full."""


def compress(codec: Compression, data: Buffer) -> bytes:
    """``data`` compressed at the level Kafka's clients use by default."""
    match codec:
        case Compression.NONE:
            return bytes(data)
        case Compression.GZIP:
            return bytes(cramjam.gzip.compress(data, level=_GZIP_LEVEL))
        case Compression.SNAPPY:
            return _compress_xerial(memoryview(data))
        case Compression.LZ4:
            compressor = cramjam.lz4.Compressor(level=_LZ4_LEVEL, content_checksum=False, block_linked=False)
            compressor.compress(bytes(data))
            return bytes(compressor.finish())
        case Compression.ZSTD:
            return bytes(cramjam.zstd.compress(data, level=_ZSTD_LEVEL))


def decompress(codec: Compression, data: Buffer, limit: int) -> bytearray:
    """``data`` inflated to at most ``limit`` bytes. Raises MessageTooLarge where it is more, CorruptMessage."""
    match codec:
        case Compression.NONE:
            if len(data) > limit:
                raise _too_large(limit)
            return bytearray(data)
        case Compression.GZIP:
            return _inflate(codec, cramjam.gzip.decompress_into, data, limit)
        case Compression.SNAPPY:
            return _inflate_snappy(memoryview(data), limit)
        case Compression.LZ4:
            return _inflate(codec, cramjam.lz4.decompress_into, data, limit)
        case Compression.ZSTD:
            return _inflate(codec, cramjam.zstd.decompress_into, data, limit)


def _inflate(codec: Compression, into: Callable[[Any, Any], int], data: Buffer, limit: int) -> bytearray:
    """Inflate into a buffer of a guessed size, then of four times that, up to ``limit``."""
    room = min(max(_FIRST_GUESS * len(data), _LEAST_GUESS), limit)
    while True:
        inflated = bytearray(room)
        try:
            size = into(data, inflated)
        except cramjam.DecompressionError as problem:
            if str(problem) != _NO_ROOM:
                raise _corrupt(codec, str(problem)) from None
            if room >= limit:
                raise _too_large(limit) from None
            del inflated  # before the next, larger one is taken
            room = min(room * 4, limit)
        else:
            del inflated[size:]
            return inflated


# -- snappy ----------------------------------------------------------------------------------------------------------


def _compress_xerial(data: memoryview) -> bytes:
    parts = [_XERIAL_HEADER]
    for start in range(0, len(data), _XERIAL_BLOCK):
        block = bytes(cramjam.snappy.compress_raw(data[start : start + _XERIAL_BLOCK]))
        parts += (_LENGTH.pack(len(block)), block)
    return b"".join(parts)


def _inflate_snappy(data: memoryview, limit: int) -> bytearray:
    blocks = _xerial_blocks(data) if _is_xerial(data, 0) else [data]
    sizes = [_snappy_size(block) for block in blocks]
    total = sum(sizes)
    if total > limit:
        raise _too_large(limit)
    inflated = bytearray(total)
    room = memoryview(inflated)
    start = 0
    for block, size in zip(blocks, sizes, strict=True):
        try:
            cramjam.snappy.decompress_raw_into(block, room[start : start + size])
        except cramjam.DecompressionError as problem:
            raise _corrupt(Compression.SNAPPY, str(problem)) from None
        start += size
    room.release()
    return inflated


def _is_xerial(data: memoryview, position: int) -> bool:
    return bytes(data[position : position + len(_XERIAL_MAGIC)]) == _XERIAL_MAGIC


def _xerial_blocks(data: memoryview) -> list[memoryview]:
    blocks = []
    position = 0
    while position < len(data):
        if _is_xerial(data, position):  # at the start, and between joined streams
            position += len(_XERIAL_HEADER)
            continue
        if len(data) - position < _LENGTH.size:
            raise _corrupt(Compression.SNAPPY, "a block length is cut off")
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if not 0 < length <= len(data) - position:
            raise _corrupt(Compression.SNAPPY, f"a block claims {length} bytes, {len(data) - position} are left")
        blocks.append(data[position : position + length])
        position += length
    return blocks


def _snappy_size(block: memoryview) -> int:
    try:
        size: int = cramjam.snappy.decompress_raw_len(block)
    except cramjam.DecompressionError as problem:
        raise _corrupt(Compression.SNAPPY, str(problem)) from None
    if size > len(block) * _SNAPPY_MOST:
        raise _corrupt(Compression.SNAPPY, f"{len(block)} bytes claim to inflate to {size}")
    return size


def _too_large(limit: int) -> MessageTooLarge:
    return MessageTooLarge(f"compressed records inflate to more than {limit} bytes; send smaller batches", limit=limit)


def _corrupt(codec: Compression, why: str) -> CorruptMessage:
    return CorruptMessage(f"records compressed with {codec.kafka_name} do not inflate: {why}")
