"""Compiles a message definition and a version into a decoder of untrusted bytes.

What lives here: the walk over the fields of a definition. What may not: bounds (see `primitives`), names of messages.
Invariant: a decoder ends with a value or with InvalidRequest. It refuses what Kafka refuses: null where a version has no
null, a tagged field whose size is not that of its content, an array that cannot fit into the rest of the request.

Why not the decoder that comes with the definitions: it is a client's, and trusts the broker. A varint without an end
costs it time in the square of the request, and a string cut short passes for a whole one.

A value is a named tuple with all fields of its struct in any version, those the version does not have at their default.
Runs of fixed-size fields are read at once. Bytes after the end of the message are ignored, as by Kafka.
"""

from collections import namedtuple
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final, TypeAlias

from logbroker.wire.definitions import Definition, Field
from logbroker.wire.primitives import CompactReader, Reader

FIXED: Final = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "float64": "d",
}
"""`struct` formats of the types that are read and written in runs."""

_Read: TypeAlias = Callable[[Reader], Any]
_new_class: Callable[[str, Sequence[str]], Any] = namedtuple


def compile_decoder(definition: Definition, version: int) -> Callable[[memoryview], Any]:
    """A function from the body of a message to its value; it raises InvalidRequest."""
    reader_class = CompactReader if definition.flexible.covers(version) else Reader
    read = _struct(definition.name, definition.fields, version, reader_class)

    def decode(body: memoryview) -> Any:
        return read(reader_class(body))

    return decode


def is_run_field(field: Field) -> bool:
    """Whether the field is of fixed size, so that it can be part of a run."""
    return field.type in FIXED and not field.is_array


def _struct(name: str, fields: Sequence[Field], version: int, reader_class: type[Reader]) -> _Read:
    present = [field for field in fields if field.versions.covers(version)]
    plain = [field for field in present if not field.tagged.covers(version)]
    tagged = [field for field in present if field.tagged.covers(version)]
    rest = [field for field in fields if field not in plain]
    make = _new_class(name, [field.name for field in (*plain, *rest)])._make
    steps = _steps(plain, version, reader_class)
    defaults = tuple(field.default for field in rest)
    by_tag = {field.tag: (rest.index(field), _value(field, version, reader_class)) for field in tagged}

    def read(reader: Reader) -> Any:
        values: list[Any] = []
        for run, read_one in steps:
            if run is not None:
                values += reader.unpack(run)
            elif read_one is not None:
                values.append(read_one(reader))
        if by_tag:
            values += _read_tags(reader, by_tag, defaults)
        else:
            reader.end_struct()
            values += defaults
        return make(values)

    return read


def _steps(fields: Sequence[Field], version: int, reader_class: type[Reader]) -> list[tuple[Struct | None, _Read | None]]:
    """The fields in wire order, each either part of a run or read by a function of its own."""
    steps: list[tuple[Struct | None, _Read | None]] = []
    run = ""
    for field in fields:
        if is_run_field(field):
            run += FIXED[field.type or ""]
            continue
        if run:
            steps.append((Struct(">" + run), None))
            run = ""
        steps.append((None, _value(field, version, reader_class)))
    if run:
        steps.append((Struct(">" + run), None))
    return steps


def _read_tags(reader: Reader, by_tag: dict[int, tuple[int, _Read]], defaults: tuple[Any, ...]) -> list[Any]:
    values = list(defaults)
    count = reader.uvarint()
    reader.spend(count)
    for _ in range(count):
        known = by_tag.get(reader.uvarint())
        content = reader.take(reader.uvarint())
        if known is None:
            continue
        index, read = known
        inner = type(reader)(content, reader.elements_left)
        values[index] = read(inner)
        reader.elements_left = inner.elements_left
        if inner.pos != inner.end:
            raise reader.error("a tagged field is shorter than its size says")
    return values


def _value(field: Field, version: int, reader_class: type[Reader]) -> _Read:
    nullable = field.nullable.covers(version)
    if field.is_array:
        element = _struct(field.name, field.fields, version, reader_class) if field.type is None else _single(field.type)
        return _array(element, nullable)
    if field.type is None:
        struct = _struct(field.name, field.fields, version, reader_class)
        return _nullable_struct(struct) if nullable else struct
    return _single(field.type, nullable)


def _single(type_name: str, nullable: bool = False) -> _Read:
    if type_name in FIXED:
        layout = Struct(">" + FIXED[type_name])
        return lambda reader: reader.unpack(layout)[0]
    if type_name == "uuid":
        return lambda reader: reader.uuid()
    if type_name == "string":
        return (lambda reader: reader.nullable_string()) if nullable else (lambda reader: reader.string())
    if type_name in ("bytes", "records"):
        return (lambda reader: reader.nullable_blob()) if nullable else (lambda reader: reader.blob())
    raise NotImplementedError(f"fields of type {type_name} are not supported")


def _array(element: _Read, nullable: bool) -> _Read:
    def read(reader: Reader) -> tuple[Any, ...] | None:
        count = reader.nullable_array() if nullable else reader.array()
        return None if count < 0 else tuple([element(reader) for _ in range(count)])

    return read


def _nullable_struct(struct: _Read) -> _Read:
    """A byte in front: negative for null (KIP-893)."""
    presence = Struct(">b")

    def read(reader: Reader) -> Any:
        return None if reader.unpack(presence)[0] < 0 else struct(reader)

    return read
