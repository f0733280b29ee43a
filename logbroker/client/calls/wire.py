"""Records in JSON, as this client writes and reads them: bytes as base64, headers as pairs.

What lives here: the two conversions. Invariant: nothing is lost, whatever the bytes; the broker does not guess.
"""

from typing import Any, TypeAlias

import msgspec

from logbroker.client.payloads import Headers
from logbroker.model import Header, Record


class Bytes(msgspec.Struct, gc=False):
    """Bytes of a header that are no text."""

    b64: bytes


WireHeaders: TypeAlias = list[tuple[str, str | Bytes | None]]


class WirePayload(msgspec.Struct, gc=False):
    """Key, value and headers as they are read with ``encoding=b64``. A field that is left out stands for null."""

    key_b64: bytes | None = None
    value_b64: bytes | None = None
    headers: WireHeaders = []


def headers_from(pairs: WireHeaders) -> Headers:
    """The headers of a record that was read."""
    if not pairs:
        return Headers()
    return Headers(
        tuple(
            Header(name, value.encode() if isinstance(value, str) else value.b64 if value is not None else None)
            for name, value in pairs
        )
    )


def record_to_wire(record: Record) -> dict[str, Any]:
    """A record to be written."""
    wire: dict[str, Any] = {"value": None} if record.value is None else {"value_b64": record.value}
    if record.key is not None:
        wire["key_b64"] = record.key
    if record.headers:
        wire["headers"] = [[name, None if value is None else Bytes(value)] for name, value in record.headers]
    return wire
