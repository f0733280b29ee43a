"""Request-reply over HTTP: ``:request``, ``:serve`` and ``/v1/replies/{token}``.

What lives here: bodies to requests and replies, and back. What may not: who waits for whom.
Invariant: a serve whose client has left before the answer was written gives its requests back without counting.
"""

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, Raw, UnsetType

from logbroker.broker.request_reply import Asked, Reply
from logbroker.broker.services import Services
from logbroker.errors import InvalidRequest, UnsupportedMediaType
from logbroker.http_api.fetch import INERT
from logbroker.http_api.payloads import Encoding, HeaderPair, RecordIn, to_payload, to_record
from logbroker.http_api.produce import FORMS, trace_headers
from logbroker.http_api.queue_messages import ANONYMOUS, MAX_MESSAGES, MAX_WAIT_MS, ErrorText, LeaseMs, write_or_give_back
from logbroker.http_api.raw import carried_headers, media_type, raw_record
from logbroker.http_api.requests import (
    JSON,
    NDJSON,
    OCTETS,
    RECORD_BATCH,
    NoQuery,
    accepts,
    decode_json,
    is_json,
    json_answer,
    read_body,
    read_json,
)
from logbroker.model import Header, Record, StoredRecord
from logbroker.queues.dispatcher import Want


class RequestQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long to wait for the reply, and how to write it in JSON."""

    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_WAIT_MS, description="How long to wait for the reply.")] = 30_000
    encoding: Encoding = "auto"


class RequestIn(msgspec.Struct, forbid_unknown_fields=True):
    """A request. Exactly one of value, value_json, value_b64."""

    value: str | UnsetType | None = UNSET
    value_json: Raw | UnsetType = UNSET
    value_b64: bytes | UnsetType = UNSET
    key: str | UnsetType | None = UNSET
    key_json: Raw | UnsetType = UNSET
    key_b64: bytes | UnsetType = UNSET
    headers: list[HeaderPair] | UnsetType = UNSET


class ReplyIn(msgspec.Struct, forbid_unknown_fields=True):
    """A reply: exactly one of value, value_json, value_b64, error."""

    value: str | UnsetType | None = UNSET
    value_json: Raw | UnsetType = UNSET
    value_b64: bytes | UnsetType = UNSET
    headers: list[HeaderPair] | UnsetType = UNSET
    error: ErrorText | UnsetType = UNSET


class ReplyOut(msgspec.Struct):
    """A reply as the requester gets it."""

    headers: list[HeaderPair]
    value: str | UnsetType | None = UNSET
    value_json: Raw | UnsetType = UNSET
    value_b64: bytes | UnsetType = UNSET


class ServeIn(msgspec.Struct, forbid_unknown_fields=True):
    """How many requests, how long to wait for the first, and how long they are leased."""

    max: Annotated[int, Meta(ge=1, le=MAX_MESSAGES)] = 1
    wait_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)] = 0
    visibility_timeout_ms: LeaseMs | UnsetType = UNSET
    consumer: Annotated[str, Meta(min_length=1, max_length=255)] = ANONYMOUS
    encoding: Encoding = "auto"


class AskedOut(msgspec.Struct):
    """A request as a responder gets it: answer at ``/v1/replies/{token}`` before ``deadline_ms``."""

    token: str
    deadline_ms: int
    deliveries: int
    headers: list[HeaderPair]
    key: str | UnsetType | None = UNSET
    key_json: Raw | UnsetType = UNSET
    key_b64: bytes | UnsetType = UNSET
    value: str | UnsetType | None = UNSET
    value_json: Raw | UnsetType = UNSET
    value_b64: bytes | UnsetType = UNSET


class ServeOut(msgspec.Struct):
    """The requests; none when the time was over."""

    requests: list[AskedOut]


_request_decoder = msgspec.json.Decoder(RequestIn)
_reply_decoder = msgspec.json.Decoder(ReplyIn)
_serve_decoder = msgspec.json.Decoder(ServeIn)


async def ask(services: Services, request: web.Request, query: RequestQuery) -> web.Response:
    """Ask a service and wait for its reply."""
    record = await _request_in(services, request)
    reply = await services.request_reply.request(request.match_info["service"], record, query.timeout_ms)
    if accepts(request, OCTETS, JSON) == OCTETS:
        headers = carried_headers(reply.headers)
        headers["Content-Type"] = media_type(reply.headers)
        headers.update(INERT)
        return web.Response(body=reply.value or b"", headers=headers)
    payload = to_payload(0, StoredRecord(0, 0, None, reply.value, reply.headers), query.encoding)
    headers_out = [] if payload.headers is UNSET else payload.headers
    return json_answer(ReplyOut(headers_out, payload.value, payload.value_json, payload.value_b64))


async def _request_in(services: Services, request: web.Request) -> Record:
    now_ms = services.clock.now().wall_ms
    if is_json(request.content_type):
        given = decode_json(_request_decoder, await read_body(request))
        fields = (given.value, given.value_json, given.value_b64, given.key, given.key_json, given.key_b64, given.headers)
        return to_record(RecordIn(*fields), now_ms, trace_headers(request))
    record, partition = await _raw_in(request, trace_headers(request))
    if partition is not None:
        raise InvalidRequest("the partition of a request is chosen by its key")
    return record


async def _raw_in(request: web.Request, common: tuple[Header, ...]) -> tuple[Record, int | None]:
    if request.content_type in (NDJSON, RECORD_BATCH, *FORMS):
        raise UnsupportedMediaType(f"give content-type {JSON} for an envelope, text/plain or {OCTETS} for a body as it is")
    return raw_record(request.headers, await read_body(request), common)


async def serve(services: Services, request: web.Request, query: NoQuery) -> web.StreamResponse:
    """Lease requests of a service, waiting for the first; the first serve makes the service."""
    service = request.match_info["service"]
    wanted = await read_json(request, _serve_decoder)
    want = Want(
        wanted.max, None if wanted.visibility_timeout_ms is UNSET else wanted.visibility_timeout_ms, wanted.consumer
    )
    asked = await services.request_reply.serve(service, want, wanted.wait_ms)
    answer = json_answer(ServeOut([_asked_out(one, wanted.encoding) for one in asked]))
    if asked:
        await write_or_give_back(answer, request, lambda: services.request_reply.give_back(service, asked))
    return answer


def _asked_out(asked: Asked, encoding: Encoding) -> AskedOut:
    received = asked.received
    record = StoredRecord(0, received.timestamp_ms, received.key, received.value, received.headers)
    payload = to_payload(received.partition, record, encoding)
    return AskedOut(
        asked.token,
        asked.deadline_ms,
        received.deliveries,
        [] if payload.headers is UNSET else payload.headers,
        payload.key,
        payload.key_json,
        payload.key_b64,
        payload.value,
        payload.value_json,
        payload.value_b64,
    )


async def reply(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Answer a request by its token."""
    await services.request_reply.reply(request.match_info["token"], await _reply_in(request))
    return web.Response(status=204)


async def _reply_in(request: web.Request) -> Reply:
    if not is_json(request.content_type):
        record, _ = await _raw_in(request, ())
        return Reply(record.value, record.headers)
    given = decode_json(_reply_decoder, await read_body(request))
    if given.error is UNSET:
        record = to_record(RecordIn(given.value, given.value_json, given.value_b64, headers=given.headers), 0)
        return Reply(record.value, record.headers)
    if any(form is not UNSET for form in (given.value, given.value_json, given.value_b64)):
        raise InvalidRequest("give a value or an error, not both")
    return Reply(None, (), given.error)
