"""The four codecs: round trips, the dialects of other writers, and inflation that stops at its limit."""

import contextlib
import gzip
import mmap
import sys
from collections.abc import Callable
from pathlib import Path

import cramjam
import lz4.frame  # type: ignore[import-untyped]  # has no type hints
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from logbroker.errors import CorruptMessage, MessageTooLarge
from logbroker.records.batch import Compression
from logbroker.records.compression import compress, decompress

MIB = 1024 * 1024
LIMIT = 4 * MIB

COMPRESSED = [codec for codec in Compression if codec is not Compression.NONE]
every_codec = pytest.mark.parametrize("codec", Compression, ids=lambda codec: codec.kafka_name)
compressed_codecs = pytest.mark.parametrize("codec", COMPRESSED, ids=lambda codec: codec.kafka_name)
framed_codecs = pytest.mark.parametrize(
    "codec", [Compression.GZIP, Compression.LZ4, Compression.ZSTD], ids=lambda codec: codec.kafka_name
)


def xerial(*blocks: bytes) -> bytes:
    """Raw snappy blocks in the framing of snappy-java."""
    framed = b"".join(len(block).to_bytes(4, "big") + block for block in blocks)
    return b"\x82SNAPPY\0" + b"\0\0\0\1" * 2 + framed


def raw_snappy(data: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(data))


# -- round trips and dialects ----------------------------------------------------------------------------------------

contents = st.binary(max_size=300) | st.builds(
    lambda unit, times: unit * times, st.binary(max_size=9), st.integers(0, 20_000)
)


@every_codec
@settings(deadline=None, max_examples=100)
@given(data=contents)
def test_what_is_compressed_inflates_to_the_same(codec: Compression, data: bytes) -> None:
    packed = compress(codec, data)
    assert type(packed) is bytes
    assert decompress(codec, packed, len(data)) == data
    assert decompress(codec, memoryview(bytearray(packed)), LIMIT) == data
    assert compress(codec, memoryview(data)) == packed


def test_other_decoders_read_what_is_compressed() -> None:
    data = b"some text of no great variety. " * 10_000
    assert gzip.decompress(compress(Compression.GZIP, data)) == data
    assert lz4.frame.decompress(compress(Compression.LZ4, data)) == data
    assert zstandard.ZstdDecompressor().decompressobj().decompress(compress(Compression.ZSTD, data)) == data


def test_what_other_encoders_compress_inflates() -> None:
    data = b"some text of no great variety. " * 10_000
    assert decompress(Compression.GZIP, gzip.compress(data), LIMIT) == data
    assert decompress(Compression.LZ4, lz4.frame.compress(data, block_linked=True, content_checksum=True), LIMIT) == data
    assert decompress(Compression.ZSTD, zstandard.ZstdCompressor(write_content_size=False).compress(data), LIMIT) == data


def test_lz4_blocks_are_independent_as_java_clients_need_them() -> None:
    assert not lz4.frame.get_frame_info(compress(Compression.LZ4, bytes(MIB)))["block_linked"]


def test_snappy_is_written_in_xerial_blocks_of_32_kib() -> None:
    data = bytes(range(256)) * 300
    blocks = [data[start : start + 32_768] for start in range(0, len(data), 32_768)]
    assert len(blocks) == 3
    assert compress(Compression.SNAPPY, data) == xerial(*map(raw_snappy, blocks))


def test_snappy_is_read_raw_and_in_joined_streams() -> None:
    one, two = b"one " * 50, b"two " * 50
    assert decompress(Compression.SNAPPY, raw_snappy(one), LIMIT) == one
    joined = xerial(raw_snappy(one)) + xerial(raw_snappy(two), raw_snappy(one))
    assert decompress(Compression.SNAPPY, joined, LIMIT) == one + two + one


@framed_codecs
def test_joined_frames_inflate_one_after_the_other(codec: Compression) -> None:
    assert decompress(codec, compress(codec, b"one ") + compress(codec, b"two"), LIMIT) == b"one two"


# -- limits ----------------------------------------------------------------------------------------------------------


@every_codec
@pytest.mark.parametrize("size", [1, 1_000, 100_000, 1_000_000])
def test_the_limit_is_exact(codec: Compression, size: int) -> None:
    packed = compress(codec, bytes(size))
    assert len(decompress(codec, packed, size)) == size
    with pytest.raises(MessageTooLarge, match=f"more than {size - 1} bytes"):
        decompress(codec, packed, size - 1)


