"""The verbs of producers and consumers of a queue: send, receive, ack, nack, reject, release, extend.

What lives here: bodies to entries, and outcomes to answers. What may not: the rules, which are the queue's own.
Invariant: a receive whose client has left before the answer was written gives its messages back without counting.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.claims import claiming
from logbroker.broker.services import Services
from logbroker.errors import InvalidRequest, LogbrokerError, UnsupportedMediaType
from logbroker.http_api.errors import REQUEST_ID, entry
from logbroker.http_api.objects import body_or_claim
from logbroker.http_api.payloads import Encoding
from logbroker.http_api.produce import FORMS, trace_headers
from logbroker.http_api.queue_payloads import (
    DelayMs,
    MessageOut,
    SendIn,
    SendResult,
    message_out,
    messages_of,
    raw_message,
    send_result,
)
from logbroker.http_api.queues import queue_in
from logbroker.http_api.requests import (
    JSON,
    NDJSON,
    OCTETS,
    RECORD_BATCH,
    NoQuery,
    decode_json,
    is_json,
    json_answer,
    read_body,
    read_json,
)
from logbroker.queues.dispatcher import Want
from logbroker.queues.positions import Receipt
from logbroker.queues.rules import MAX_LEASE_MS
from logbroker.queues.settings import MIN_LEASE_MS

MAX_MESSAGES = 1_000
MAX_ENTRIES = 10_000
MAX_WAIT_MS = 60_000
ANONYMOUS = "anonymous"

LeaseMs = Annotated[int, Meta(ge=MIN_LEASE_MS, le=MAX_LEASE_MS)]
ErrorText = Annotated[str, Meta(max_length=64 * 1024, description="Kept (the first 4 KiB) and shown.")]
ReceiptText = Annotated[str, Meta(max_length=200)]


class SendOut(msgspec.Struct):
    """One result for each message, in order."""

    results: list[SendResult]


class ReceiveIn(msgspec.Struct, forbid_unknown_fields=True):
    """How many messages, how long to wait for the first, and how long they are leased."""

    max: Annotated[int, Meta(ge=1, le=MAX_MESSAGES)] = 1
    wait_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)] = 0
    visibility_timeout_ms: LeaseMs | UnsetType = UNSET
    consumer: Annotated[str, Meta(min_length=1, max_length=255)] = ANONYMOUS
    receive_attempt_id: Annotated[str, Meta(min_length=1, max_length=128)] | UnsetType = UNSET
    encoding: Encoding = "auto"


class ReceiveOut(msgspec.Struct):
    """The messages; none when the time was over."""

    messages: list[MessageOut]


class ReceiptsIn(msgspec.Struct, forbid_unknown_fields=True):
    """Receipts of deliveries."""

    receipts: Annotated[list[ReceiptText], Meta(max_length=MAX_ENTRIES)]


class NackEntry(msgspec.Struct, forbid_unknown_fields=True):
    """A delivery that failed; without ``delay_ms`` the message comes back by the queue's policy."""

    receipt: ReceiptText
    delay_ms: DelayMs | UnsetType = UNSET
    error: ErrorText | UnsetType | None = UNSET


class NackIn(msgspec.Struct, forbid_unknown_fields=True):
    """Deliveries that failed."""

    entries: Annotated[list[NackEntry], Meta(max_length=MAX_ENTRIES)]


class RejectEntry(msgspec.Struct, forbid_unknown_fields=True):
    """A message that will never succeed, and why."""

    receipt: ReceiptText
    reason: ErrorText = ""


class RejectIn(msgspec.Struct, forbid_unknown_fields=True):
    """Messages for the dead letters."""

    entries: Annotated[list[RejectEntry], Meta(max_length=MAX_ENTRIES)]


class ExtendEntry(msgspec.Struct, forbid_unknown_fields=True):
    """A delivery, and how long from now its lease is to last; 0 gives the message back without counting."""

    receipt: ReceiptText
    visibility_timeout_ms: Annotated[int, Meta(ge=0, le=MAX_LEASE_MS)]


class ExtendIn(msgspec.Struct, forbid_unknown_fields=True):
    """Leases to be made longer, or shorter."""

    entries: Annotated[list[ExtendEntry], Meta(max_length=MAX_ENTRIES)]


class SettleResult(msgspec.Struct, gc=False, omit_defaults=True):
    """What became of one entry; without ``error`` it was done."""

    index: int
    receipt_expires_ms: int | UnsetType = UNSET
    error: dict[str, Any] | UnsetType = UNSET


class SettleOut(msgspec.Struct):
    """One result for each entry, in order."""

    results: list[SettleResult]


_send_decoder = msgspec.json.Decoder(SendIn)
_receive_decoder = msgspec.json.Decoder(ReceiveIn)
_receipts_decoder = msgspec.json.Decoder(ReceiptsIn)
_nack_decoder = msgspec.json.Decoder(NackIn)
_reject_decoder = msgspec.json.Decoder(RejectIn)
_extend_decoder = msgspec.json.Decoder(ExtendIn)


