"""``GET /v1/subscriptions/{subscription}/stream``: deliveries that go on by themselves, as NDJSON or Server-Sent Events.

What lives here: how deliveries are written one after the other. What may not: how many there may be (the stream's).
Invariants: what is written is leased to the client, which settles it by the other routes; a client that leaves, or does not
read, holds at most ``max_outstanding`` messages, and those come back at once, uncounted, when its connection ends.
"""

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.services import Services
from logbroker.errors import LogbrokerError
from logbroker.http_api.errors import REQUEST_ID, entry
from logbroker.http_api.payloads import Encoding
from logbroker.http_api.queue_messages import ANONYMOUS, LeaseMs
from logbroker.http_api.queue_payloads import MessageOut, message_out
from logbroker.http_api.queues import queue_in
from logbroker.http_api.requests import NDJSON, accepts
from logbroker.http_api.tail import EVENT_STREAM
from logbroker.queues.dispatcher import Stream

KEEP_ALIVE_S = 15.0

_encoder = msgspec.json.Encoder()


class StreamQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much to deliver, to whom, and for how long it is leased."""

    max_outstanding: Annotated[
        int, Meta(ge=1, le=10_000, description="At most so many deliveries that are not settled.")
    ] = 100
    consumer: Annotated[str, Meta(min_length=1, max_length=255)] = ANONYMOUS
    visibility_timeout_ms: LeaseMs | UnsetType = UNSET
    encoding: Encoding = "auto"


async def stream(services: Services, request: web.Request, query: StreamQuery) -> web.StreamResponse:
    """Deliver messages as they come; settle them by the other routes."""
    lease_ms = None if query.visibility_timeout_ms is UNSET else query.visibility_timeout_ms
    following = Stream(queue_in(services, request), query.consumer, query.max_outstanding, lease_ms)
    media = accepts(request, NDJSON, EVENT_STREAM)
    headers = {"Content-Type": media, "X-Request-Id": request[REQUEST_ID], "Cache-Control": "no-store"}
    answer = web.StreamResponse(headers=headers)
    try:
        await answer.prepare(request)
        await _write(answer, following, query.encoding, sse=media == EVENT_STREAM)
        await answer.write_eof()
    except ConnectionError:
        pass
    finally:
        await following.give_back()
    return answer


async def _write(answer: web.StreamResponse, following: Stream, encoding: Encoding, *, sse: bool) -> None:
    form = _event if sse else _line
    try:
        while not following.is_over:
            received = await following.next(KEEP_ALIVE_S)
            text = b"".join(form(message_out(one, encoding)) for one in received)
            if text or sse:
                await answer.write(text or b": keep-alive\n\n")
    except LogbrokerError as error:
        text = _encoder.encode({"error": entry(error)})
        await answer.write(b"event: error\ndata: " + text + b"\n\n" if sse else text + b"\n")


def _event(message: MessageOut) -> bytes:
    return b"id: %s\ndata: %s\n\n" % (message.id.encode(), _encoder.encode(message))


def _line(message: MessageOut) -> bytes:
    return _encoder.encode(message) + b"\n"
