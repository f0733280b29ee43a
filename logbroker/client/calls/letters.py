"""Dead letters: many sent back or dropped at once, and the operations that do it."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec

from logbroker.client.calls.base import PAGE_SIZE, Call, Page, Read, Request, get, given, path, send
from logbroker.client.calls.messages import Kind, PeekedMessage, WirePeeked
from logbroker.client.calls.records import ENCODING
from logbroker.errors import InvalidRequest


class Operation(msgspec.Struct, frozen=True):
    """Work that goes on by itself. ``matched`` letters were meant, ``done`` of them were sent back or dropped.

    ``queue`` is None for a replay into a topic.
    """

    id: str
    kind: str
    queue: str | None
    state: Literal["running", "done", "cancelled", "failed"]
    created_ms: int
    ended_ms: int | None
    examined: int
    matched: int
    done: int
    failed: int
    rate: float | None
    error: str | None


class Redriven(msgspec.Struct, frozen=True):
    """A redrive. A dry run has counted what ``matched`` and shows the first; any other has begun an ``operation``."""

    matched: int
    sample: list[PeekedMessage]
    operation: Operation | None


class Selection(msgspec.Struct, frozen=True):
    """Which dead letters: by ids, or those that match a CEL ``filter`` or every part given, or all.

    ``error`` is a part of the last error.
    """

    ids: Sequence[str] | None = None
    key: str | None = None
    reason: str | None = None
    error: str | None = None
    filter: str | None = None
    limit: int | None = None

    def body(self) -> dict[str, Any]:
        """The selection in JSON. Raises InvalidRequest for an expression and parts together."""
        parts = given(key=self.key, reason=self.reason, error=self.error)
        if parts and self.filter is not None:
            raise InvalidRequest(f"give a filter, or {', '.join(parts)}: an expression can say both")
        ids = None if self.ids is None else list(self.ids)
        return given(ids=ids, filter=self.filter or parts or None, max=self.limit)


class _Begun(msgspec.Struct):
    operation: Operation


class _RedriveAnswer(msgspec.Struct):
    matched: int = 0
    sample: list[WirePeeked] = []
    operation: Operation | None = None


class Redrive(Call[Redriven], frozen=True):
    """Send dead letters back."""

    queue: str
    selection: Selection
    rate: float | None
    dry_run: bool
    kind: Kind = "queues"

    @property
    def may_repeat(self) -> bool:
        return self.dry_run

    def request(self) -> Request:
        body = {**self.selection.body(), **given(rate=self.rate), "dry_run": self.dry_run, "encoding": ENCODING}
        return send("POST", path(self.kind, self.queue, verb="redrive"), body)

    def answer(self, body: bytes) -> Redriven:
        told = msgspec.json.decode(body, type=_RedriveAnswer)
        return Redriven(told.matched, [one.peeked() for one in told.sample], told.operation)


class Discard(Call[Operation], frozen=True):
    """Drop dead letters for good."""

    queue: str
    selection: Selection
    kind: Kind = "queues"

    def request(self) -> Request:
        body = {**self.selection.body(), "confirm": self.queue}
        return send("POST", path(self.kind, self.queue, verb="discard"), body)

    def answer(self, body: bytes) -> Operation:
        return msgspec.json.decode(body, type=_Begun).operation


class GetOperation(Read[Operation], frozen=True):
    """One operation."""

    id: str

    def request(self) -> Request:
        return get(path("operations", self.id))

    def answer(self, body: bytes) -> Operation:
        return msgspec.json.decode(body, type=Operation)


class ListOperations(Read[Page[Operation]], frozen=True):
    """A page of operations, the oldest first."""

    page_token: str | None = None

    def request(self) -> Request:
        return get(path("operations"), {"page_size": PAGE_SIZE, "page_token": self.page_token})

    def answer(self, body: bytes) -> Page[Operation]:
        return msgspec.json.decode(body, type=Page[Operation])


class CancelOperation(Call[Operation], frozen=True):
    """Stop an operation where it is."""

    id: str
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        return send("POST", path("operations", self.id, verb="cancel"))

    def answer(self, body: bytes) -> Operation:
        return msgspec.json.decode(body, type=Operation)
