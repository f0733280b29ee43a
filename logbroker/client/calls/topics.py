"""Topics and their partitions."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from logbroker.client.calls.base import PAGE_SIZE, Call, Done, Page, Read, Request, get, path, send


class TopicSummary(msgspec.Struct, frozen=True):
    """A topic in a list. ``records`` counts offsets; ``bytes`` is None where the engine cannot tell."""

    name: str
    kind: str
    partitions: int
    records: int
    bytes: int | None
    damaged_partitions: int


class Topic(TopicSummary, frozen=True):
    """A topic. ``config`` holds the settings that were given for it."""

    id: str
    created_ms: int
    owner: str | None
    config: dict[str, Any]


class Bounds(msgspec.Struct, frozen=True):
    """Where a partition can be read; None where it is damaged."""

    partition: int
    log_start_offset: int | None = None
    high_watermark: int | None = None
    last_stable_offset: int | None = None


class FoundOffset(msgspec.Struct, frozen=True):
    """An offset found by time or place; None where no record is that late."""

    offset: int | None
    timestamp_ms: int | None


class PutTopic(Call[Topic], frozen=True):
    """A topic as it should be: it is created, or there already as declared."""

    name: str
    partitions: int | None
    config: Mapping[str, Any]
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        body = {"partitions": self.partitions, "config": self.config}
        return send("PUT", path("topics", self.name), body)

    def answer(self, body: bytes) -> Topic:
        return msgspec.json.decode(body, type=Topic)


class GetTopic(Read[Topic], frozen=True):
    """One topic."""

    name: str

    def request(self) -> Request:
        return get(path("topics", self.name))

    def answer(self, body: bytes) -> Topic:
        return msgspec.json.decode(body, type=Topic)


class ListTopics(Read[Page[TopicSummary]], frozen=True):
    """A page of topics, by name."""

    prefix: str = ""
    internal: bool = False
    page_token: str | None = None

    def request(self) -> Request:
        query = {"prefix": self.prefix, "internal": self.internal, "page_size": PAGE_SIZE, "page_token": self.page_token}
        return get(path("topics"), query)

    def answer(self, body: bytes) -> Page[TopicSummary]:
        return msgspec.json.decode(body, type=Page[TopicSummary])


class PatchTopic(Call[Topic], frozen=True):
    """More partitions, other settings; a setting to None goes back to its default."""

    name: str
    partitions: int | None
    config: Mapping[str, Any]
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        partitions = {} if self.partitions is None else {"partitions": self.partitions}
        return send("PATCH", path("topics", self.name), {**partitions, "config": self.config})

    def answer(self, body: bytes) -> Topic:
        return msgspec.json.decode(body, type=Topic)


class DeleteTopic(Done, frozen=True):
    """A topic and its records go."""

    name: str
    missing_ok: bool = False

    @property
    def may_repeat(self) -> bool:
        return self.missing_ok

    def request(self) -> Request:
        return send("DELETE", path("topics", self.name), query={"missing_ok": self.missing_ok})


class ListPartitions(Read[Page[Bounds]], frozen=True):
    """A page of the partitions of a topic."""

    topic: str
    page_token: str | None = None

    def request(self) -> Request:
        query = {"page_size": PAGE_SIZE, "page_token": self.page_token}
        return get(path("topics", self.topic, "partitions"), query)

    def answer(self, body: bytes) -> Page[Bounds]:
        return msgspec.json.decode(body, type=Page[Bounds])


class FindOffset(Read[FoundOffset], frozen=True):
    """The first record of a partition at or after a time."""

    topic: str
    partition: int
    timestamp_ms: int

    def request(self) -> Request:
        where = path("topics", self.topic, "partitions", self.partition, "offset")
        return get(where, {"timestamp_ms": self.timestamp_ms})

    def answer(self, body: bytes) -> FoundOffset:
        return msgspec.json.decode(body, type=FoundOffset)
