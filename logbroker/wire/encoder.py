"""Compiles a message definition and a version into an encoder of our own responses.

What lives here: the walk over the fields of a definition. What may not: the encoding of a primitive (see `primitives`).
Invariant: a mapping with a name the definition does not have is refused in every version, so a misspelt field cannot
pass for its default; a field the version does not have is left out.

A struct is given as a mapping, an array as a sequence. What is not given is its default, as in Kafka.
Runs of fixed-size fields are packed at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias

from logbroker.wire.decoder import FIXED, is_run_field
from logbroker.wire.definitions import Definition, Field
from logbroker.wire.primitives import CompactWriter, Writer, uvarint

_INT32: Final = Struct(">i")

_Write: TypeAlias = Callable[[Writer, Any], None]


class Numbered(NamedTuple):
    """An array of ``length`` structs that differ in one int32 field alone, which counts up from 0.

    The partitions of a topic are such: twenty thousand dicts would hold up the loop for a tenth of a second.
    """

    length: int
    field: str
    struct: Mapping[str, Any]


def compile_encoder(definition: Definition, version: int) -> Callable[[Mapping[str, Any]], bytearray]:
    """A function from the fields of a message to its body. It raises TypeError for a field that does not exist."""
    writer_class = CompactWriter if definition.flexible.covers(version) else Writer
    write = _struct(definition.name, definition.fields, version, writer_class)

    def encode(fields: Mapping[str, Any]) -> bytearray:
        writer = writer_class()
        write(writer, fields)
        return writer.out

    return encode


def _struct(name: str, fields: Sequence[Field], version: int, writer_class: type[Writer]) -> _Write:
    names = {field.name for field in fields}
    present = [field for field in fields if field.versions.covers(version)]
    plain = [field for field in present if not field.tagged.covers(version)]
    tagged = [
        (field.name, field.default, field.tag, _value(field, version, writer_class))
        for field in sorted(present, key=lambda field: field.tag)
        if field.tagged.covers(version)
    ]
    steps = _steps(plain, version, writer_class)

    def write(writer: Writer, struct: Mapping[str, Any]) -> None:
        if not struct.keys() <= names:
            raise TypeError(f"{name} has no field {', '.join(sorted(struct.keys() - names))}")
        for run, run_fields, write_one in steps:
            if write_one is None:
                writer.out += run.pack(*[struct.get(*field) for field in run_fields])
            else:
                write_one(writer, struct.get(*run_fields[0]))
        if tagged:
            _write_tags(writer, struct, tagged)
        else:
            writer.end_struct()

    return write


_Step: TypeAlias = tuple[Struct, list[tuple[str, Any]], _Write | None]


def _steps(fields: Sequence[Field], version: int, writer_class: type[Writer]) -> list[_Step]:
    """The fields in wire order as (layout, names and defaults, None) for a run or (unused, one field, function)."""
    steps: list[_Step] = []
    run: list[Field] = []

    def end_run() -> None:
        if run:
            layout = Struct(">" + "".join(FIXED[field.type or ""] for field in run))
            steps.append((layout, [(field.name, field.default) for field in run], None))
            run.clear()

    for field in fields:
        if is_run_field(field):
            run.append(field)
        else:
            end_run()
            steps.append((Struct(""), [(field.name, field.default)], _value(field, version, writer_class)))
    end_run()
    return steps


def _write_tags(writer: Writer, struct: Mapping[str, Any], tagged: Iterable[tuple[str, Any, int, _Write]]) -> None:
    """Fields at their default are left out (KIP-482)."""
    given = [entry for entry in tagged if struct.get(entry[0], entry[1]) != entry[1]]
    writer.out += uvarint(len(given))
    for name, _, tag, write in given:
        content = type(writer)()
        write(content, struct[name])
        writer.out += uvarint(tag) + uvarint(len(content.out)) + content.out


def _value(field: Field, version: int, writer_class: type[Writer]) -> _Write:
    nullable = field.nullable.covers(version)
    if field.is_array:
        element = _struct(field.name, field.fields, version, writer_class) if field.type is None else _single(field.type)
        return _array(element, nullable)
    if field.type is None:
        struct = _struct(field.name, field.fields, version, writer_class)
        return _nullable_struct(struct) if nullable else struct
    return _single(field.type, nullable)


def _single(type_name: str, nullable: bool = False) -> _Write:
    if type_name in FIXED:
        return _fixed(Struct(">" + FIXED[type_name]))
    if type_name == "uuid":
        return _uuid
    if type_name == "string":
        return (
            (lambda writer, text: writer.nullable_string(text)) if nullable else (lambda writer, text: writer.string(text))
        )
    if type_name in ("bytes", "records"):
        return (lambda writer, blob: writer.nullable_blob(blob)) if nullable else (lambda writer, blob: writer.blob(blob))
    raise NotImplementedError(f"fields of type {type_name} are not supported")


def _fixed(layout: Struct) -> _Write:
    def write(writer: Writer, value: Any) -> None:
        writer.out += layout.pack(value)

    return write


def _uuid(writer: Writer, value: Any) -> None:
    writer.out += value.bytes


def _array(element: _Write, nullable: bool) -> _Write:
    def write(writer: Writer, values: Sequence[Any] | Numbered | None) -> None:
        if values is None and nullable:
            writer.array(-1)
            return
        if isinstance(values, Numbered):
            _write_numbered(writer, element, values)
            return
        writer.array(len(values))  # type: ignore[arg-type]  # None where there is no null is the caller's mistake: TypeError
        for value in values or ():
            element(writer, value)

    return write


def _write_numbered(writer: Writer, element: _Write, values: Numbered) -> None:
    """One struct is encoded twice, to see where its number stands; the others are put together around theirs."""
    first, other = type(writer)(), type(writer)()
    element(first, {**values.struct, values.field: 0})
    element(other, {**values.struct, values.field: -1})
    start = next(at for at, byte in enumerate(first.out) if byte != other.out[at])
    before, after = bytes(first.out[:start]), bytes(first.out[start + _INT32.size :])
    writer.array(values.length)
    pack = _INT32.pack
    if values.length:
        writer.out += before + (after + before).join([pack(number) for number in range(values.length)]) + after


def _nullable_struct(struct: _Write) -> _Write:
    """A byte in front: -1 for null, 1 for a struct (KIP-893)."""

    def write(writer: Writer, value: Mapping[str, Any] | None) -> None:
        if value is None:
            writer.out += b"\xff"
        else:
            writer.out += b"\x01"
            struct(writer, value)

    return write
