"""Request and response headers, and the assembly of a response frame.

    request   api key int16 | api version int16 | correlation id int32 | [v1+] client id nullable string | [v2] tags
    response  correlation id int32 | [v1] tags

What lives here: these two layouts. What may not: bodies.
Invariant: the client id is in the classic encoding even in v2, so that this much of any request can be read, whatever its
version. Header v0, without client id, belonged to the retired ControlledShutdown v0 alone and is not read.
"""

from struct import Struct
from typing import Final, NamedTuple

from logbroker.wire.apis import API_BY_KEY, Api
from logbroker.wire.primitives import Buffer, CompactReader

_FIXED: Final = Struct(">hhih")
_PREFIX: Final = Struct(">ii")


class RequestHeader(NamedTuple):
    """Who asks for what. ``api`` is None for a key that is not in the table."""

    api: Api | None
    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None

    @property
    def is_served(self) -> bool:
        """Whether the body can be decoded and there is a handler."""
        return self.api is not None and self.api.serves(self.api_version)


def read_request_header(frame: memoryview) -> tuple[RequestHeader, memoryview]:
    """Split a frame into its header and its body (a view).

    Raises InvalidRequest where not even the header can be read. For an API or a version outside the table the body may
    still have tagged fields in front: how it is encoded is not known.
    """
    reader = CompactReader(frame)
    key, version, correlation_id, length = reader.unpack(_FIXED)
    client_id = None if length < 0 else reader.text(length)
    api = API_BY_KEY.get(key)
    if api is not None and api.flexible_from <= version <= api.max_version:
        reader.end_struct()
    return RequestHeader(api, key, version, correlation_id, client_id), frame[reader.pos :]


def response_frame(correlation_id: int, header_version: int, body: list[Buffer]) -> list[Buffer]:
    """Put size and header in front of a body given in pieces; only the first piece is copied.

    The pieces are to be written one after the other. ``header_version`` comes from `Api.response_header_version`.
    """
    size = 4 + header_version + sum(map(len, body))
    prefix = _PREFIX.pack(size, correlation_id) + (b"\0" if header_version else b"")
    return [b"".join((prefix, *body[:1])), *body[1:]]
