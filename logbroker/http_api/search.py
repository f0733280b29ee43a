"""``GET /v1/topics/{topic}/search``: what matches in a range, as NDJSON or Server-Sent Events, with a cursor to go on.

What lives here: queries to ranges and filters, cursors, and how events are written. What may not: the search itself.
Invariant: the cursor of an event names exactly what was not looked at when it was written; it goes with the topic, the
direction and the filter that it was given for.
"""

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.positions import end_of, parse_position, resolve
from logbroker.broker.search import Ended, Event, Found, Left, Reach, Search
from logbroker.broker.services import Services
from logbroker.config import MIB
from logbroker.engine.api import Isolation, TopicInfo
from logbroker.errors import InvalidRequest, LogbrokerError
from logbroker.filters import compile_filter
from logbroker.filters.shorthand import combined
from logbroker.http_api.errors import REQUEST_ID, entry
from logbroker.http_api.filters import FilterText
from logbroker.http_api.payloads import Encoding, RecordOut, to_payload
from logbroker.http_api.requests import NDJSON, accepts
from logbroker.http_api.tail import EVENT_STREAM, partitions_in
from logbroker.model import TopicPartition

MAX_LIMIT = 10_000
MAX_PARTITIONS = 256
"""So that a cursor fits into a query."""
_MAX_CURSOR_BYTES = 64 * 1024

_encoder = msgspec.json.Encoder()


class SearchQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """What to look for, where, and how far; ``cursor`` goes on where a search has stopped."""

    from_: Annotated[
        str | UnsetType, Meta(description="Where the range starts: earliest (the default), latest, ts:N or an offset.")
    ] = UNSET
    to: Annotated[str | UnsetType, Meta(description="Where it ends, exclusive; the end as it is now by default.")] = UNSET
    partitions: Annotated[
        str | UnsetType, Meta(description="Partition numbers, comma-separated; all of them otherwise.")
    ] = UNSET
    filter: FilterText | UnsetType = UNSET
    key: Annotated[str | UnsetType, Meta(description="Only with this key.")] = UNSET
    header: Annotated[str | UnsetType, Meta(description="name=value: only with this header.")] = UNSET
    direction: Literal["forward", "back"] = "forward"
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="The most records found.")] = 100
    budget_bytes: Annotated[
        int, Meta(ge=1, le=1 << 40, description="About how many bytes of keys and values to look at.")
    ] = 64 * MIB
    cursor: Annotated[str | UnsetType, Meta(description="Go on; with the same filter and direction.")] = UNSET
    encoding: Encoding = "auto"


class ProgressOut(msgspec.Struct):
    """How far a search is. ``cursor`` goes on from here."""

    matched: int
    scanned: int
    scanned_bytes: int
    trimmed: int
    offsets_left: int
    cursor: str | None


class EndOut(ProgressOut):
    """Where a search stops; ``complete`` when there is nothing left to look at."""

    complete: bool
    reason: Literal["complete", "limit", "budget", "stopping"]


class SearchLine(msgspec.Struct):
    """A line that is no record: progress, or the end."""

    progress: ProgressOut | UnsetType = UNSET
    end: EndOut | UnsetType = UNSET


SearchOut = (RecordOut, SearchLine)


class _Cursor(msgspec.Struct, array_like=True):
    """What is left of a search, and of which one."""

    search: int
    left: dict[int, tuple[int, int]]


async def search(services: Services, request: web.Request, query: SearchQuery) -> web.StreamResponse:
    """Search a topic."""
    info = services.topics.get(request.match_info["topic"])
    text = _text(query)
    wanted = None if text is None else compile_filter(text)
    which = zlib.crc32(repr((str(info.id), query.direction, text)).encode())
    left = await _range(services, info, query) if query.cursor is UNSET else _left(query, which, info)
    searching = Search(services.filtering, services.waiting, info.name, wanted, query.direction, left)
    media = accepts(request, NDJSON, EVENT_STREAM)
    answer = web.StreamResponse(
        headers={"Content-Type": media, "X-Request-Id": request[REQUEST_ID], "Cache-Control": "no-store"}
    )
    await answer.prepare(request)
    try:
        await _write(request, answer, searching, query, which)
        await answer.write_eof()
    except ConnectionError:
        pass
    return answer


