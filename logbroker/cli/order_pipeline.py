"""The order pipeline of ``demo orders``: four queues, a worker on each, and the bank that is down for one card in five.

What lives here: the queues, the handlers, and running them once. What may not: printing, the verdict.
Invariant: each stage hands on before it acknowledges, under a deduplication id, so a crash between the two doubles nothing.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from logbroker.client.aio.client import AsyncClient
from logbroker.client.aio.worker import Worker
from logbroker.errors import QueueFull

_FULL_REST_S = 0.02


class Stage(NamedTuple):
    """One queue of the pipeline, and how many of its handlers run at a time."""

    name: str
    max_size: int
    max_attempts: int
    visibility_timeout: str
    message_ttl: str
    concurrency: int


STAGES = (
    Stage("orders", 100, 3, "30s", "5m", 3),
    Stage("payments", 50, 5, "60s", "10m", 2),
    Stage("fulfillment", 100, 3, "30s", "5m", 3),
    Stage("notifications", 200, 2, "10s", "1m", 5),
)


class Order(msgspec.Struct):
    """An order on its way; ``card`` decides whether its bank answers."""

    id: int
    card: int


class BankDown(Exception):
    """The bank of a card does not answer."""


class Pipeline:
    """The handlers, and what has happened to orders so far. ``bank_is_up`` is switched by whoever runs it."""

    def __init__(self, lb: AsyncClient, prefix: str) -> None:
        self.lb = lb
        self.prefix = prefix
        self.bank_is_up = False
        self.delivered: Counter[int] = Counter()
        self.calls: Counter[str] = Counter()
        """How often each stage's handler ran."""

    def name(self, stage: Stage) -> str:
        """The name of a stage's queue."""
        return self.prefix + stage.name

    async def declare(self) -> None:
        """Make the queues. Raises ConfigConflict where one is there with other settings."""
        for stage in STAGES:
            await self.lb.queues.create(
                self.name(stage),
                max_size=stage.max_size,
                max_attempts=stage.max_attempts,
                visibility_timeout=stage.visibility_timeout,
                message_ttl=stage.message_ttl,
                retry={"policy": "exponential", "initial": "100ms", "factor": 2},
            )

    async def remove(self) -> None:
        """Delete the queues."""
        for stage in STAGES:
            await self.lb.queues.delete(self.name(stage))

    async def place(self, count: int) -> None:
        """Put orders in, waiting where the queue is full, as whoever takes orders would."""
        for number in range(1, count + 1):
            await self._sent(STAGES[0], Order(number, card=number))

    @asynccontextmanager
    async def running(self) -> "AsyncGenerator[list[Worker[..., Any]], None]":
        """All workers at work while the context lasts."""
        handlers = (self._accept, self._charge, self._ship, self._notify)
        async with AsyncExitStack() as stack:
            workers = []
            for stage, handler in zip(STAGES, handlers, strict=True):
                queue = self.lb.queue(self.name(stage))
                made = queue.worker(concurrency=stage.concurrency, visibility_timeout=stage.visibility_timeout)
                worker: Worker[..., Any] = made(handler)
                workers.append(worker)
                await stack.enter_async_context(worker.running())
            yield workers

    async def is_idle(self) -> bool:
        """Whether no order is anywhere but delivered or among the dead letters."""
        for stage in STAGES:
            counts = (await self.lb.queue(self.name(stage)).stats()).counts
            if counts.ready or counts.in_flight or counts.delayed or counts.retrying:
                return False
        return True

    # -- the handlers ----------------------------------------------------------------------------------------------------

    async def _accept(self, order: Order) -> None:
        self.calls["orders"] += 1
        await self._sent(STAGES[1], order)

    async def _charge(self, order: Order) -> None:
        self.calls["payments"] += 1
        if order.card % 5 == 0 and not self.bank_is_up:
            raise BankDown(f"the bank of card {order.card % 10} does not answer")
        await self._sent(STAGES[2], order)

    async def _ship(self, order: Order) -> None:
        self.calls["fulfillment"] += 1
        await self._sent(STAGES[3], order)

    async def _notify(self, order: Order) -> None:
        self.calls["notifications"] += 1
        self.delivered[order.id] += 1

    async def _sent(self, stage: Stage, order: Order) -> None:
        """Hand an order to a stage, waiting while its queue is full: that slows down whoever is before it."""
        while True:
            try:
                await self.lb.queue(self.name(stage)).send(order, key=str(order.id), dedup_id=f"{stage.name}-{order.id}")
            except QueueFull:
                await asyncio.sleep(_FULL_REST_S)
            else:
                return
