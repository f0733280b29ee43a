"""Subscriptions: declared, listed, sought, deleted. Their messages are those of ``messages``, with another kind."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from logbroker.client.calls.base import PAGE_SIZE, Call, Done, Page, Read, Request, get, given, path, send
from logbroker.client.calls.queues import QueueCounts


class SubscriptionInfo(msgspec.Struct, frozen=True):
    """A subscription. ``counts.ready`` includes the ``unread`` offsets, which its filter has not judged yet."""

    name: str
    created_ms: int
    config: dict[str, Any]
    counts: QueueCounts
    unread: int
    oldest_age_ms: int
    consumers: int
    totals: dict[str, int]


class Leap(msgspec.Struct, frozen=True):
    """Where one partition goes: the first offset that is not done, before and after, and what is void by it."""

    partition: int
    from_offset: int
    to_offset: int
    end_offset: int
    voided_leases: int
    voided_retries: int


class _Leaps(msgspec.Struct):
    partitions: list[Leap]


class PutSubscription(Call[SubscriptionInfo], frozen=True):
    """A subscription as it should be: it is created, or there already as declared."""

    name: str
    settings: Mapping[str, Any]
    start: Mapping[str, Any] | None = None
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        return send("PUT", path("subscriptions", self.name), {**self.settings, **given(start=self.start)})

    def answer(self, body: bytes) -> SubscriptionInfo:
        return msgspec.json.decode(body, type=SubscriptionInfo)


class GetSubscription(Read[SubscriptionInfo], frozen=True):
    """One subscription."""

    name: str

    def request(self) -> Request:
        return get(path("subscriptions", self.name))

    def answer(self, body: bytes) -> SubscriptionInfo:
        return msgspec.json.decode(body, type=SubscriptionInfo)


class ListSubscriptions(Read[Page[SubscriptionInfo]], frozen=True):
    """A page of subscriptions, by name."""

    prefix: str = ""
    page_token: str | None = None

    def request(self) -> Request:
        query = {"prefix": self.prefix, "page_size": PAGE_SIZE, "page_token": self.page_token}
        return get(path("subscriptions"), query)

    def answer(self, body: bytes) -> Page[SubscriptionInfo]:
        return msgspec.json.decode(body, type=Page[SubscriptionInfo])


class PatchSubscription(Call[SubscriptionInfo], frozen=True):
    """Other settings; one to None goes back to its default."""

    name: str
    changes: Mapping[str, Any]
    repeatable: ClassVar[bool] = True

    def request(self) -> Request:
        return send("PATCH", path("subscriptions", self.name), self.changes)

    def answer(self, body: bytes) -> SubscriptionInfo:
        return msgspec.json.decode(body, type=SubscriptionInfo)


class DeleteSubscription(Done, frozen=True):
    """A subscription goes with its retries and dead letters; the topic stays."""

    name: str
    missing_ok: bool = False

    @property
    def may_repeat(self) -> bool:
        return self.missing_ok

    def request(self) -> Request:
        return send("DELETE", path("subscriptions", self.name), query={"missing_ok": self.missing_ok})


class SeekSubscription(Call[list[Leap]], frozen=True):
    """Go to another place in the topic, or say what that would do."""

    name: str
    to: Mapping[str, Any]
    dry_run: bool

    @property
    def may_repeat(self) -> bool:
        return self.dry_run

    def request(self) -> Request:
        return send("POST", path("subscriptions", self.name, verb="seek"), {"to": self.to, "dry_run": self.dry_run})

    def answer(self, body: bytes) -> list[Leap]:
        return msgspec.json.decode(body, type=_Leaps).partitions
