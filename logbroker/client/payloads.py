"""Values, keys and headers: what a caller gives becomes a record, and what is read is looked at.

What lives here: the two directions, equal for every carrier. What may not: JSON of the wire.
Invariant: bytes go as they are and text as UTF-8; anything else is JSON, with a content-type header that says so.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar, overload

import msgspec

from logbroker.claims.reference import MARK, Claim, decoded, encoded, is_claim
from logbroker.errors import InvalidRequest
from logbroker.model import Header, Record

T = TypeVar("T")

HeaderValue: TypeAlias = str | bytes | None
HeadersGiven: TypeAlias = Mapping[str, HeaderValue] | Iterable[tuple[str, HeaderValue]]
"""Headers by name, or pairs where a name comes more than once."""
Key: TypeAlias = str | bytes | None

CONTENT_TYPE = "content-type"
ERROR_CHARACTERS = 4_000
_JSON = Header(CONTENT_TYPE, b"application/json")
_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


def record_of(value: Any, key: Key = None, headers: HeadersGiven = (), timestamp_ms: int | None = None) -> Record:
    """A record. ``value``: None is a tombstone, bytes go as they are, text as UTF-8, a claim stands for its payload, the
    rest is JSON.

    Raises InvalidRequest for a value that JSON cannot say, and for a key or headers of other types.
    """
    pairs = _pairs(headers)
    content: bytes | None
    if isinstance(value, Claim):
        return Record(encoded(value), _bytes("a key", key), (*pairs, MARK), timestamp_ms)
    if value is None or isinstance(value, bytes | str):
        content = _bytes("a value", value)
    elif isinstance(value, bytearray | memoryview):
        content = bytes(value)
    else:
        content = _json(value)
        if not any(name.lower() == CONTENT_TYPE for name, _ in pairs):
            pairs = (*pairs, _JSON)
    return Record(content, _bytes("a key", key), pairs, timestamp_ms)


def _json(value: Any) -> bytes:
    try:
        return _encode(value)
    except (TypeError, msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidRequest(f"a value is bytes, text, or what JSON can say; {type(value).__name__}: {error}") from None


def _pairs(headers: HeadersGiven) -> tuple[Header, ...]:
    try:
        given = [(name, value) for name, value in (headers.items() if isinstance(headers, Mapping) else headers)]
    except (TypeError, ValueError):
        raise InvalidRequest("headers are a mapping, or pairs of a name and a value") from None
    for name, _ in given:
        if not isinstance(name, str):
            raise InvalidRequest(f"the name of a header is text, not {name!r}")
    return tuple(Header(name, _bytes(f"header {name!r}", value)) for name, value in given)


def _bytes(what: str, given: object) -> bytes | None:
    """Bytes as they are, text as UTF-8. Raises InvalidRequest for anything else, and for half a character."""
    if given is None or isinstance(given, bytes):
        return given
    if not isinstance(given, str):
        raise InvalidRequest(f"{what} is text or bytes, not {type(given).__name__}")
    try:
        return given.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{what} is no text: {error}") from None


def told_text(text: str) -> str:
    """The beginning of the text of an error, as a broker takes it: half a character is written as its escape."""
    return text[:ERROR_CHARACTERS].encode(errors="backslashreplace").decode()


class Headers(Mapping[str, str | None]):
    """The headers of a record by name, as text; the last value of a name wins. ``pairs`` has all of them as they are."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: tuple[Header, ...] = ()) -> None:
        self.pairs = pairs
        """Every header in its order; names may repeat, and a value may be None."""

    def __getitem__(self, name: str) -> str | None:
        for known, value in reversed(self.pairs):
            if known == name:
                return _text(value)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self.pairs))

    def __len__(self) -> int:
        return len({name for name, _ in self.pairs})

    def __eq__(self, other: object) -> bool:
        return self.pairs == other.pairs if isinstance(other, Headers) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.pairs)

    def __repr__(self) -> str:
        return f"Headers({list(map(tuple, self.pairs))})"

    def get_all(self, name: str) -> list[str | None]:
        """Every value of a name, in order."""
        return [_text(value) for known, value in self.pairs if known == name]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


class Payload:
    """What can be asked of anything that carries a value."""

    __slots__ = ()

    value: bytes | None
    headers: Headers
    timestamp_ms: int

    @property
    def claim(self) -> Claim | None:
        """What the value stands for, where it is kept in a store: see the client's ``payload``. Raises ClaimInvalid."""
        return decoded(self.value) if is_claim(self.headers.pairs) else None

    def text(self) -> str:
        """The value as text; a tombstone is empty. Raises InvalidRequest when it is no UTF-8."""
        try:
            return (self.value or b"").decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"the value is no text: {error}") from None

    @overload
    def json(self) -> Any: ...

    @overload
    def json(self, type: type[T]) -> T: ...

    def json(self, type: Any = Any) -> Any:
        """The value parsed as JSON, as ``type`` where one is given. Raises InvalidRequest."""
        try:
            return msgspec.json.decode(self.value or b"null", type=type)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"the value is not the JSON that is expected: {error}") from None

    @property
    def timestamp(self) -> datetime:
        """The timestamp, in UTC."""
        return datetime.fromtimestamp(self.timestamp_ms / 1_000, UTC)
