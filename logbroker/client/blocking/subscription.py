"""``lb.subscription(...)`` and ``lb.subscriptions``: readers of a topic with a place, a filter and leases of their own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from logbroker.client.blocking.dead_letters import DeadLetters
from logbroker.client.blocking.driver import Driver
from logbroker.client.blocking.queue import Received
from logbroker.client.calls.subscriptions import (
    DeleteSubscription,
    GetSubscription,
    Leap,
    ListSubscriptions,
    PatchSubscription,
    SeekSubscription,
    SubscriptionInfo,
)
from logbroker.client.declaring import create_subscription, subscription_settings
from logbroker.client.durations import Duration
from logbroker.client.flows import Flow, all_pages
from logbroker.client.positions import Start, position_of
from logbroker.client.settling import receive


class Subscriptions:
    """All subscriptions of a broker."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def create(
        self,
        name: str,
        topic: str,
        *,
        filter: str | None = None,
        start: Start | None = None,
        if_not_exists: bool = False,
        **settings: Any,
    ) -> SubscriptionInfo:
        """Create a subscription. One that is there as declared is left as it is, with ``if_not_exists`` any.

        ``settings`` are the broker's, durations without their unit: ``ack_deadline="30s"``. ``start`` is where a new one
        begins, by default at the end of the topic. Raises ConfigConflict, FilterInvalid, InvalidConfig, InvalidTopic,
        UnknownTopicOrPartition.
        """
        declared = {**settings, **({} if filter is None else {"filter": filter})}
        return self._driver.run(create_subscription(name, topic, start, declared, if_not_exists=if_not_exists))

    def get(self, name: str) -> SubscriptionInfo:
        """One subscription. Raises SubscriptionNotFound."""
        return self._driver(GetSubscription(name))

    def list(self, prefix: str = "") -> "list[SubscriptionInfo]":
        """The subscriptions whose names start with ``prefix``."""
        return self._driver.run(all_pages(lambda token: ListSubscriptions(prefix, token)))

    def alter(self, name: str, **settings: Any) -> SubscriptionInfo:
        """Change settings; None is the default. Another filter judges what was not read yet.

        Raises SubscriptionNotFound, FilterInvalid, InvalidConfig, ConfigConflict.
        """
        return self._driver(PatchSubscription(name, subscription_settings(settings)))

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        """Delete a subscription with its retries and dead letters; the topic stays. Raises SubscriptionNotFound."""
        self._driver(DeleteSubscription(name, missing_ok))


class Subscription:
    """One subscription over a topic. Making it asks the broker nothing."""

    def __init__(self, driver: Driver, name: str, consumer: str, declare: Callable[[], Flow[SubscriptionInfo]]) -> None:
        self._driver = driver
        self._consumer = consumer
        self._declare = declare
        self.name = name
        self.dlq = DeadLetters(driver, name, "subscriptions")

    def create(self) -> SubscriptionInfo:
        """Make it, unless it is there. Raises as ``lb.subscriptions.create``, ConfigConflict where it differs from this."""
        return self._driver.run(self._declare())

    @contextmanager
    def receive(
        self, max: int = 1, *, wait: Duration = 0, ack_deadline: Duration | None = None, consumer: str | None = None
    ) -> Iterator[Received]:
        """Up to ``max`` records, perhaps none after ``wait``. At the end of the context what is not settled is acked;
        after an exception it is nacked, after a cancellation released. Raises SubscriptionNotFound, InvalidRequest.
        """
        flow = receive(self.name, max, wait, ack_deadline, consumer or self._consumer, "subscriptions")
        received = Received(self._driver, self.name, self._driver.run(flow), "subscriptions")
        with received.until_settled():
            yield received

    def stats(self) -> SubscriptionInfo:
        """Settings, counts and totals. Raises SubscriptionNotFound."""
        return self._driver(GetSubscription(self.name))

    def seek(self, to: Start, *, dry_run: bool = True) -> list[Leap]:
        """Go to another place in the topic; by default only say what that would do.

        Leases and waiting retries are void then, dead letters stay. Raises SubscriptionNotFound, InvalidOffset.
        """
        return self._driver(SeekSubscription(self.name, position_of(to), dry_run))
