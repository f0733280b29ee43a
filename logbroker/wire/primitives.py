"""Kafka's primitive types over a memoryview, both ways, in the classic and in the flexible (KIP-482) encoding.

    type            classic                      flexible
    string          int16 length, UTF-8          unsigned varint length + 1, UTF-8
    bytes, records  int32 length, bytes          unsigned varint length + 1, bytes
    array           int32 count, elements        unsigned varint count + 1, elements
    null            length or count -1           0
    end of struct   nothing                      count of tagged fields, then (tag, size, bytes) each, ascending
    fixed sizes     big-endian, the same in both; a uuid is its 16 bytes

What lives here: bounds, lengths and counts. What may not: the layout of any message.
Invariant: whatever the bytes are, a reader ends with a value or with InvalidRequest, reads no byte outside its view, and
never makes more than ``MAX_ELEMENTS`` array elements. The class decides the encoding: code above it is written once.
"""

from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Any, Final
from uuid import UUID

from logbroker.errors import InvalidRequest
from logbroker.model import Buffer as Buffer

MAX_ELEMENTS: Final = 100_000
"""Array elements and tagged fields in one request: a few bytes of frame each, but a hundred or more of Python objects."""
NO_UUID: Final = UUID(int=0)

_INT16: Final = Struct(">h")
_INT32: Final = Struct(">i")
_MAX_LENGTH: Final = 0x7FFFFFFF
_SMALL_VARINTS: Final = tuple(bytes((value,)) for value in range(128))


@lru_cache(maxsize=4096)
def _uuid(raw: bytes) -> UUID:
    return UUID(bytes=raw)


def uvarint(value: int) -> bytes:
    """An unsigned varint: seven bits a byte, lowest first, the high bit says that more follow."""
    if value < 128:
        return _SMALL_VARINTS[value]
    out = bytearray()
    while value >= 128:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """A position in a request, in the classic encoding. Every method raises InvalidRequest on what cannot be read."""

    __slots__ = ("elements_left", "end", "pos", "view")

    def __init__(self, view: memoryview, elements_left: int = MAX_ELEMENTS) -> None:
        self.view = view
        self.pos = 0
        self.end = len(view)
        self.elements_left = elements_left

    def error(self, what: str) -> InvalidRequest:
        """What to raise: says where the reader stands."""
        return InvalidRequest(f"{what} (near byte {self.pos} of {self.end})")

    def unpack(self, layout: Struct) -> tuple[Any, ...]:
        """A run of fixed-size fields."""
        pos = self.pos
        try:
            values = layout.unpack_from(self.view, pos)
        except StructError:
            raise self.error("the request ends inside a field") from None
        self.pos = pos + layout.size
        return values

    def uvarint(self) -> int:
        """An unsigned varint of at most five bytes and 31 bits."""
        value = 0
        for shift in (0, 7, 14, 21, 28):
            if self.pos == self.end:
                raise self.error("the request ends inside a varint")
            byte = self.view[self.pos]
            self.pos += 1
            value |= (byte & 0x7F) << shift
            if byte < 128:
                break
        if byte >= 128 or value > _MAX_LENGTH:
            raise self.error("a varint is longer than 31 bits")
        return value

    def string_length(self) -> int:
        """The length of a string in bytes; negative for null."""
        length: int = self.unpack(_INT16)[0]
        return length

    def bytes_length(self) -> int:
        """The length of bytes or the count of an array; negative for null."""
        length: int = self.unpack(_INT32)[0]
        return length

    def end_struct(self) -> None:
        """Pass over what stands between two structs: nothing here, tagged fields in the flexible encoding."""

    def take(self, length: int) -> memoryview:
        """The next ``length`` bytes, not copied."""
        start = self.pos
        stop = start + length
        if stop > self.end:
            raise self.error(f"a field of {length} bytes is longer than what is left")
        self.pos = stop
        return self.view[start:stop]

    def text(self, length: int) -> str:
        """The next ``length`` bytes as UTF-8."""
        try:
            return str(self.take(length), "utf-8")
        except UnicodeDecodeError:
            raise self.error("a string is not UTF-8") from None

    def string(self) -> str:
        """A string; null is refused."""
        length = self.string_length()
        if length < 0:
            raise self.error("null where a string must stand")
        return self.text(length)

    def nullable_string(self) -> str | None:
        """A string or None."""
        length = self.string_length()
        return None if length < 0 else self.text(length)

    def nullable_view(self) -> memoryview | None:
        """Bytes or records as a view into the request, not copied, or None."""
        length = self.bytes_length()
        return None if length < 0 else self.take(length)

    def nullable_blob(self) -> bytes | None:
        """Bytes, copied, or None."""
        view = self.nullable_view()
        return None if view is None else bytes(view)

    def blob(self) -> bytes:
        """Bytes, copied; null is refused."""
        view = self.nullable_view()
        if view is None:
            raise self.error("null where bytes must stand")
        return bytes(view)

    def nullable_array(self) -> int:
        """The count of an array, or -1 for null. It is bounded by what is left: an element has at least one byte."""
        count = self.bytes_length()
        if count < 0:
            return -1
        if count > self.end - self.pos:
            raise self.error(f"an array of {count} elements is longer than what is left")
        self.spend(count)
        return count

    def array(self) -> int:
        """The count of an array; null is refused."""
        count = self.nullable_array()
        if count < 0:
            raise self.error("null where an array must stand")
        return count

    def spend(self, count: int) -> None:
        """Count array elements or tagged fields against what one request may have."""
        self.elements_left -= count
        if self.elements_left < 0:
            raise self.error(f"more than {MAX_ELEMENTS} array elements in one request: split it")

    def uuid(self) -> UUID:
        """A topic id or the like; ``NO_UUID`` where there is none."""
        return _uuid(bytes(self.take(16)))


