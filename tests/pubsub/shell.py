"""A subscription without doors: the use cases on an embedded engine in memory, with a clock that is moved by hand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from logbroker.broker.positions import EARLIEST
from logbroker.broker.subscriptions import Target
from logbroker.clock import ManualClock
from logbroker.log.files import Files
from logbroker.pubsub.settings import SubscriptionSettings
from logbroker.pubsub.subscription import Subscription
from tests.queues.shell import Shell, started, stopped, texts


class Reader(Shell):
    """One subscription of a running broker, over topic ``news`` where nothing else is said."""

    @property
    def queue(self) -> Subscription:
        return self.services.subscriptions.get(self.name)

    async def subscribe(self, start: Target = EARLIEST, **settings: Any) -> Subscription:
        wanted = msgspec.convert({"topic": "news", **settings}, SubscriptionSettings)
        return (await self.services.subscriptions.ensure(self.name, wanted, start))[0]

    async def alter(self, **changes: Any) -> None:
        await self.services.subscriptions.alter(self.name, changes)

    async def take(self, limit: int = 100) -> list[str]:
        """Receive and acknowledge."""
        taken: list[str] = []
        while received := await self.receive(limit):
            taken += texts(received)
            await self.ack(*received)
        return taken

    def other(self, name: str) -> "Reader":
        """Another subscription of the same broker."""
        return Reader(self.services, self.clock, name)


@asynccontextmanager
async def reading(files: Files, clock: ManualClock, name: str = "audit") -> AsyncIterator[Reader]:
    """A broker on files, stopped at the end."""
    engine, services = await started(files, clock)
    try:
        yield Reader(services, clock, name)
    finally:
        await stopped(engine, services)
