"""Messages looked at and changed by id: ``/v1/queues/{queue}/messages``, in any state, dead letters included.

What lives here: peeked messages in JSON and NDJSON; reschedule, promote, cancel, redrive of one. What may not: the rules.
Invariant: looking has no effect.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, Raw, UnsetType

from logbroker.broker.services import Services
from logbroker.errors import InvalidRequest, MessageNotFound
from logbroker.http_api.errors import REQUEST_ID
from logbroker.http_api.filters import FilterText, compiled
from logbroker.http_api.paging import PageQuery
from logbroker.http_api.payloads import Encoding, HeaderPair, RecordIn, Timestamp, to_payload, to_record
from logbroker.http_api.queue_payloads import DelayMs
from logbroker.http_api.queues import queue_in
from logbroker.http_api.requests import JSON, NDJSON, NoQuery, accepts, decode_json, json_answer, read_body, read_json
from logbroker.model import StoredRecord
from logbroker.queues.copies import Edit
from logbroker.queues.dispatcher import Dispatcher
from logbroker.queues.dispatcher.peeking import Cursor
from logbroker.queues.peeks import MessageState, Peeked, PeekFilter
from logbroker.queues.positions import MessageId

State = Literal["ready", "in_flight", "delayed", "retrying", "dead"]
_LINES_PER_WRITE = 100


class PeekQuery(PageQuery, frozen=True):
    """Which messages: of a state, and that match every filter given."""

    state: State = "ready"
    key: Annotated[str | UnsetType, Meta(description="Only with this key.")] = UNSET
    header: Annotated[str | UnsetType, Meta(description="name=value: only with this header.")] = UNSET
    reason: Annotated[str | UnsetType, Meta(description="Only moved for this reason, as max_attempts.")] = UNSET
    error: Annotated[str | UnsetType, Meta(description="Only whose last error contains this.")] = UNSET
    filter: FilterText | UnsetType = UNSET
    encoding: Encoding = "auto"


class MessageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to write one message."""

    encoding: Encoding = "auto"


class HappenedOut(msgspec.Struct):
    """How often something happened to a message, first and last."""

    queue: str
    reason: str
    count: int
    first_ms: int
    last_ms: int


class PeekedOut(msgspec.Struct, gc=False):
    """A message. ``position`` says where it stands: s, r or d for the queue's topic, its retry or dead-letter topic."""

    id: str
    state: str
    position: str
    priority: int
    deliveries: int
    failures: int
    timestamp_ms: int
    partition: int
    offset: int | None
    due_ms: int | None = None
    consumer: str | None = None
    receipt_expires_ms: int | None = None
    reason: str | None = None
    first_error: str | None = None
    last_error: str | None = None
    redriven: int = 0
    history: list[HappenedOut] = []
    key: str | UnsetType | None = UNSET
    key_json: Raw | UnsetType = UNSET
    key_b64: bytes | UnsetType = UNSET
    headers: list[HeaderPair] = []
    value: str | UnsetType | None = UNSET
    value_json: Raw | UnsetType = UNSET
    value_b64: bytes | UnsetType = UNSET


class PeekOut(msgspec.Struct):
    """A page; one that is short, or empty, is not the last unless there is no token."""

    items: list[PeekedOut]
    next_page_token: str | None


class RescheduleIn(msgspec.Struct, forbid_unknown_fields=True):
    """When to deliver it: exactly one of the fields."""

    deliver_at_ms: Timestamp | UnsetType = UNSET
    delay_ms: DelayMs | UnsetType = UNSET


class RedriveOneIn(msgspec.Struct, forbid_unknown_fields=True):
    """What to change of a dead letter before it is sent back; what is left out stays."""

    value: str | UnsetType | None = UNSET
    value_json: Raw | UnsetType = UNSET
    value_b64: bytes | UnsetType = UNSET
    headers: list[HeaderPair] | UnsetType = UNSET


class CancelledOut(msgspec.Struct):
    """What became of the wish."""

    outcome: Literal["cancelled", "already_delivered"]


_reschedule_decoder = msgspec.json.Decoder(RescheduleIn)
_redrive_decoder = msgspec.json.Decoder(RedriveOneIn)
_encoder = msgspec.json.Encoder()


async def list_messages(services: Services, request: web.Request, query: PeekQuery) -> web.StreamResponse:
    """Look at messages in a state; as NDJSON all of them."""
    queue = queue_in(services, request)
    after = Cursor() if query.page_token is UNSET else cursor_from(query.page_token)
    if accepts(request, JSON, NDJSON) == NDJSON:
        return await _exported(request, queue, query, after)
    page = await queue.peek.page(MessageState(query.state), after, query.page_size, filter_of(query))
    items = [peeked_out(one, query.encoding) for one in page.items]
    return json_answer(PeekOut(items, None if page.next is None else cursor_token(page.next)))


async def _exported(request: web.Request, queue: Dispatcher, query: PeekQuery, after: Cursor) -> web.StreamResponse:
    wanted = filter_of(query)
    answer = web.StreamResponse(headers={"Content-Type": NDJSON, "X-Request-Id": request[REQUEST_ID]})
    await answer.prepare(request)
    lines: list[bytes] = []
    async for _, message in queue.peek.walk(MessageState(query.state), after):
        if message is not None and await queue.peek.wants(wanted, message):
            lines.append(_encoder.encode(peeked_out(message, query.encoding)) + b"\n")
        if len(lines) >= _LINES_PER_WRITE:
            await answer.write(b"".join(lines))
            lines.clear()
    await answer.write(b"".join(lines))
    await answer.write_eof()
    return answer


