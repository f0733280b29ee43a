"""``GET /v1/topics/{topic}/tail``: following a topic as Server-Sent Events or NDJSON.

What lives here: the start of a tail and how its events are written. The SSE id is the position vector after the event
(``0:42,1:17``: the next offset of each partition), so ``Last-Event-ID`` resumes exactly there.
"""

from functools import partial
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.positions import format_vector, parse_position, parse_vector, resolve
from logbroker.broker.services import Services
from logbroker.broker.tail import Event, Gap, Tail, Thinning
from logbroker.broker.topics import partition_of
from logbroker.engine.api import Isolation, TopicInfo
from logbroker.errors import InvalidRequest, LogbrokerError
from logbroker.http_api.errors import REQUEST_ID, entry
from logbroker.http_api.fetch import IsolationLevel
from logbroker.http_api.filters import FilterText, compiled
from logbroker.http_api.payloads import Encoding, to_payload
from logbroker.http_api.requests import NDJSON, accepts
from logbroker.model import TopicPartition

EVENT_STREAM = "text/event-stream"
KEEP_ALIVE_MS = 15_000
_FLUSH_BYTES = 64 * 1024

_encoder = msgspec.json.Encoder()


class TailQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Where to start following, and what."""

    from_: Annotated[str, Meta(description="earliest, latest, ts:MILLISECONDS or an offset.")] = "latest"
    partitions: Annotated[
        str | UnsetType, Meta(description="Partition numbers, comma-separated; all of them otherwise.")
    ] = UNSET
    filter: FilterText | UnsetType = UNSET
    max_rate: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType,
        Meta(description="At most this many records a second; what is left out is told as a gap."),
    ] = UNSET
    encoding: Encoding = "auto"
    isolation: IsolationLevel = "read_committed"


async def tail(services: Services, request: web.Request, query: TailQuery) -> web.StreamResponse:
    """Follow a topic."""
    info = services.topics.get(request.match_info["topic"])
    wanted = compiled(query.filter)
    positions = await _positions(services, request, info, query)
    media = accepts(request, EVENT_STREAM, NDJSON)
    max_rate = None if query.max_rate is UNSET else query.max_rate
    select = None if wanted is None else partial(services.filtering.select, wanted)
    thinning = Thinning(max_rate, select, Isolation[query.isolation.upper()])
    following = Tail(services.engine, services.waiting, services.clock, info.name, positions, thinning)
    headers = {"Content-Type": media, "X-Request-Id": request[REQUEST_ID], "Cache-Control": "no-store"}
    answer = web.StreamResponse(headers=headers)
    await answer.prepare(request)
    try:
        await _write(answer, following, query.encoding, sse=media == EVENT_STREAM)
        await answer.write_eof()
    except ConnectionError:
        pass
    return answer


async def _write(answer: web.StreamResponse, following: Tail, encoding: Encoding, *, sse: bool) -> None:
    """Write events as they come, many at once where many are there."""
    form = _sse if sse else _line
    pending: list[bytes] = []
    size = 0
    try:
        async for events in following.events(KEEP_ALIVE_MS):
            if not events and sse:
                pending.append(b": keep-alive\n\n")
            for event in events:
                text = form(event, following.advance(event), encoding)
                pending.append(text)
                size += len(text)
                if size >= _FLUSH_BYTES:
                    await answer.write(b"".join(pending))
                    pending, size = [], 0
            if pending:
                await answer.write(b"".join(pending))
                pending, size = [], 0
    except LogbrokerError as error:
        text = _encoder.encode({"error": entry(error)})
        await answer.write(b"event: error\ndata: " + text + b"\n\n" if sse else text + b"\n")


def _sse(event: Event, positions: dict[int, int], encoding: Encoding) -> bytes:
    name = b"event: gap\n" if isinstance(event, Gap) else b""
    return b"%sid: %s\ndata: %s\n\n" % (name, format_vector(positions).encode(), _encoder.encode(_body(event, encoding)))


def _line(event: Event, positions: dict[int, int], encoding: Encoding) -> bytes:
    body = _body(event, encoding)
    return _encoder.encode({"gap": body} if isinstance(event, Gap) else body) + b"\n"


def _body(event: Event, encoding: Encoding) -> Any:
    return event._asdict() if isinstance(event, Gap) else to_payload(event.partition, event.record, encoding)


# -- where to start --------------------------------------------------------------------------------------------------


async def _positions(services: Services, request: web.Request, info: TopicInfo, query: TailQuery) -> dict[int, int]:
    """The next offset of each partition that is followed: from Last-Event-ID where it names them, else from ``from``."""
    start = parse_position(query.from_)
    resumed = parse_vector(last) if (last := request.headers.get("Last-Event-ID")) else {}
    partitions = partitions_in(info, query.partitions)
    for partition in resumed:
        partition_of(info, partition)
    positions: dict[int, int] = {}
    for partition in partitions:
        if partition in resumed:
            positions[partition] = resumed[partition]
        else:
            where = TopicPartition(info.name, partition)
            positions[partition] = await resolve(services.engine, where, start, Isolation[query.isolation.upper()])
    return positions


def partitions_in(info: TopicInfo, given: str | UnsetType) -> list[int]:
    """The partitions of a query, all of them without one. Raises InvalidRequest, UnknownTopicOrPartition."""
    if given is UNSET:
        return list(range(info.partitions))
    numbers = given.split(",")
    if not all(number.isascii() and number.isdigit() and len(number) <= 10 for number in numbers):
        raise InvalidRequest(f"partitions={given[:80]!r} is not a list of numbers such as 0,2")
    return sorted({partition_of(info, int(number)).partition for number in numbers})