class CompactReader(Reader):
    """A position in a request, in the flexible encoding."""

    __slots__ = ()

    def bytes_length(self) -> int:
        """The length of a string or of bytes, or the count of an array; negative for null."""
        pos = self.pos
        if pos < self.end:
            byte = self.view[pos]
            if byte < 128:  # the usual case, without a loop
                self.pos = pos + 1
                return byte - 1
        return self.uvarint() - 1

    string_length = bytes_length

    def end_struct(self) -> None:
        """Pass over tagged fields: those not known here must be ignored."""
        pos = self.pos
        if pos < self.end and self.view[pos] == 0:  # the usual case: none
            self.pos = pos + 1
            return
        count = self.uvarint()
        self.spend(count)
        for _ in range(count):
            self.uvarint()
            self.take(self.uvarint())


class Writer:
    """Bytes of a response under way, in the classic encoding. ``out`` may be appended to directly for fixed sizes."""

    __slots__ = ("out",)

    def __init__(self) -> None:
        self.out = bytearray()

    def nullable_string(self, text: str | None) -> None:
        """A string or null."""
        if text is None:
            self.out += b"\xff\xff"
        else:
            self.string(text)

    def string(self, text: str) -> None:
        """A string."""
        raw = text.encode()
        self.out += _INT16.pack(len(raw)) + raw

    def nullable_blob(self, blob: Buffer | None) -> None:
        """Bytes or null."""
        if blob is None:
            self.out += b"\xff\xff\xff\xff"
        else:
            self.blob(blob)

    def blob(self, blob: Buffer) -> None:
        """Bytes."""
        self.bytes_length(len(blob))
        self.out += blob

    def bytes_length(self, length: int) -> None:
        """The length in front of bytes that the caller sends himself."""
        self.out += _INT32.pack(length)

    def array(self, count: int) -> None:
        """The count in front of an array; -1 for null."""
        self.out += _INT32.pack(count)

    def end_struct(self) -> None:
        """End a struct that has no tagged field set."""


class CompactWriter(Writer):
    """Bytes of a response under way, in the flexible encoding."""

    __slots__ = ()

    def nullable_string(self, text: str | None) -> None:
        """A string or null."""
        if text is None:
            self.out.append(0)
        else:
            self.string(text)

    def string(self, text: str) -> None:
        """A string."""
        raw = text.encode()
        self.out += uvarint(len(raw) + 1) + raw

    def nullable_blob(self, blob: Buffer | None) -> None:
        """Bytes or null."""
        if blob is None:
            self.out.append(0)
        else:
            self.blob(blob)

    def bytes_length(self, length: int) -> None:
        """The length in front of bytes that the caller sends himself."""
        self.out += uvarint(length + 1)

    def array(self, count: int) -> None:
        """The count in front of an array; -1 for null."""
        self.out += uvarint(count + 1)

    def end_struct(self) -> None:
        """End a struct that has no tagged field set."""
        self.out.append(0)
