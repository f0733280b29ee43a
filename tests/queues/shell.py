"""Queues without doors: the use cases on an embedded engine in memory, with a clock that is moved by hand."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from logbroker.broker.queue_sends import QueueMessage, SendOutcome
from logbroker.broker.services import Services, services_on
from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.errors import LogbrokerError
from logbroker.log.files import Files
from logbroker.model import Header, Record, TopicPartition
from logbroker.queues.dispatcher import Dispatcher, Received, Sent, Want
from logbroker.queues.settings import QueueSettings


class Shell:
    """One queue of a running broker."""

    def __init__(self, services: Services, clock: ManualClock, name: str = "jobs") -> None:
        self.services = services
        self.clock = clock
        self.name = name

    @property
    def queue(self) -> Dispatcher:
        return self.services.queues.get(self.name)

    async def publish(self, *values: str, topic: str = "news", partition: int = 0, **fields: Any) -> int:
        """Append to a topic, which is made if there is none; the offset of the first."""
        if topic not in {info.name for info in self.services.engine.topics()}:
            await self.services.engine.create_topic(topic, 1, {})
        records = [Record(value.encode(), **fields) for value in values]
        return (await self.services.engine.append(TopicPartition(topic, partition), records)).base_offset

    async def create(self, **settings: Any) -> None:
        await self.services.queues.ensure(self.name, msgspec.convert(settings, QueueSettings))

    async def try_send(self, *values: str, key: str | None = None, **fields: Any) -> list[SendOutcome]:
        headers: Sequence[Header] = fields.pop("headers", ())
        records = [Record(one.encode(), None if key is None else key.encode(), tuple(headers)) for one in values]
        return await self.services.queue_sends.send(self.name, [QueueMessage(record, **fields) for record in records])

    async def send(self, *values: str, **fields: Any) -> list[Sent]:
        outcomes = await self.try_send(*values, **fields)
        for outcome in outcomes:
            assert isinstance(outcome, Sent), outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Sent)]

    async def receive(self, limit: int = 1, wait_ms: int = 0, **fields: Any) -> list[Received]:
        return await self.queue.receive(Want(limit, **fields), wait_ms)

    async def one(self, **fields: Any) -> Received:
        [received] = await self.receive(**fields)
        return received

    async def ack(self, *received: Received) -> list[LogbrokerError | None]:
        return await self.queue.settle.ack([one.receipt for one in received])

    async def nack(
        self, received: Received, delay_ms: int | None = None, error: str | None = None
    ) -> LogbrokerError | None:
        [outcome] = await self.queue.settle.nack([(received.receipt, delay_ms, error)])
        return outcome

    async def reject(self, received: Received, reason: str = "bad") -> LogbrokerError | None:
        [outcome] = await self.queue.settle.reject([(received.receipt, reason)])
        return outcome

    async def advance(self, ms: int) -> None:
        """Let time pass, and what it leads to happen."""
        self.clock.advance(ms)
        self.queue.wake()
        await settled()


async def settled() -> None:
    """Let everything that is under way come to its end."""
    for _ in range(20):
        await asyncio.sleep(0.001)


async def started(files: Files, clock: ManualClock) -> tuple[EmbeddedEngine, Services]:
    """A broker on files."""
    engine = EmbeddedEngine(files, BrokerConfig(), TopicConfig(), clock)
    await engine.start()
    services = services_on(engine, clock, BrokerConfig(), "cluster")
    await services.queues.start()
    await services.snapshots.start()
    await services.subscriptions.start()
    await services.operations.start()
    return engine, services


async def stopped(engine: EmbeddedEngine, services: Services) -> None:
    """Stop it in order."""
    await services.operations.stop()
    await services.subscriptions.stop()
    await services.snapshots.stop()
    await services.queues.stop()
    await engine.stop()


@asynccontextmanager
async def running(files: Files, clock: ManualClock, name: str = "jobs") -> AsyncIterator[Shell]:
    """A broker on files, stopped at the end."""
    engine, services = await started(files, clock)
    try:
        yield Shell(services, clock, name)
    finally:
        await stopped(engine, services)


def texts(received: Sequence[Received]) -> list[str]:
    """The values of deliveries."""
    return [(one.value or b"").decode() for one in received]


async def waiting(shell: Shell) -> "asyncio.Task[list[str]]":
    """A long poll for one message, under way."""

    async def receive() -> list[str]:
        return texts(await shell.receive(1, 20_000))

    task = asyncio.create_task(receive())
    await settled()
    assert not task.done()
    return task
