"""Messages of a queue: sent, received, settled, looked at."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from logbroker.client.calls.base import Call, Page, Read, Request, get, given, path, send
from logbroker.client.calls.records import ENCODING
from logbroker.client.calls.wire import WirePayload, headers_from, record_to_wire
from logbroker.client.payloads import Headers, Payload
from logbroker.client.problems import error_of
from logbroker.errors import LogbrokerError
from logbroker.model import Record as NewRecord

MAX_RECEIVE = 1_000
Kind = Literal["queues", "subscriptions"]
"""What messages are of; the verbs of consumers are the same."""
MessageState = Literal["ready", "in_flight", "delayed", "retrying", "dead"]


class OutgoingMessage(NamedTuple):
    """A message to be sent. ``delay_ms`` keeps it back; ``ttl_ms`` is its own time to live."""

    record: NewRecord
    priority: int = 0
    delay_ms: int | None = None
    dedup_id: str | None = None
    ttl_ms: int | None = None


class SentMessage(msgspec.Struct, frozen=True):
    """A message that is durable. ``offset`` is None while it is kept back; ``duplicate`` names an earlier one."""

    id: str
    partition: int
    offset: int | None
    duplicate: bool


class Delivery(Payload, msgspec.Struct):
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
    key: bytes | None
    value: bytes | None
    headers: Headers


class Happened(msgspec.Struct, frozen=True):
    """How often something happened to a message, first and last."""

    queue: str
    reason: str
    count: int
    first_ms: int
    last_ms: int


class PeekedMessage(Payload, msgspec.Struct, frozen=True):
    """A message that was looked at. ``reason`` and the errors say how it became a retry or a dead letter."""

    id: str
    state: str
    priority: int
    deliveries: int
    failures: int
    timestamp_ms: int
    partition: int
    offset: int | None
    due_ms: int | None
    consumer: str | None
    receipt_expires_ms: int | None
    reason: str | None
    first_error: str | None
    last_error: str | None
    redriven: int
    history: list[Happened]
    key: bytes | None
    value: bytes | None
    headers: Headers


# -- sending -----------------------------------------------------------------------------------------------------------


class _Sent(msgspec.Struct, gc=False):
    id: str = ""
    partition: int = -1
    offset: int | None = None
    duplicate: bool = False
    error: dict[str, Any] | None = None


class _SentResults(msgspec.Struct):
    results: list[_Sent]


class Send(Call[list[SentMessage | LogbrokerError]], frozen=True):
    """Send messages; one outcome each, in order."""

    queue: str
    messages: Sequence[OutgoingMessage]

    @property
    def may_repeat(self) -> bool:
        return all(one.dedup_id is not None for one in self.messages)

    def request(self) -> Request:
        return send("POST", path("queues", self.queue, "messages"), {"messages": list(map(_message, self.messages))})

    def answer(self, body: bytes) -> list[SentMessage | LogbrokerError]:
        return [
            SentMessage(one.id, one.partition, one.offset, one.duplicate) if one.error is None else error_of(one.error)
            for one in msgspec.json.decode(body, type=_SentResults).results
        ]


def _message(one: OutgoingMessage) -> dict[str, Any]:
    wire = record_to_wire(one.record)
    if one.priority:
        wire["priority"] = one.priority
    return wire | given(delay_ms=one.delay_ms, dedup_id=one.dedup_id, message_ttl_ms=one.ttl_ms)


# -- receiving ---------------------------------------------------------------------------------------------------------


class _WireDelivery(WirePayload, kw_only=True, gc=False):
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

    def delivery(self) -> Delivery:
        return Delivery(
            self.id,
            self.receipt,
            self.receipt_expires_ms,
            self.deliveries,
            self.failures,
            self.last_error,
            self.priority,
            self.timestamp_ms,
            self.partition,
            self.offset,
            self.key_b64,
            self.value_b64,
            headers_from(self.headers),
        )


class _Deliveries(msgspec.Struct):
    messages: list[_WireDelivery]


class Receive(Call[list[Delivery]], frozen=True):
    """Lease messages, waiting for the first. ``attempt_id`` makes a second receive give what the first gave."""

    queue: str
    limit: int
    wait_ms: int
    consumer: str
    attempt_id: str
    visibility_timeout_ms: int | None = None
    kind: Kind = "queues"
    repeatable: ClassVar[bool] = True
    breakable: ClassVar[bool] = True

    def request(self) -> Request:
        body = {
            "max": self.limit,
            "wait_ms": self.wait_ms,
            "consumer": self.consumer,
            "receive_attempt_id": self.attempt_id,
            "encoding": ENCODING,
            **given(visibility_timeout_ms=self.visibility_timeout_ms),
        }
        verb = "receive" if self.kind == "queues" else "pull"
        return send("POST", path(self.kind, self.queue, verb=verb), body, wait_ms=self.wait_ms)

    def answer(self, body: bytes) -> list[Delivery]:
        return [one.delivery() for one in msgspec.json.decode(body, type=_Deliveries).messages]


# -- settling ----------------------------------------------------------------------------------------------------------

Verb = Literal["ack", "nack", "release", "reject", "extend"]
Settled = int | None
"""What a settlement answers: the new expiry (wall clock, ms) of a lease that was extended, else None."""


class Settlement(NamedTuple):
    """What is to become of one delivery. ``delay_ms`` and ``error`` go with nack, ``error`` with reject (the reason).

    ``lease_ms`` goes with extend: how long from now the lease is to last.
    """

    receipt: str
    delay_ms: int | None = None
    error: str | None = None
    lease_ms: int = 0


class _SettleResult(msgspec.Struct, gc=False):
    receipt_expires_ms: int | None = None
    error: dict[str, Any] | None = None


class _SettleResults(msgspec.Struct):
    results: list[_SettleResult]


class Settle(Call[list[Settled | LogbrokerError]], frozen=True):
    """Settle deliveries; one outcome each, in order."""

    queue: str
    verb: Verb
    entries: Sequence[Settlement]
    kind: Kind = "queues"
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        body: dict[str, Any]
        if self.verb in ("ack", "release"):
            body = {"receipts": [one.receipt for one in self.entries]}
        else:
            body = {"entries": [self._entry(one) for one in self.entries]}
        return send("POST", path(self.kind, self.queue, verb=self.verb), body)

    def _entry(self, one: Settlement) -> dict[str, Any]:
        if self.verb == "extend":
            return {"receipt": one.receipt, "visibility_timeout_ms": one.lease_ms}
        if self.verb == "reject":
            return {"receipt": one.receipt, "reason": one.error or ""}
        return {"receipt": one.receipt, **given(delay_ms=one.delay_ms, error=one.error)}

    def answer(self, body: bytes) -> list[Settled | LogbrokerError]:
        results = msgspec.json.decode(body, type=_SettleResults).results
        return [one.receipt_expires_ms if one.error is None else error_of(one.error) for one in results]


# -- looking -----------------------------------------------------------------------------------------------------------


class WirePeeked(WirePayload, kw_only=True, gc=False):
    """A peeked message as it is read."""

    id: str
    state: str
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
    history: list[Happened] = msgspec.field(default_factory=list)

    def peeked(self) -> PeekedMessage:
        """The message."""
        plain = {name: getattr(self, name) for name in PeekedMessage.__struct_fields__ if name not in _PAYLOAD}
        return PeekedMessage(**plain, key=self.key_b64, value=self.value_b64, headers=headers_from(self.headers))


_PAYLOAD = frozenset({"key", "value", "headers"})


class Peek(Read[Page[PeekedMessage]], frozen=True):
    """A page of the messages in a state that match every part given. Looking has no effect."""

    queue: str
    state: MessageState
    limit: int
    key: str | None = None
    reason: str | None = None
    error: str | None = None
    filter: str | None = None
    page_token: str | None = None
    kind: Kind = "queues"

    def request(self) -> Request:
        query = {
            "state": self.state,
            "page_size": self.limit,
            "key": self.key,
            "reason": self.reason,
            "error": self.error,
            "filter": self.filter,
            "page_token": self.page_token,
            "encoding": ENCODING,
        }
        return get(path(self.kind, self.queue, "messages"), query)

    def answer(self, body: bytes) -> Page[PeekedMessage]:
        page = msgspec.json.decode(body, type=Page[WirePeeked])
        return Page([one.peeked() for one in page.items], page.next_page_token)
