"""Records as the HTTP API writes them, and as the command line reads and prints them.

What lives here: the choice between text and base64, and the words of ``consume --format``. What may not: HTTP, options.
Invariant: ``to_wire(bytes)`` and ``from_wire`` lose nothing, whatever the bytes; ``consume -o jsonl`` feeds
``produce --input jsonl``, so JSON is never re-written on the way: values travel as text, or as base64 where they are none.
"""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from logbroker.cli.output import timestamp
from logbroker.errors import InvalidRequest
from logbroker.model import NO_TIMESTAMP


class Fields(NamedTuple):
    """What an object of ``--input jsonl`` may hold: what is sent, and what is read beside it and left out here."""

    sent: frozenset[str]
    ignored: frozenset[str]


_PAYLOAD = frozenset({"key", "key_json", "key_b64", "value", "value_json", "value_b64", "headers"})
RECORD_FIELDS = Fields(_PAYLOAD | {"partition", "timestamp_ms"}, frozenset({"topic", "offset", "append_time"}))
"""A record: what ``consume`` prints can be produced."""
MESSAGE_FIELDS = Fields(
    _PAYLOAD | {"priority", "delay_ms", "deliver_at_ms", "dedup_id", "message_ttl_ms"},
    frozenset({"id", "state", "position", "partition", "offset", "timestamp_ms", "due_ms", "deliveries", "failures"})
    | {"consumer", "receipt", "receipt_expires_ms", "reason", "first_error", "last_error", "redriven", "history"},
)
"""A message of a queue: what ``queue peek``, ``queue receive`` and ``dlq export`` print can be sent."""

_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\0": "\0", r"\\": "\\"}


def to_wire(field: str, data: bytes | None) -> dict[str, str | None]:
    """``{field: text}``, or ``{field_b64: base64}`` for bytes that are not UTF-8; None stays null."""
    if data is None:
        return {field: None}
    try:
        return {field: data.decode()}
    except UnicodeDecodeError:
        return {f"{field}_b64": base64.b64encode(data).decode()}


def from_wire(record: Mapping[str, Any], field: str) -> bytes | None:
    """The bytes of ``field`` in a record that was read."""
    if record.get(f"{field}_b64") is not None:
        return base64.b64decode(record[f"{field}_b64"])
    if f"{field}_json" in record:
        return json.dumps(record[f"{field}_json"]).encode()
    text = record.get(field)
    return None if text is None else str(text).encode()


def readable(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record that was read in base64, with text wherever the bytes are text."""
    shown = {name: value for name, value in record.items() if not name.endswith("_b64")}
    for field in ("key", "value"):
        if f"{field}_b64" in record:
            shown |= to_wire(field, from_wire(record, field))
    return shown


def producible(line: bytes, number: int, fields: Fields) -> dict[str, Any]:
    """One line of ``--input jsonl`` as a record to produce. Raises InvalidRequest naming the line."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InvalidRequest(f"line {number} is no JSON: {error}", line=number) from None
    if not isinstance(record, dict):
        raise InvalidRequest(f'line {number} is no JSON object; a record looks like {{"value": "text"}}', line=number)
    unknown = sorted(record.keys() - fields.sent - fields.ignored)
    if unknown:
        known = ", ".join(sorted(fields.sent))
        raise InvalidRequest(f"line {number}: a record has no field {unknown[0]!r}; it may have: {known}", line=number)
    if record.get("timestamp_ms") == NO_TIMESTAMP:
        del record["timestamp_ms"]
    return {name: value for name, value in record.items() if name in fields.sent}


def formatted(template: str, record: Mapping[str, Any]) -> bytes:
    """``template`` filled in: %t topic, %p partition, %o offset, %T time in ms, %k key, %v value, %h headers, \\n, \\t."""
    words: dict[str, bytes] = {
        "%t": str(record.get("topic", "")).encode(),
        "%p": str(record["partition"]).encode(),
        "%o": str(record["offset"]).encode(),
        "%T": str(record["timestamp_ms"]).encode(),
        "%k": from_wire(record, "key") or b"",
        "%v": from_wire(record, "value") or b"",
        "%h": json.dumps(record.get("headers", [])).encode(),
        "%%": b"%",
    }
    words |= {escape: text.encode() for escape, text in _ESCAPES.items()}
    parts = re.split(r"(%[tpoTkvh%]|\\[nt0\\])", template)
    return b"".join(words.get(part, part.encode()) for part in parts)


def columns(record: Mapping[str, Any]) -> list[str]:
    """Partition, offset, time, key and value as one line of a table; null is '-', tabs and newlines are escaped."""
    payload = [one_line(record, field) for field in ("key", "value")]
    return [str(record["partition"]), str(record["offset"]), timestamp(record["timestamp_ms"]), *payload]


def one_line(record: Mapping[str, Any], field: str) -> str:
    """``field`` of a record in one line: null is '-', tabs and newlines are escaped."""
    data = from_wire(record, field)
    if data is None:
        return "-"
    text = data.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    return text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
