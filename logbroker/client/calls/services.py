"""Request-reply: asking a service, and being one."""

from typing import ClassVar, NamedTuple

import msgspec

from logbroker.client.calls.base import Call, Done, Request, given, path, send
from logbroker.client.calls.records import ENCODING
from logbroker.client.calls.wire import WirePayload, headers_from, record_to_wire
from logbroker.client.payloads import Headers, Payload
from logbroker.model import Record as NewRecord


class Reply(Payload, msgspec.Struct, frozen=True):
    """What a service answered."""

    value: bytes | None
    headers: Headers
    timestamp_ms: int = 0


class Asked(Payload, msgspec.Struct, frozen=True):
    """A request as a responder gets it; it is answered by its ``token`` before ``deadline_ms`` (wall clock)."""

    token: str
    deadline_ms: int
    deliveries: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int = 0


class ReplyGiven(NamedTuple):
    """What is answered: a record's value and headers, or the text of an error."""

    record: NewRecord | None
    error: str | None = None


class _WireReply(WirePayload, kw_only=True):
    pass


class _WireAsked(WirePayload, kw_only=True, gc=False):
    token: str
    deadline_ms: int
    deliveries: int


class _Requests(msgspec.Struct):
    requests: list[_WireAsked]


class Ask(Call[Reply], frozen=True):
    """Ask a service, and wait for its answer."""

    service: str
    record: NewRecord
    timeout_ms: int
    breakable: ClassVar[bool] = True

    def request(self) -> Request:
        query = {"timeout_ms": self.timeout_ms, "encoding": ENCODING}
        target = path("services", self.service, verb="request")
        return send("POST", target, record_to_wire(self.record), query, wait_ms=self.timeout_ms)

    def answer(self, body: bytes) -> Reply:
        wire = msgspec.json.decode(body, type=_WireReply)
        return Reply(wire.value_b64, headers_from(wire.headers))


class Serve(Call[list[Asked]], frozen=True):
    """Lease requests of a service, waiting for the first."""

    service: str
    limit: int
    wait_ms: int
    consumer: str
    visibility_timeout_ms: int | None = None
    breakable: ClassVar[bool] = True

    def request(self) -> Request:
        body = {
            "max": self.limit,
            "wait_ms": self.wait_ms,
            "consumer": self.consumer,
            "encoding": ENCODING,
            **given(visibility_timeout_ms=self.visibility_timeout_ms),
        }
        return send("POST", path("services", self.service, verb="serve"), body, wait_ms=self.wait_ms)

    def answer(self, body: bytes) -> list[Asked]:
        return [
            Asked(one.token, one.deadline_ms, one.deliveries, one.key_b64, one.value_b64, headers_from(one.headers))
            for one in msgspec.json.decode(body, type=_Requests).requests
        ]


class AnswerRequest(Done, frozen=True):
    """Answer a request."""

    token: str
    reply: ReplyGiven
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        record, error = self.reply
        return send("POST", path("replies", self.token), {"error": error} if record is None else record_to_wire(record))