def one_piece(codec: Compression) -> bytes:
    """64 MiB of zeros as one frame or raw block."""
    return raw_snappy(bytes(64 * MIB)) if codec is Compression.SNAPPY else compress(codec, bytes(64 * MIB))


def many_pieces(codec: Compression) -> bytes:
    """1 GiB of zeros as 512 frames or 32,768 blocks, each below the limit."""
    if codec is Compression.SNAPPY:
        return xerial(*[raw_snappy(bytes(32 * 1024))] * 32 * 1024)
    return compress(codec, bytes(2 * MIB)) * 512


@compressed_codecs
@pytest.mark.parametrize("bomb", [one_piece, many_pieces])
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory from /proc")
def test_a_bomb_is_refused_without_taking_its_memory(codec: Compression, bomb: Callable[[Compression], bytes]) -> None:
    packed = bomb(codec)
    before = reset_peak_memory()
    with pytest.raises(MessageTooLarge):
        decompress(codec, packed, LIMIT)
    assert peak_memory() - before < 2 * LIMIT + len(packed)  # lz4 copies its input


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory from /proc")
def test_the_peak_of_memory_is_really_measured() -> None:
    before = reset_peak_memory()
    with mmap.mmap(-1, 3 * LIMIT) as fresh:  # a bytearray might get memory that the process has freed but not given back
        fresh.write(bytes(len(fresh)))
    assert peak_memory() - before > 2 * LIMIT


def reset_peak_memory() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize("claim", ["ffffffff0f", "8080808001"], ids=["4 GiB", "256 MiB"])
def test_a_snappy_block_that_lies_about_its_size_is_refused(claim: str) -> None:
    lie = bytes.fromhex(claim) + b"\0a"
    for data in (lie, xerial(lie)):
        with pytest.raises(CorruptMessage, match="claim to inflate"):
            decompress(Compression.SNAPPY, data, 2**33)


def test_no_snappy_block_inflates_further_than_the_claim_that_is_believed() -> None:
    for size in (1, 10, 64, 65, 1_000, 65_536, 10 * MIB):
        for unit in (b"\0", b"ab", b"0123456789"):
            data = (unit * size)[:size]
            assert decompress(Compression.SNAPPY, raw_snappy(data), size) == data


# -- damage ----------------------------------------------------------------------------------------------------------


@compressed_codecs
@pytest.mark.parametrize("data", [b"", b"\0", b"garbage, and more of it than a header has", b"\xff" * 40])
def test_what_is_not_compressed_does_not_inflate(codec: Compression, data: bytes) -> None:
    if (codec, data) == (Compression.SNAPPY, b"\0"):
        assert decompress(codec, data, LIMIT) == b""  # valid: snappy of nothing
        return
    with pytest.raises(CorruptMessage, match=codec.kafka_name):
        decompress(codec, data, LIMIT)


def test_a_snappy_block_longer_than_the_stream_is_refused() -> None:
    with pytest.raises(CorruptMessage, match="a block claims 10 bytes, 9 are left"):
        decompress(Compression.SNAPPY, xerial(b"x" * 10)[:-1], LIMIT)


@compressed_codecs
def test_every_cut_of_the_end_is_noticed(codec: Compression) -> None:
    packed = compress(codec, bytes(range(256)) * 200)
    boundaries = xerial_boundaries(packed) if codec is Compression.SNAPPY else set()
    for end in range(len(packed)):
        if end not in boundaries:  # there the count of records in the batch shows the loss
            with pytest.raises(CorruptMessage):
                decompress(codec, packed[:end], LIMIT)


def xerial_boundaries(packed: bytes) -> set[int]:
    ends, position = {8, 9, 10, 11, 12, 13, 14, 15, 16}, 16
    while position < len(packed):
        position += 4 + int.from_bytes(packed[position : position + 4], "big")
        ends.add(position)
    return ends


@compressed_codecs
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_damage_raises_nothing_but_our_errors(codec: Compression, data: st.DataObject) -> None:
    packed = bytearray(compress(codec, b"some text of no great variety. " * 20))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(packed) - 1))
        packed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not packed:
            break
    with contextlib.suppress(CorruptMessage, MessageTooLarge):
        decompress(codec, packed, LIMIT)