async def get_message(services: Services, request: web.Request, query: MessageQuery) -> web.Response:
    """Look at one message."""
    queue, message_id = _named(services, request)
    return json_answer(peeked_out(await queue.peek.one(message_id), query.encoding))


async def cancel_message(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Take back a message that was not delivered."""
    queue, message_id = _named(services, request)
    return json_answer(CancelledOut((await queue.cancel(message_id)).value))


async def patch_message(services: Services, request: web.Request, query: MessageQuery) -> web.Response:
    """Deliver a message that waits at another time."""
    queue, message_id = _named(services, request)
    wanted = await read_json(request, _reschedule_decoder)
    if (wanted.deliver_at_ms is UNSET) == (wanted.delay_ms is UNSET):
        raise InvalidRequest("give one of deliver_at_ms and delay_ms")
    now_ms = services.clock.now().wall_ms
    due_ms = wanted.deliver_at_ms if wanted.delay_ms is UNSET else now_ms + wanted.delay_ms
    assert due_ms is not UNSET, "one of the two is given"
    await queue.reschedule(message_id, due_ms)
    return json_answer(peeked_out(await queue.peek.one(message_id), query.encoding))


async def promote_message(services: Services, request: web.Request, query: MessageQuery) -> web.Response:
    """Deliver a message that waits now."""
    queue, message_id = _named(services, request)
    await queue.reschedule(message_id, services.clock.now().wall_ms)
    return json_answer(peeked_out(await queue.peek.one(message_id), query.encoding))


async def redrive_message(services: Services, request: web.Request, query: MessageQuery) -> web.Response:
    """Send a dead letter back, edited if so wished; it goes behind newer messages of its key."""
    queue, message_id = _named(services, request)
    body = await read_body(request)
    wanted = decode_json(_redrive_decoder, body) if body else RedriveOneIn()
    await queue.letters.redrive_one(message_id, _edit(wanted))
    return json_answer(peeked_out(await queue.peek.one(message_id), query.encoding))


def _edit(given: RedriveOneIn) -> Edit | None:
    values = (given.value, given.value_json, given.value_b64)
    if all(value is UNSET for value in values) and given.headers is UNSET:
        return None
    headers = None if given.headers is UNSET else to_record(RecordIn(value=None, headers=given.headers), 0).headers
    if all(value is UNSET for value in values):
        return Edit(headers=headers)
    value = to_record(RecordIn(*values), 0).value
    if value is None:
        raise InvalidRequest("the value of a dead letter cannot be edited to null: leave it out to keep it", field="value")
    return Edit(value, headers)


def _named(services: Services, request: web.Request) -> tuple[Dispatcher, MessageId]:
    """Queue and message of the path. Raises QueueNotFound, MessageNotFound."""
    queue = queue_in(services, request)
    message_id = MessageId.parse(request.match_info["id"])
    queue.partition_of(message_id)
    if message_id.first.offset >= 2**63:
        raise MessageNotFound(f"there is no message {message_id}")
    return queue, message_id


def filter_of(query: PeekQuery) -> PeekFilter:
    """Which messages are meant. Raises InvalidRequest."""
    headers: dict[str, bytes] | None = None
    if query.header is not UNSET:
        name, equals, value = query.header.partition("=")
        if not equals:
            raise InvalidRequest("query parameter header: give name=value")
        headers = {name: value.encode()}
    return PeekFilter(
        None if query.key is UNSET else query.key.encode(),
        headers,
        None if query.reason is UNSET else query.reason,
        None if query.error is UNSET else query.error,
        expression=compiled(query.filter),
    )


def peeked_out(message: Peeked, encoding: Encoding) -> PeekedOut:
    """A message as it is written in JSON."""
    record = StoredRecord(0, message.timestamp_ms, message.record.key, message.record.value, message.headers)
    payload = to_payload(message.id.partition, record, encoding)
    return PeekedOut(
        id=str(message.id),
        state=message.state.value,
        position=str(message.position),
        priority=message.priority,
        deliveries=message.deliveries,
        failures=message.failures,
        timestamp_ms=message.timestamp_ms,
        partition=message.id.partition,
        offset=message.id.first.offset if message.id.first.source == 0 else None,
        due_ms=message.due_ms,
        consumer=message.consumer,
        receipt_expires_ms=message.lease_ends_ms,
        reason=message.reason,
        first_error=message.first_error,
        last_error=message.last_error,
        redriven=0 if message.copy is None else message.copy.redriven,
        history=[HappenedOut(*_fields(one)) for one in message.history],
        key=payload.key,
        key_json=payload.key_json,
        key_b64=payload.key_b64,
        headers=[] if payload.headers is UNSET else payload.headers,
        value=payload.value,
        value_json=payload.value_json,
        value_b64=payload.value_b64,
    )


def _fields(line: msgspec.Struct) -> Sequence[Any]:
    return msgspec.structs.astuple(line)


def cursor_token(cursor: Cursor) -> str:
    """The token of the page that begins there."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def cursor_from(token: str) -> Cursor:
    """Where the page of a token begins. Raises InvalidRequest."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=Cursor)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise InvalidRequest("page_token is not one that was given") from None
