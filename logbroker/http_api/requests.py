"""Reading requests and writing answers: bodies, queries, path segments, ETags.

What lives here: what every handler does at its edges. What may not: any resource. Invariant: bad input becomes
InvalidRequest with a JSON pointer where there is one; nothing of a body is believed before msgspec has checked it.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from logbroker.broker.in_flight import InFlight
from logbroker.broker.topics import Guard
from logbroker.engine.api import TopicInfo
from logbroker.errors import InvalidRequest, MessageTooLarge, PreconditionFailed, UnsupportedMediaType

T = TypeVar("T")

JSON = "application/json"
NDJSON = "application/x-ndjson"
RECORD_BATCH = "application/vnd.logbroker.recordbatch"
OCTETS = "application/octet-stream"

encode = msgspec.json.Encoder().encode
IN_FLIGHT = web.AppKey("in_flight", InFlight)
"""Where bodies are accounted."""
REQUEST_TIMEOUT_S = web.AppKey("request_timeout_s", float)
HELD = web.RequestKey("held", int)
"""The bytes of the body that are accounted; whoever serves the request gives them back."""
_SLOWEST = 1024
"""Bytes a second: a body that comes at least so fast is waited for."""
_AT = re.compile(r"^(.*?)(?: - at `(.*)`)?$", re.DOTALL)


class NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A resource that takes no query parameters."""


# -- bodies ----------------------------------------------------------------------------------------------------------


def is_json(content_type: str) -> bool:
    """Whether a media type means JSON."""
    return content_type == JSON or content_type.endswith("+json")


async def read_body(request: web.Request) -> bytes:
    """The whole body.

    Raises MessageTooLarge above ``max_request_bytes``, InvalidRequest when it does not come in time, Throttled when all
    requests together take too much memory.
    """
    length, limit = request.content_length, request.client_max_size
    if length is not None and length > limit:
        raise MessageTooLarge(f"the body has {length} bytes; max_request_bytes is {limit}")
    if request.content.is_eof():
        return await request.read()  # it came together with the header
    in_flight, pieces, size = request.app[IN_FLIGHT], list[bytes](), 0
    try:
        async with asyncio.timeout(request.app[REQUEST_TIMEOUT_S]) as patience:
            first_deadline = patience.when() or 0.0
            while piece := await request.content.readany():
                in_flight.take(len(piece))
                size += len(piece)
                request[HELD] = size
                if size > limit:
                    raise MessageTooLarge(f"the body has more than {limit} bytes, which is max_request_bytes")
                pieces.append(piece)
                patience.reschedule(first_deadline + size / _SLOWEST)
    except TimeoutError:
        raise InvalidRequest(f"the body did not come in request_timeout_ms, only {size} bytes of it") from None
    return b"".join(pieces)


async def read_json(request: web.Request, decoder: "msgspec.json.Decoder[T]") -> T:
    """The body as the decoder's type. Raises InvalidRequest, UnsupportedMediaType, MessageTooLarge."""
    if not is_json(request.content_type):
        raise UnsupportedMediaType(f"give the body as content-type: {JSON}, not {request.content_type}")
    return decode_json(decoder, await read_body(request))


def decode_json(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """``body`` decoded and checked. Raises InvalidRequest naming the place."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None


def invalid(error: msgspec.ValidationError) -> InvalidRequest:
    """msgspec's complaint with its path as a JSON pointer."""
    match = _AT.match(str(error))
    assert match is not None, "the pattern matches any text"
    detail, path = match[1], match[2] or "$"
    pointer = "#" + re.sub(r"\[(\d+|\.\.\.)\]", r"/\1", path.removeprefix("$").replace(".", "/"))
    return InvalidRequest(f"{detail}, at {pointer}", errors=[{"pointer": pointer, "detail": detail}])


# -- queries and paths -----------------------------------------------------------------------------------------------


def query_reader(kind: type[T]) -> Callable[[web.Request], T]:
    """A function that reads a request's query as ``kind``, whose defaults stand for an empty query where they can."""
    try:
        default: T | None = msgspec.convert({}, kind)
    except msgspec.ValidationError:
        default = None

    def read(request: web.Request) -> T:
        if default is not None and not request.query_string:
            return default
        given = request.query
        values = dict(given)
        if len(values) != len(given):
            raise InvalidRequest("a query parameter is given twice")
        try:
            return msgspec.convert(values, kind, strict=False)
        except msgspec.ValidationError as error:
            raise _invalid_query(error) from None

    return read


def _invalid_query(error: msgspec.ValidationError) -> InvalidRequest:
    refused = invalid(error)
    name = refused.fields["errors"][0]["pointer"].removeprefix("#/")
    return InvalidRequest(f"query parameter {name}: {refused.fields['errors'][0]['detail']}" if name != "#" else str(error))


def number_in_path(request: web.Request, name: str) -> int:
    """A path segment that is a number. Raises InvalidRequest."""
    text = request.match_info[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < 2**63):
        raise InvalidRequest(f"{name} {text[:40]!r} is not a number from 0 to 2^63 - 1")
    return int(text)


def accepts(request: web.Request, *offered: str) -> str:
    """The offered media type the client named first, else the first offered."""
    accept = request.headers.get("Accept")
    if accept is None:
        return offered[0]
    for part in accept.split(","):
        media = part.partition(";")[0].strip().lower()
        if media in offered:
            return media
    return offered[0]


# -- answers ---------------------------------------------------------------------------------------------------------


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(body=encode(body), status=status, content_type=JSON, headers=headers)


def etag(info: TopicInfo) -> str:
    """The entity tag of a topic's declaration."""
    declared = repr((info.id, info.partitions, sorted(info.overrides.items())))
    return f'"{hashlib.sha256(declared.encode()).hexdigest()[:16]}"'


def tag_in(request: web.Request) -> str | None:
    """The tag in If-Match, without its quotes."""
    wanted = request.headers.get("If-Match")
    return None if wanted is None else wanted.strip().removeprefix("W/").strip('"')


def if_match(request: web.Request) -> Guard | None:
    """A guard that lets a topic pass whose tag If-Match names; None without that header."""
    wanted = request.headers.get("If-Match")
    if wanted is None:
        return None
    tags = {tag.strip() for tag in wanted.split(",")}

    def guard(info: TopicInfo) -> None:
        if "*" not in tags and etag(info) not in tags:
            raise PreconditionFailed(f"topic {info.name!r} was changed since: its tag is {etag(info)}", topic=info.name)

    return guard
