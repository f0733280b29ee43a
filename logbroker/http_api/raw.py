"""One record as a raw body with its metadata in ``Logbroker-*`` headers, both ways.

What lives here: the mapping of HTTP headers to a record. Invariant: the body is the value, byte for byte.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from multidict import CIMultiDict

from logbroker.config import INT64_MAX
from logbroker.errors import InvalidRequest
from logbroker.http_api.requests import OCTETS
from logbroker.model import Header, Record, StoredRecord

_PREFIX = "logbroker-"
_HEADER_PREFIX = "logbroker-header-"
_QUEUE_ONLY = frozenset({"logbroker-delay-ms", "logbroker-priority", "logbroker-dedup-id"})


def raw_record(headers: Mapping[str, str], body: bytes, common: tuple[Header, ...]) -> tuple[Record, int | None]:
    """The record and the partition it asks for. Raises InvalidRequest."""
    record_headers: list[Header] = []
    given: dict[str, str] = {}
    for name, value in headers.items():
        lowered = name.lower()
        if lowered.startswith(_HEADER_PREFIX):
            record_headers.append(Header(name[len(_HEADER_PREFIX) :], _bytes(value)))
        elif lowered.startswith(_PREFIX):
            given[lowered] = value
    content_type = headers.get("Content-Type")
    if content_type is not None and content_type != OCTETS and not _has_content_type(record_headers):
        record_headers.append(Header("content-type", _bytes(content_type)))
    key = _key(given)
    timestamp_ms = _number(given, "logbroker-timestamp-ms", INT64_MAX)
    partition = _number(given, "logbroker-partition", 2**31 - 1)
    for name in given:
        raise InvalidRequest(
            f"{name} is for queues; this is a topic" if name in _QUEUE_ONLY else f"there is no header {name[:100]}"
        )
    return Record(body, key, (*record_headers, *common), timestamp_ms), partition


def raw_headers(partition: int, record: StoredRecord) -> CIMultiDict[str]:
    """The headers of a raw answer. Header values that HTTP cannot carry are counted in ``Logbroker-Headers-Omitted``."""
    headers = CIMultiDict(
        {
            "Logbroker-Partition": str(partition),
            "Logbroker-Offset": str(record.offset),
            "Logbroker-Timestamp-Ms": str(record.timestamp_ms),
        }
    )
    if record.key is not None:
        if _carries(record.key):
            headers["Logbroker-Key"] = record.key.decode()
        else:
            headers["Logbroker-Key-B64"] = base64.b64encode(record.key).decode()
    headers.extend(carried_headers(record.headers))
    if record.value is None:
        headers["Logbroker-Tombstone"] = "true"
    return headers


def carried_headers(given: Iterable[Header]) -> CIMultiDict[str]:
    """A record's headers as ``Logbroker-Header-*``, and how many of them HTTP cannot carry."""
    headers: CIMultiDict[str] = CIMultiDict()
    omitted = 0
    for name, value in given:
        if value is not None and _carries(value) and name and quote(name, safe="") == name:
            headers.add(f"Logbroker-Header-{name}", value.decode())
        else:
            omitted += 1
    if omitted:
        headers["Logbroker-Headers-Omitted"] = str(omitted)
    return headers


def media_type(headers: Iterable[Header]) -> str:
    """The content type that a record's headers name, else octets."""
    for name, value in headers:
        if name.lower() == "content-type" and value is not None and _carries(value) and b"/" in value:
            return value.decode()
    return OCTETS


def _key(given: dict[str, str]) -> bytes | None:
    text, encoded = given.pop("logbroker-key", None), given.pop("logbroker-key-b64", None)
    if text is not None and encoded is not None:
        raise InvalidRequest("both Logbroker-Key and Logbroker-Key-B64 given")
    if encoded is None:
        return None if text is None else _bytes(text)
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("Logbroker-Key-B64 is not base64") from None


def _number(given: dict[str, str], name: str, at_most: int) -> int | None:
    text = given.pop(name, None)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= at_most):
        raise InvalidRequest(f"{name} {text[:40]!r} is not a number from 0 to {at_most}")
    return int(text)


def _bytes(value: str) -> bytes:
    """A header value as it came over the wire; aiohttp keeps bytes that are not UTF-8 as surrogates."""
    return value.encode("utf-8", "surrogateescape")


def _carries(value: bytes) -> bool:
    """Whether an HTTP header brings the bytes over unchanged: printable ASCII without outer blanks."""
    return value.isascii() and value.decode().isprintable() and value == value.strip()


def _has_content_type(headers: list[Header]) -> bool:
    return any(name.lower() == "content-type" for name, _ in headers)
