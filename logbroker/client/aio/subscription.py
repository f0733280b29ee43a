"""``lb.subscription(...)`` and ``lb.subscriptions``: readers of a topic with a place, a filter and leases of their own."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from logbroker.client.aio.dead_letters import AsyncDeadLetters
from logbroker.client.aio.driver import Driver
from logbroker.client.aio.queue import AsyncReceived
from logbroker.client.aio.slots import Given, Returned, SlotOptions
from logbroker.client.aio.worker import Worker, WorkerOptions
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
from logbroker.client.durations import Duration, to_ms
from logbroker.client.flows import Flow, all_pages
from logbroker.client.positions import Start, position_of
from logbroker.client.settling import receive


class AsyncSubscriptions:
    """All subscriptions of a broker."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def create(
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
        return await self._driver.run(create_subscription(name, topic, start, declared, if_not_exists=if_not_exists))

    async def get(self, name: str) -> SubscriptionInfo:
        """One subscription. Raises SubscriptionNotFound."""
        return await self._driver(GetSubscription(name))

    async def list(self, prefix: str = "") -> "list[SubscriptionInfo]":
        """The subscriptions whose names start with ``prefix``."""
        return await self._driver.run(all_pages(lambda token: ListSubscriptions(prefix, token)))

    async def alter(self, name: str, **settings: Any) -> SubscriptionInfo:
        """Change settings; None is the default. Another filter judges what was not read yet.

        Raises SubscriptionNotFound, FilterInvalid, InvalidConfig, ConfigConflict.
        """
        return await self._driver(PatchSubscription(name, subscription_settings(settings)))

    async def delete(self, name: str, *, missing_ok: bool = False) -> None:
        """Delete a subscription with its retries and dead letters; the topic stays. Raises SubscriptionNotFound."""
        await self._driver(DeleteSubscription(name, missing_ok))


class AsyncSubscription:
    """One subscription over a topic. Making it asks the broker nothing; a handler that runs creates it first."""

    def __init__(self, driver: Driver, name: str, consumer: str, declare: Callable[[], Flow[SubscriptionInfo]]) -> None:
        self._driver = driver
        self._consumer = consumer
        self._declare = declare
        self.name = name
        self.dlq = AsyncDeadLetters(driver, name, "subscriptions")

    async def create(self) -> SubscriptionInfo:
        """Make it, unless it is there. Raises as ``lb.subscriptions.create``, ConfigConflict where it differs from this."""
        return await self._driver.run(self._declare())

    @asynccontextmanager
    async def receive(
        self, max: int = 1, *, wait: Duration = 0, ack_deadline: Duration | None = None, consumer: str | None = None
    ) -> AsyncIterator[AsyncReceived]:
        """Up to ``max`` records, perhaps none after ``wait``. At the end of the context what is not settled is acked;
        after an exception it is nacked, after a cancellation released. Raises SubscriptionNotFound, InvalidRequest.
        """
        flow = receive(self.name, max, wait, ack_deadline, consumer or self._consumer, "subscriptions")
        received = AsyncReceived(self._driver, self.name, await self._driver.run(flow), "subscriptions")
        async with received.until_settled():
            yield received

    def handler(
        self,
        *,
        concurrency: int = 1,
        ack_deadline: Duration = "30s",
        timeout: Duration | None = None,
        drain: Duration = "30s",
        consumer: str | None = None,
    ) -> "Callable[[Callable[Given, Returned]], Worker[Given, Returned]]":
        """Make a function take the records: ``@lb.subscription("orders", name="audit").handler()``.

        As a queue's ``worker``; it runs with the client's ``run``, which creates the subscription first.
        """
        slots = SlotOptions.of(concurrency, timeout, drain)
        options = WorkerOptions(slots, to_ms(ack_deadline), consumer or self._consumer, "subscriptions")

        def made(handler: Callable[Given, Returned]) -> Worker[Given, Returned]:
            return self._driver.working(Subscriber(self._driver, self, handler, options))

        return made

    async def stats(self) -> SubscriptionInfo:
        """Settings, counts and totals. Raises SubscriptionNotFound."""
        return await self._driver(GetSubscription(self.name))

    async def seek(self, to: Start, *, dry_run: bool = True) -> list[Leap]:
        """Go to another place in the topic; by default only say what that would do.

        Leases and waiting retries are void then, dead letters stay. Raises SubscriptionNotFound, InvalidOffset.
        """
        return await self._driver(SeekSubscription(self.name, position_of(to), dry_run))


class Subscriber(Worker[Given, Returned]):
    """A worker that sees to it that its subscription is there."""

    def __init__(
        self, driver: Driver, subscription: AsyncSubscription, handler: Callable[Given, Returned], options: WorkerOptions
    ) -> None:
        super().__init__(driver, subscription.name, handler, options)
        self._subscription = subscription

    async def _prepare(self) -> None:
        await self._subscription.create()
