"""Queues: declared, described, changed, deleted, paused, purged; their consumers."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from logbroker.client.calls.base import PAGE_SIZE, Call, Done, Page, Read, Request, get, given, path, send


class QueueCounts(msgspec.Struct, frozen=True):
    """How many messages are where. ``parked`` ones wait behind an earlier one of their key and are part of ``ready``."""

    ready: int
    in_flight: int
    delayed: int
    retrying: int
    dead: int
    parked: int


class QueueInfo(msgspec.Struct, frozen=True):
    """A queue: its settings, how many messages are where, and what happened since the broker started (``totals``)."""

    name: str
    created_ms: int
    paused: bool
    config: dict[str, Any]
    counts: QueueCounts
    oldest_age_ms: int
    consumers: int
    totals: dict[str, int]


class QueueConsumer(msgspec.Struct, frozen=True):
    """A consumer of a queue: what it did since the broker started, and what it holds now."""

    consumer: str
    received: int
    processed: int
    errors: int
    in_flight: int
    last_seen_ms: int


class PutQueue(Call[QueueInfo], frozen=True):
    """A queue as it should be: it is created, or there already as declared."""

    name: str
    settings: Mapping[str, Any]
    start: Mapping[str, Any] | None = None
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        return send("PUT", path("queues", self.name), {**self.settings, **given(start=self.start)})

    def answer(self, body: bytes) -> QueueInfo:
        return msgspec.json.decode(body, type=QueueInfo)


class GetQueue(Read[QueueInfo], frozen=True):
    """One queue."""

    name: str

    def request(self) -> Request:
        return get(path("queues", self.name))

    def answer(self, body: bytes) -> QueueInfo:
        return msgspec.json.decode(body, type=QueueInfo)


class ListQueues(Read[Page[QueueInfo]], frozen=True):
    """A page of queues, by name."""

    prefix: str = ""
    page_token: str | None = None

    def request(self) -> Request:
        return get(path("queues"), {"prefix": self.prefix, "page_size": PAGE_SIZE, "page_token": self.page_token})

    def answer(self, body: bytes) -> Page[QueueInfo]:
        return msgspec.json.decode(body, type=Page[QueueInfo])


class PatchQueue(Call[QueueInfo], frozen=True):
    """Other settings; one to None goes back to its default."""

    name: str
    changes: Mapping[str, Any]
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        return send("PATCH", path("queues", self.name), self.changes)

    def answer(self, body: bytes) -> QueueInfo:
        return msgspec.json.decode(body, type=QueueInfo)


class DeleteQueue(Done, frozen=True):
    """A queue goes with its messages, retries and dead letters."""

    name: str
    keep_topic: bool = False
    missing_ok: bool = False

    @property
    def may_repeat(self) -> bool:
        return self.missing_ok

    def request(self) -> Request:
        query = {"keep_topic": self.keep_topic, "missing_ok": self.missing_ok}
        return send("DELETE", path("queues", self.name), query=query)


class ListConsumers(Read[Page[QueueConsumer]], frozen=True):
    """A page of the consumers of a queue."""

    queue: str
    page_token: str | None = None

    def request(self) -> Request:
        query = {"page_size": PAGE_SIZE, "page_token": self.page_token}
        return get(path("queues", self.queue, "consumers"), query)

    def answer(self, body: bytes) -> Page[QueueConsumer]:
        return msgspec.json.decode(body, type=Page[QueueConsumer])


class Purge(Done, frozen=True):
    """Everything that waits is dropped, or what was sent before a time; dead letters stay."""

    queue: str
    before_ms: int | None = None
    repeatable: ClassVar[bool] = False

    def request(self) -> Request:
        body = {"confirm": self.queue, **given(before_ms=self.before_ms)}
        return send("POST", path("queues", self.queue, verb="purge"), body)


class SetPaused(Done, frozen=True):
    """A queue delivers nothing, or goes on."""

    queue: str
    paused: bool
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        return send("POST", path("queues", self.queue, verb="pause" if self.paused else "resume"))
