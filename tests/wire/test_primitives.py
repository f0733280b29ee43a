"""Lengths, counts and varints, both ways and cut short."""

from struct import Struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.errors import InvalidRequest
from logbroker.wire.primitives import CompactReader, CompactWriter, Reader, Writer, uvarint

ENCODINGS = [(Reader, Writer), (CompactReader, CompactWriter)]
encodings = pytest.mark.parametrize(("reader_class", "writer_class"), ENCODINGS, ids=["classic", "flexible"])


@given(st.integers(0, 2**31 - 1))
def test_a_varint_is_read_as_it_was_written(value: int) -> None:
    encoded = uvarint(value)
    reader = Reader(memoryview(encoded + b"next"))
    assert reader.uvarint() == value
    assert reader.pos == len(encoded) <= 5
    for cut in range(len(encoded)):
        with pytest.raises(InvalidRequest, match="ends inside a varint"):
            Reader(memoryview(encoded[:cut])).uvarint()


@pytest.mark.parametrize("encoded", [b"\x80\x80\x80\x80\x08", b"\xff\xff\xff\xff\x0f", b"\xff" * 5, b"\xff" * 5 + b"\x01"])
def test_a_varint_longer_than_31_bits_is_refused(encoded: bytes) -> None:
    with pytest.raises(InvalidRequest, match="31 bits"):
        Reader(memoryview(encoded)).uvarint()


def test_varints_have_the_bytes_of_the_specification() -> None:
    assert [uvarint(value) for value in (0, 127, 128, 300)] == [b"\x00", b"\x7f", b"\x80\x01", b"\xac\x02"]


@encodings
@given(text=st.none() | st.text(max_size=200), blob=st.none() | st.binary(max_size=200), count=st.integers(0, 3))
def test_values_are_read_as_they_were_written(
    reader_class: type[Reader], writer_class: type[Writer], text: str | None, blob: bytes | None, count: int
) -> None:
    writer = writer_class()
    writer.nullable_string(text)
    writer.nullable_blob(blob)
    writer.end_struct()
    writer.array(-1)
    writer.array(count)
    writer.out += bytes(count)
    reader = reader_class(memoryview(writer.out))
    assert reader.nullable_string() == text
    assert reader.nullable_blob() == blob
    reader.end_struct()
    assert reader.nullable_array() == -1
    assert reader.array() == count
    assert reader.pos + count == reader.end


@encodings
def test_null_is_refused_where_it_may_not_stand(reader_class: type[Reader], writer_class: type[Writer]) -> None:
    writer = writer_class()
    writer.nullable_blob(None)
    for read in (reader_class.blob, reader_class.array):
        with pytest.raises(InvalidRequest, match="null where"):
            read(reader_class(memoryview(writer.out)))
    writer = writer_class()
    writer.nullable_string(None)
    with pytest.raises(InvalidRequest, match="null where"):
        reader_class(memoryview(writer.out)).string()


@encodings
def test_a_length_beyond_the_end_is_refused(reader_class: type[Reader], writer_class: type[Writer]) -> None:
    writer = writer_class()
    writer.blob(b"abc")
    with pytest.raises(InvalidRequest, match="3 bytes is longer than what is left"):
        reader_class(memoryview(writer.out)[:-1]).blob()
    with pytest.raises(InvalidRequest):
        reader_class(memoryview(b"")).array()
    writer = writer_class()
    writer.array(3)
    assert reader_class(memoryview(writer.out + b"abc")).array() == 3
    with pytest.raises(InvalidRequest, match="3 elements is longer than what is left"):
        reader_class(memoryview(writer.out + b"ab")).array()


def test_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        Reader(memoryview(b"\x00\x01\xff")).string()


def test_a_run_cut_short_is_refused_and_leaves_the_reader_where_it_was() -> None:
    reader = Reader(memoryview(b"\x00\x01\x00"))
    with pytest.raises(InvalidRequest, match="near byte 0 of 3"):
        reader.unpack(Struct(">i"))
    assert reader.unpack(Struct(">h")) == (1,)


def test_a_view_is_not_a_copy_and_a_blob_is() -> None:
    buffer = bytearray(b"\x04abc" * 3)
    reader = CompactReader(memoryview(buffer))
    view, blob, nullable_blob = reader.nullable_view(), reader.blob(), reader.nullable_blob()
    buffer[:] = b"\x04xyz" * 3
    assert view is not None
    assert (bytes(view), blob, nullable_blob) == (b"xyz", b"abc", b"abc")


def test_a_uuid_is_sixteen_bytes() -> None:
    assert Reader(memoryview(bytes(range(16)))).uuid() == UUID(bytes=bytes(range(16)))
    with pytest.raises(InvalidRequest):
        Reader(memoryview(bytes(15))).uuid()