async def _write(
    request: web.Request, answer: web.StreamResponse, searching: Search, query: SearchQuery, which: int
) -> None:
    form = _sse if answer.content_type == EVENT_STREAM else _line
    try:
        async for events in searching.events(Reach(query.limit, query.budget_bytes)):
            if request.transport is None or request.transport.is_closing():
                return
            if events:
                await answer.write(b"".join(form(*_told(event, searching.left, which, query.encoding)) for event in events))
    except LogbrokerError as error:
        await answer.write(form("error", entry(error)))


def _told(event: Event, left: Left, which: int, encoding: Encoding) -> tuple[str, Any]:
    if isinstance(event, Found):
        return "", to_payload(event.partition, event.record, encoding)
    cursor = _token(_Cursor(which, left)) if left else None
    if isinstance(event, Ended):
        return "end", EndOut(*event.progress, cursor, event.reason == "complete", event.reason)
    return "progress", ProgressOut(*event, cursor)


def _sse(name: str, body: Any) -> bytes:
    return (b"event: %s\n" % name.encode() if name else b"") + b"data: %s\n\n" % _encoder.encode(body)


def _line(name: str, body: Any) -> bytes:
    return _encoder.encode({name: body} if name else body) + b"\n"


# -- where and what --------------------------------------------------------------------------------------------------


def _text(query: SearchQuery) -> str | None:
    headers: list[tuple[str, str]] = []
    if query.header is not UNSET:
        name, equals, value = query.header.partition("=")
        if not equals:
            raise InvalidRequest("query parameter header: give name=value")
        headers.append((name, value))
    return combined(None if query.filter is UNSET else query.filter, None if query.key is UNSET else query.key, headers)


async def _range(services: Services, info: TopicInfo, query: SearchQuery) -> Left:
    """The offsets meant in each partition, within what can be read now."""
    start = parse_position("earliest" if query.from_ is UNSET else query.from_)
    stop = parse_position("latest" if query.to is UNSET else query.to)
    left: Left = {}
    for number in _few(partitions_in(info, query.partitions)):
        where = TopicPartition(info.name, number)
        end = await end_of(services.engine, where, Isolation.READ_COMMITTED)
        low = await resolve(services.engine, where, start, Isolation.READ_COMMITTED)
        high = await resolve(services.engine, where, stop, Isolation.READ_COMMITTED)
        first = (await services.engine.bounds(where)).log_start_offset
        left[number] = max(low, first), min(high, end)
    return left


def _few(partitions: Sequence[int]) -> Sequence[int]:
    if len(partitions) > MAX_PARTITIONS:
        raise InvalidRequest(f"a search takes at most {MAX_PARTITIONS} partitions: name some, as partitions=0,1,2")
    return partitions


def _left(query: SearchQuery, which: int, info: TopicInfo) -> Left:
    assert query.cursor is not UNSET, "asked only then"
    if not (query.from_ is UNSET and query.to is UNSET and query.partitions is UNSET):
        raise InvalidRequest("a cursor says where to go on: leave from, to and partitions out")
    cursor = _cursor(query.cursor)
    if cursor.search != which:
        raise InvalidRequest("the cursor is of another search: repeat its topic, direction, filter, key and header")
    if not all(0 <= number < info.partitions and low >= 0 for number, (low, _) in cursor.left.items()):
        raise InvalidRequest("cursor is not one that was given")
    return cursor.left


def _token(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(zlib.compress(msgspec.json.encode(cursor))).decode().rstrip("=")


def _cursor(token: str) -> _Cursor:
    try:
        packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        return msgspec.json.decode(zlib.decompressobj().decompress(packed, _MAX_CURSOR_BYTES), type=_Cursor)
    except (binascii.Error, ValueError, zlib.error, msgspec.MsgspecError):
        raise InvalidRequest("cursor is not one that was given") from None