async def send(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Send messages to a queue."""
    queue = queue_in(services, request)
    now_ms = services.clock.now().wall_ms
    content_type = request.content_type
    if is_json(content_type):
        given = decode_json(_send_decoder, await read_body(request))
        messages = messages_of(given, now_ms, trace_headers(request))
    elif content_type in (NDJSON, RECORD_BATCH, *FORMS):
        raise UnsupportedMediaType(f"give content-type {JSON} for messages, text/plain or {OCTETS} for one as it is")
    else:
        headers, body, claim = await body_or_claim(services, request)
        message = raw_message(headers, body, now_ms, trace_headers(request))
        messages = [message if claim is None else message._replace(record=claiming(message.record, claim))]
    outcomes = await services.queue_sends.send(queue.definition.name, messages)
    results = [send_result(index, outcome) for index, outcome in enumerate(outcomes)]
    return json_answer(SendOut(results), _status(outcomes))


async def receive(services: Services, request: web.Request, query: NoQuery) -> web.StreamResponse:
    """Lease messages, waiting for the first."""
    queue = queue_in(services, request)
    wanted = await read_json(request, _receive_decoder)
    want = Want(
        wanted.max,
        None if wanted.visibility_timeout_ms is UNSET else wanted.visibility_timeout_ms,
        wanted.consumer,
        None if wanted.receive_attempt_id is UNSET else wanted.receive_attempt_id,
    )
    received = await queue.receive(want, wanted.wait_ms)
    answer = json_answer(ReceiveOut([message_out(one, wanted.encoding) for one in received]))
    if received:
        await write_or_give_back(answer, request, lambda: queue.give_back(received))
    return answer


async def write_or_give_back(
    answer: web.Response, request: web.Request, give_back: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Write the answer here, where it is known what to do when nobody is there to read it."""
    answer.headers["X-Request-Id"] = request[REQUEST_ID]
    answer.headers["Server"] = "logbroker"
    try:
        await answer.prepare(request)
        await answer.write_eof()
    except (ConnectionError, asyncio.CancelledError):
        await asyncio.shield(asyncio.ensure_future(give_back()))
        raise


async def ack(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Say that messages are done."""
    queue = queue_in(services, request)
    wanted = await read_json(request, _receipts_decoder)
    return _answer(await queue.settle.ack(_receipts(wanted.receipts)))


async def release(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Give messages back without counting a failure."""
    queue = queue_in(services, request)
    wanted = await read_json(request, _receipts_decoder)
    return _answer(await queue.settle.release(_receipts(wanted.receipts)))


async def nack(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Say that deliveries have failed: the messages come back later, or become dead letters."""
    queue = queue_in(services, request)
    wanted = (await read_json(request, _nack_decoder)).entries
    receipts = _receipts([one.receipt for one in wanted])
    entries = [
        (receipt, None if one.delay_ms is UNSET else one.delay_ms, None if one.error is UNSET else one.error)
        for receipt, one in zip(receipts, wanted, strict=True)
    ]
    return _answer(await queue.settle.nack(entries))


async def reject(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Say that messages will never succeed: they become dead letters."""
    queue = queue_in(services, request)
    wanted = (await read_json(request, _reject_decoder)).entries
    receipts = _receipts([one.receipt for one in wanted])
    return _answer(
        await queue.settle.reject([(receipt, one.reason) for receipt, one in zip(receipts, wanted, strict=True)])
    )


async def extend(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Let leases last longer, counted from now."""
    queue = queue_in(services, request)
    wanted = (await read_json(request, _extend_decoder)).entries
    for index, one in enumerate(wanted):
        check_lease(index, one.visibility_timeout_ms)
    receipts = _receipts([one.receipt for one in wanted])
    return _answer(
        await queue.settle.extend(
            [(receipt, one.visibility_timeout_ms) for receipt, one in zip(receipts, wanted, strict=True)]
        )
    )


def check_lease(index: int, lease_ms: int) -> None:
    """Raise InvalidRequest for a lease that is too short to be one."""
    if 0 < lease_ms < MIN_LEASE_MS:
        raise InvalidRequest(f"visibility_timeout_ms is 0 or at least {MIN_LEASE_MS}, at #/entries/{index}")


def _receipts(given: Sequence[str]) -> list[Receipt]:
    return [Receipt.parse(text) for text in given]


def _answer(outcomes: Sequence[int | LogbrokerError | None]) -> web.Response:
    status = _status(outcomes)
    results = [
        SettleResult(index, error=entry(outcome))
        if isinstance(outcome, LogbrokerError)
        else SettleResult(index, UNSET if outcome is None else outcome)
        for index, outcome in enumerate(outcomes)
    ]
    return json_answer(SettleOut(results), status)


def _status(outcomes: Sequence[object]) -> int:
    """200, or 207 when some failed. Raises the error when all failed with one code."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, LogbrokerError)]
    if failures and len(failures) == len(outcomes) and len({failure.code for failure in failures}) == 1:
        raise failures[0]
    return 207 if failures else 200
