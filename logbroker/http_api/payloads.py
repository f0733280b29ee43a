"""Records in JSON: one of ``value``, ``value_json``, ``value_b64``, the same for keys, headers as pairs.

What lives here: the shapes and the conversions both ways. What may not: HTTP, the engine. Invariant: reading gives back
exactly the bytes that were produced; the name of the field says how they are written, nothing is guessed by the client.
"""

import functools
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from logbroker.broker.produce import Outcome, Produced
from logbroker.config import INT64_MAX
from logbroker.errors import InvalidRequest
from logbroker.http_api.errors import entry
from logbroker.model import Header, Record, StoredRecord

MAX_RECORDS = 10_000

Offset: TypeAlias = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Timestamp: TypeAlias = Annotated[int, Meta(ge=0, le=INT64_MAX, description="Milliseconds since the epoch.")]
PartitionNumber: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Encoding: TypeAlias = Literal["auto", "text", "json", "b64"]

_JSON_HEADERS = (Header("content-type", b"application/json"),)
_raw_decoder = msgspec.json.Decoder(Raw)


class Bytes(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Bytes that are not text."""

    b64: bytes


HeaderPair: TypeAlias = tuple[str, str | Bytes | None]


class RecordIn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A record to produce. Exactly one of value, value_json, value_b64; at most one of key, key_json, key_b64."""

    value: str | UnsetType | None = UNSET
    value_json: Raw | UnsetType = UNSET
    value_b64: bytes | UnsetType = UNSET
    key: str | UnsetType | None = UNSET
    key_json: Raw | UnsetType = UNSET
    key_b64: bytes | UnsetType = UNSET
    headers: list[HeaderPair] | UnsetType = UNSET
    partition: PartitionNumber | None = None
    timestamp_ms: Timestamp | None = None


class RecordOut(msgspec.Struct, gc=False):
    """A record as it is read. The name of the value's (and key's) field says its encoding; a null value is a tombstone."""

    partition: int
    offset: int
    timestamp_ms: int
    key: str | UnsetType | None = UNSET
    key_json: Raw | UnsetType = UNSET
    key_b64: bytes | UnsetType = UNSET
    headers: list[HeaderPair] | UnsetType = UNSET
    value: str | UnsetType | None = UNSET
    value_json: Raw | UnsetType = UNSET
    value_b64: bytes | UnsetType = UNSET
    key_bytes: int | UnsetType | None = UNSET
    value_bytes: int | UnsetType | None = UNSET


class Result(msgspec.Struct, gc=False):
    """Where a record that was produced stands, or the error why it was not written."""

    index: int
    partition: int | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    timestamp_ms: int | UnsetType = UNSET
    error: dict[str, Any] | UnsetType = UNSET


def result_of(index: int, outcome: Outcome) -> Result:
    """An outcome as one entry of an answer."""
    if isinstance(outcome, Produced):
        return Result(index, outcome.partition, outcome.offset, outcome.timestamp_ms)
    return Result(index, error=entry(outcome))


# -- in --------------------------------------------------------------------------------------------------------------


def to_record(given: RecordIn, now_ms: int, common: tuple[Header, ...] = ()) -> Record:
    """The record, with ``common`` headers added. Raises InvalidRequest with the culprit in ``field``."""
    value, json, data = given.value, given.value_json, given.value_b64
    headers = common if given.headers is UNSET else _headers(given.headers) + common
    content: bytes | None
    if json is UNSET and data is UNSET and value is not UNSET:
        content = None if value is None else value.encode()
    elif json is not UNSET and data is UNSET and value is UNSET:
        content = _utf8(bytes(json), "value_json")
        if not headers:
            headers = _JSON_HEADERS
        elif not any(name.lower() == "content-type" for name, _ in headers):
            headers = headers + _JSON_HEADERS
    else:
        content = _data_alone("value", value, json, data)
    key = given.key
    if given.key_json is UNSET and given.key_b64 is UNSET:
        key_bytes = key.encode() if type(key) is str else None
    elif given.key_json is not UNSET and given.key_b64 is UNSET and key is UNSET:
        key_bytes = _utf8(bytes(given.key_json), "key_json")
    else:
        key_bytes = _data_alone("key", key, given.key_json, given.key_b64)
    timestamp_ms = given.timestamp_ms
    return Record(content, key_bytes, headers, now_ms if timestamp_ms is None else timestamp_ms)


def to_records(given: Sequence[RecordIn], now_ms: int, common: tuple[Header, ...] = ()) -> list[Record]:
    """All records, or InvalidRequest with ``errors`` naming each bad one."""
    try:
        return [to_record(one, now_ms, common) for one in given]
    except InvalidRequest:
        errors = list(_bad_records(given, now_ms))
        raise InvalidRequest(f"{errors[0]['detail']}, at {errors[0]['pointer']}", errors=errors) from None


def _bad_records(given: Sequence[RecordIn], now_ms: int) -> Any:
    for index, one in enumerate(given):
        try:
            to_record(one, now_ms)
        except InvalidRequest as error:
            yield {"pointer": f"#/records/{index}/{error.fields['field']}", "detail": error.detail}


def _data_alone(name: str, text: str | UnsetType | None, json: Raw | UnsetType, data: bytes | UnsetType) -> bytes:
    """The bytes that ``{name}_b64`` gives, once it is sure that it is the only form given."""
    fields = ((name, text), (f"{name}_json", json), (f"{name}_b64", data))
    names = [field for field, form in fields if form is not UNSET]
    if not names:
        raise InvalidRequest(f"give one of {name}, {name}_json, {name}_b64; a null {name} is a tombstone", field=name)
    if len(names) > 1 or data is UNSET:
        raise InvalidRequest(f"both {names[0]} and {names[1]} given", field=names[0])
    return data


def _utf8(data: bytes, field: str) -> bytes:
    """JSON is UTF-8; msgspec does not look into what it passes on raw."""
    try:
        data.isascii() or data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{field} is not valid UTF-8", field=field) from None
    return data


def _headers(pairs: Sequence[HeaderPair]) -> tuple[Header, ...]:
    return tuple(
        Header(name, value.encode() if isinstance(value, str) else value.b64 if value is not None else None)
        for name, value in pairs
    )


# -- out -------------------------------------------------------------------------------------------------------------


def to_payload(partition: int, record: StoredRecord, encoding: Encoding = "auto", *, meta: bool = False) -> RecordOut:
    """The record as it is written in JSON. ``meta`` leaves out headers, key and value and tells their sizes instead.

    ``auto`` takes json when a content-type header says so and it parses, then text when it is UTF-8, else b64.
    ``text`` and ``json`` fall back to b64 where the bytes are not that.
    """
    out = RecordOut(partition, record.offset, record.timestamp_ms)
    key, value = record.key, record.value
    if meta:
        out.key_bytes = None if key is None else len(key)
        out.value_bytes = None if value is None else len(value)
        return out
    out.headers = [(name, _header_value(content)) for name, content in record.headers] if record.headers else []
    _write_key(out, key, encoding)
    _write_value(out, value, encoding, record.headers)
    return out


def _write_key(out: RecordOut, key: bytes | None, encoding: Encoding) -> None:
    if key is None:
        out.key = None
    elif encoding == "json" and (raw := _as_json(key)) is not None:
        out.key_json = raw
    elif encoding in ("auto", "text") and (text := _as_text(key)) is not None:
        out.key = text
    else:
        out.key_b64 = key


def _write_value(out: RecordOut, value: bytes | None, encoding: Encoding, headers: Sequence[Header]) -> None:
    if value is None:
        out.value = None
        return
    wants_json = encoding == "json" or (encoding == "auto" and _says_json(headers))
    if wants_json and (raw := _as_json(value)) is not None:
        out.value_json = raw
    elif encoding in ("auto", "text") and (text := _as_text(value)) is not None:
        out.value = text
    else:
        out.value_b64 = value


def _says_json(headers: Sequence[Header]) -> bool:
    for name, value in headers:
        if value is not None and name.lower() == "content-type":
            return _is_json_type(value)
    return False


@functools.lru_cache(maxsize=64)
def _is_json_type(content_type: bytes) -> bool:
    media = content_type.partition(b";")[0].strip().lower()
    return media == b"application/json" or media.endswith(b"+json")


def _as_text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _as_json(data: bytes) -> Raw | None:
    """The bytes as JSON on one line, or None when they are not JSON (or more than a parser here can follow)."""
    try:
        data.isascii() or data.decode()
        raw = _raw_decoder.decode(data)
        return Raw(msgspec.json.format(data, indent=-1)) if b"\n" in data or b"\r" in data else raw
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _header_value(value: bytes | None) -> str | Bytes | None:
    if value is None:
        return None
    text = _as_text(value)
    return Bytes(value) if text is None else text
