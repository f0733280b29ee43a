"""Messages in JSON: as they are sent, and as they are received.

What lives here: the shapes and the conversions both ways. What may not: HTTP, queues.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType
from multidict import CIMultiDict

from logbroker.broker.queue_sends import QueueMessage, SendOutcome
from logbroker.config import INT64_MAX
from logbroker.errors import InvalidRequest
from logbroker.http_api.errors import entry
from logbroker.http_api.payloads import MAX_RECORDS, Encoding, HeaderPair, RecordIn, Timestamp, to_payload, to_record
from logbroker.http_api.raw import raw_record
from logbroker.model import Header, StoredRecord
from logbroker.queues.dispatcher import Received, Sent
from logbroker.queues.settings import MAX_DELAY_MS

DelayMs = Annotated[int, Meta(ge=0, le=MAX_DELAY_MS)]


class MessageIn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message to send. Exactly one of value, value_json, value_b64; at most one of delay_ms and deliver_at_ms."""

    value: str | UnsetType | None = UNSET
    value_json: Raw | UnsetType = UNSET
    value_b64: bytes | UnsetType = UNSET
    key: str | UnsetType | None = UNSET
    key_json: Raw | UnsetType = UNSET
    key_b64: bytes | UnsetType = UNSET
    headers: list[HeaderPair] | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=0, le=9)] = 0
    delay_ms: DelayMs | UnsetType = UNSET
    deliver_at_ms: Timestamp | UnsetType = UNSET
    dedup_id: Annotated[str, Meta(min_length=1, max_length=128)] | UnsetType = UNSET
    message_ttl_ms: Annotated[int, Meta(ge=1, le=MAX_DELAY_MS)] | UnsetType = UNSET


class SendIn(MessageIn, forbid_unknown_fields=True):
    """One message, or ``messages``."""

    messages: Annotated[list[MessageIn], Meta(max_length=MAX_RECORDS)] | UnsetType = UNSET


class SendResult(msgspec.Struct, gc=False):
    """Where a message is, or the error why it was not sent. ``offset`` is null for one that is kept back."""

    index: int
    id: str | UnsetType = UNSET
    partition: int | UnsetType = UNSET
    offset: int | UnsetType | None = UNSET
    duplicate: bool | UnsetType = UNSET
    error: dict[str, Any] | UnsetType = UNSET


class MessageOut(msgspec.Struct, gc=False):
    """A message as it is delivered. ``failures`` are those of earlier deliveries, ``deliveries`` includes this one."""

    id: str
    receipt: str
    receipt_expires_ms: int
    deliveries: int
    failures: int
    last_error: str | None
    priority: int
    timestamp_ms: int
    partition: int
    offset: int | None
    key: str | UnsetType | None = UNSET
    key_json: Raw | UnsetType = UNSET
    key_b64: bytes | UnsetType = UNSET
    headers: list[HeaderPair] = []
    value: str | UnsetType | None = UNSET
    value_json: Raw | UnsetType = UNSET
    value_b64: bytes | UnsetType = UNSET


# -- in ----------------------------------------------------------------------------------------------------------------


def messages_of(given: SendIn, now_ms: int, common: tuple[Header, ...]) -> list[QueueMessage]:
    """The messages. Raises InvalidRequest with ``errors`` naming each bad one."""
    if given.messages is UNSET:
        return _all([given], now_ms, common, "#")
    if any(getattr(given, name) not in (UNSET, 0) for name in MessageIn.__struct_fields__):
        raise InvalidRequest("give one message, or messages, not both")
    return _all(given.messages, now_ms, common, "#/messages/{index}")


def _all(given: Sequence[MessageIn], now_ms: int, common: tuple[Header, ...], place: str) -> list[QueueMessage]:
    try:
        return [_message(one, now_ms, common) for one in given]
    except InvalidRequest:
        errors = list(_wrong(given, now_ms, place))
        raise InvalidRequest(f"{errors[0]['detail']}, at {errors[0]['pointer']}", errors=errors) from None


def _wrong(given: Sequence[MessageIn], now_ms: int, place: str) -> Iterator[dict[str, str]]:
    for index, one in enumerate(given):
        try:
            _message(one, now_ms, ())
        except InvalidRequest as error:
            yield {"pointer": f"{place.format(index=index)}/{error.fields['field']}", "detail": error.detail}


def _message(given: MessageIn, now_ms: int, common: tuple[Header, ...]) -> QueueMessage:
    record = RecordIn(
        given.value, given.value_json, given.value_b64, given.key, given.key_json, given.key_b64, given.headers
    )
    return QueueMessage(
        to_record(record, now_ms, common),
        given.priority,
        _due_ms(given, now_ms),
        None if given.dedup_id is UNSET else given.dedup_id,
        None if given.message_ttl_ms is UNSET else given.message_ttl_ms,
    )


def _due_ms(given: MessageIn, now_ms: int) -> int | None:
    if given.delay_ms is UNSET:
        return None if given.deliver_at_ms is UNSET else given.deliver_at_ms
    if given.deliver_at_ms is not UNSET:
        raise InvalidRequest("both delay_ms and deliver_at_ms given", field="delay_ms")
    return now_ms + given.delay_ms


_RAW_NUMBERS = {"logbroker-delay-ms": MAX_DELAY_MS, "logbroker-priority": 9, "logbroker-message-ttl-ms": MAX_DELAY_MS}


def raw_message(headers: Mapping[str, str], body: bytes, now_ms: int, common: tuple[Header, ...]) -> QueueMessage:
    """A message from a raw body and its headers. Raises InvalidRequest."""
    rest = CIMultiDict(headers)
    numbers = {name: _number(rest.pop(name, None), name, most) for name, most in _RAW_NUMBERS.items()}
    dedup_id = rest.pop("logbroker-dedup-id", None)
    record, partition = raw_record(rest, body, common)
    if partition is not None:
        raise InvalidRequest("the partition of a message is chosen by its key and priority")
    delay_ms = numbers["logbroker-delay-ms"]
    return QueueMessage(
        record,
        numbers["logbroker-priority"] or 0,
        None if delay_ms is None else min(INT64_MAX, now_ms + delay_ms),
        dedup_id,
        numbers["logbroker-message-ttl-ms"],
    )


def _number(text: str | None, name: str, at_most: int) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= at_most):
        raise InvalidRequest(f"{name} {text[:40]!r} is not a number from 0 to {at_most}")
    return int(text)


# -- out ---------------------------------------------------------------------------------------------------------------


def send_result(index: int, outcome: SendOutcome) -> SendResult:
    """An outcome as one entry of an answer."""
    if isinstance(outcome, Sent):
        return SendResult(index, str(outcome.id), outcome.partition, outcome.offset, outcome.duplicate)
    return SendResult(index, error=entry(outcome))


def message_out(received: Received, encoding: Encoding) -> MessageOut:
    """A delivery as it is written in JSON."""
    record = StoredRecord(0, received.timestamp_ms, received.key, received.value, received.headers)
    payload = to_payload(received.partition, record, encoding)
    return MessageOut(
        str(received.id),
        str(received.receipt),
        received.receipt_expires_ms,
        received.deliveries,
        received.failures,
        received.last_error,
        received.priority,
        received.timestamp_ms,
        received.partition,
        received.offset,
        payload.key,
        payload.key_json,
        payload.key_b64,
        [] if payload.headers is UNSET else payload.headers,
        payload.value,
        payload.value_json,
        payload.value_b64,
    )
