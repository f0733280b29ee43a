"""``lb.queue(name)``: sending, receiving and settling messages.

What lives here: awaiting. What may not: what becomes of unsettled messages (``settling``).
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import overload

import msgspec

from logbroker.client.aio.dead_letters import AsyncDeadLetters
from logbroker.client.aio.driver import Driver
from logbroker.client.aio.slots import Given, Returned, SlotOptions
from logbroker.client.aio.worker import Worker, WorkerOptions
from logbroker.client.calls.messages import (
    Delivery,
    Kind,
    MessageState,
    OutgoingMessage,
    PeekedMessage,
    SentMessage,
    Settlement,
    Verb,
)
from logbroker.client.calls.queues import GetQueue, ListConsumers, Purge, QueueConsumer, QueueInfo, SetPaused
from logbroker.client.durations import Duration, Instant, instant_ms, to_ms
from logbroker.client.flows import all_pages
from logbroker.client.payloads import HeadersGiven, Key
from logbroker.client.settling import OpenReceipts, message, peek, receive, send_all, send_one, settle


class AsyncMessage(Delivery):
    """A message that was received, and what can be done with it. Each of the verbs but ``extend`` settles it."""

    batch: "AsyncReceived"

    async def ack(self) -> None:
        """It is done. Raises LeaseLost."""
        await self.batch.settle("ack", Settlement(self.receipt))

    async def nack(self, *, delay: Duration | None = None, error: str | None = None) -> None:
        """It has failed: it comes back after ``delay`` or as the queue's policy says, or becomes a dead letter.

        Raises LeaseLost.
        """
        await self.batch.settle("nack", Settlement(self.receipt, None if delay is None else to_ms(delay), error))

    async def release(self) -> None:
        """Give it back without counting a failure. Raises LeaseLost."""
        await self.batch.settle("release", Settlement(self.receipt))

    async def reject(self, reason: str = "") -> None:
        """It will never succeed: make it a dead letter. Raises LeaseLost."""
        await self.batch.settle("reject", Settlement(self.receipt, error=reason))

    async def extend(self, visibility_timeout: Duration) -> int:
        """Let its lease last so long from now; returns when it ends (wall clock, ms). Raises LeaseLost."""
        entry = Settlement(self.receipt, lease_ms=to_ms(visibility_timeout))
        expires_ms = await self.batch.settle("extend", entry)
        assert expires_ms is not None, "a lease that was extended ends"
        self.receipt_expires_ms = expires_ms
        return expires_ms


class AsyncReceived(Sequence[AsyncMessage]):
    """The messages of one receive. Leaving the context acks what is not settled; an exception nacks it instead."""

    def __init__(self, driver: Driver, queue: str, deliveries: Sequence[Delivery], kind: Kind = "queues") -> None:
        self._driver = driver
        self._receipts = OpenReceipts(queue, kind)
        self._receipts.add(deliveries)
        self._messages = [AsyncMessage(**msgspec.structs.asdict(one), batch=self) for one in deliveries]

    @overload
    def __getitem__(self, index: int) -> AsyncMessage: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[AsyncMessage]: ...

    def __getitem__(self, index: int | slice) -> AsyncMessage | Sequence[AsyncMessage]:
        return self._messages[index]

    def __iter__(self) -> Iterator[AsyncMessage]:
        return iter(self._messages)

    def __len__(self) -> int:
        return len(self._messages)

    async def settle(self, verb: Verb, entry: Settlement) -> int | None:
        """Settle one message, or extend its lease. Raises LeaseLost."""
        if verb != "extend":
            self._receipts.settled(entry.receipt)
        [outcome] = await self._driver.run(settle(self._receipts.queue, verb, [entry], self._receipts.kind))
        return outcome

    @asynccontextmanager
    async def until_settled(self) -> AsyncIterator[None]:
        """While the caller works on the messages; ``end`` follows, with the exception if there was one."""
        try:
            yield
        except BaseException as error:
            await self.end(error)
            raise
        await self.end()

    async def end(self, error: BaseException | None = None) -> None:
        """Ack what is not settled, or say that it has failed with ``error``. Raises LeaseLost when an ack came late."""
        await self._driver.run(self._receipts.end(error))


class AsyncQueue:
    """One queue. Making it asks the broker nothing."""

    def __init__(self, driver: Driver, name: str, consumer: str) -> None:
        self._driver = driver
        self._consumer = consumer
        self.name = name
        self.dlq = AsyncDeadLetters(driver, name)

    async def send(
        self,
        value: object,
        *,
        key: Key = None,
        headers: HeadersGiven = (),
        priority: int = 0,
        delay: Duration | None = None,
        dedup_id: str | None = None,
        ttl: Duration | None = None,
    ) -> SentMessage:
        """Send a message; it is durable on return. A ``dedup_id`` makes it safe to try again, and so that is done.

        Raises QueueNotFound, QueueFull, MessageTooLarge, InvalidRequest.
        """
        one = message(value, key=key, headers=headers, priority=priority, delay=delay, dedup_id=dedup_id, ttl=ttl)
        return await self._driver.run(send_one(self.name, one))

    async def send_many(self, messages: Iterable[OutgoingMessage]) -> list[SentMessage]:
        """Send messages that ``logbroker.message`` made.

        Raises the first error, with all outcomes in its ``fields["results"]``.
        """
        return await self._driver.run(send_all(self.name, messages))

    @asynccontextmanager
    async def receive(
        self, max: int = 1, *, wait: Duration = 0, visibility_timeout: Duration | None = None, consumer: str | None = None
    ) -> AsyncIterator[AsyncReceived]:
        """Up to ``max`` messages, perhaps none after ``wait``. At the end of the context what is not settled is acked;
        after an exception it is nacked, after a cancellation released. Raises QueueNotFound, InvalidRequest.
        """
        received = await self.lease(max, wait=wait, visibility_timeout=visibility_timeout, consumer=consumer)
        async with received.until_settled():
            yield received

    async def lease(
        self, max: int = 1, *, wait: Duration = 0, visibility_timeout: Duration | None = None, consumer: str | None = None
    ) -> AsyncReceived:
        """As ``receive`` without a context: the caller settles every message, or lets its lease run out."""
        flow = receive(self.name, max, wait, visibility_timeout, consumer or self._consumer)
        return AsyncReceived(self._driver, self.name, await self._driver.run(flow))

    async def peek(
        self,
        state: MessageState = "ready",
        *,
        limit: int = 100,
        key: str | None = None,
        reason: str | None = None,
        error: str | None = None,
        filter: str | None = None,
    ) -> list[PeekedMessage]:
        """Messages in a state that match all that is given; ``error`` is a part of the last one, ``filter`` is CEL.

        Looking has no effect.
        """
        return await self._driver.run(peek(self.name, state, limit, key, reason, error, filter))

    async def stats(self) -> QueueInfo:
        """Settings, counts and totals. Raises QueueNotFound."""
        return await self._driver(GetQueue(self.name))

    async def consumers(self) -> list[QueueConsumer]:
        """Who receives, and how that goes."""
        return await self._driver.run(all_pages(lambda token: ListConsumers(self.name, token)))

    def worker(
        self,
        *,
        concurrency: int = 1,
        visibility_timeout: Duration = "30s",
        timeout: Duration | None = None,
        drain: Duration = "30s",
        consumer: str | None = None,
    ) -> "Callable[[Callable[Given, Returned]], Worker[Given, Returned]]":
        """Make a function the queue's worker: ``@queue.worker(concurrency=8)``. It runs with the client's ``run``.

        The function takes a message, decoded as its annotation says (a msgspec struct, dataclass, dict, str, bytes or
        ``Delivery``), and perhaps a ``Context``; one that is not async runs in a thread. Returning acknowledges; an
        exception is a failure, but ``Retry`` and ``DeadLetter`` say what they want. Leases are extended while it runs, for
        at most ``timeout``. Raises InvalidRequest for a function that cannot be one.
        """
        slots = SlotOptions.of(concurrency, timeout, drain)
        options = WorkerOptions(slots, to_ms(visibility_timeout), consumer or self._consumer)

        def made(handler: Callable[Given, Returned]) -> Worker[Given, Returned]:
            return self._driver.working(Worker(self._driver, self.name, handler, options))

        return made

    async def purge(self, *, before: Instant | None = None) -> None:
        """Drop everything that waits, or what was sent before an instant; leases are void, dead letters stay."""
        await self._driver(Purge(self.name, None if before is None else instant_ms(before)))

    async def pause(self) -> None:
        """Deliver nothing until it is resumed."""
        await self._driver(SetPaused(self.name, True))

    async def resume(self) -> None:
        """Deliver again."""
        await self._driver(SetPaused(self.name, False))
