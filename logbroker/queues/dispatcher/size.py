"""How much is in a queue, and whether there is room for more.

What lives here: the counts, and the bound on sends. What may not: receiving.
Invariant: sends through the queue never bring it above ``max_size``; what is expired has left before it is called full.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from logbroker.clock import Clock
from logbroker.errors import QueueFull
from logbroker.queues.acquire import MAX_EXPIRING
from logbroker.queues.dispatcher.partition import QueuePartition
from logbroker.queues.positions import Source

EXPIRY_WAIT_S = 1.0
"""How long a send to a full queue waits for expired messages to leave it."""
_LOOK_AGAIN_S = 0.005


class Counts(NamedTuple):
    """How many messages are where. ``parked`` ones wait behind an earlier one of their key and are part of ``ready``."""

    ready: int
    in_flight: int
    delayed: int
    retrying: int
    dead: int
    parked: int

    @property
    def backlog(self) -> int:
        """All but the dead letters."""
        return self.ready + self.in_flight + self.delayed + self.retrying


class QueueSize:
    """The size of one queue."""

    def __init__(self, partitions: Sequence[QueuePartition], clock: Clock, max_size: int | None) -> None:
        self.max_size = max_size
        self._partitions = partitions
        self._clock = clock
        self._reserved = 0

    @asynccontextmanager
    async def room_for(self, count: int) -> AsyncIterator[None]:
        """Room for ``count`` more messages, until they are written. Raises QueueFull."""
        limit = self.max_size
        if limit is not None and await self._depth() + self._reserved + count > limit:
            await self._expire()
            if await self._depth() + self._reserved + count > limit:
                raise QueueFull(
                    f"the queue takes {limit} messages: receive some, or raise max_size",
                    max_size=limit,
                )
        self._reserved += count
        try:
            yield
        finally:
            self._reserved -= count

    async def _depth(self) -> int:
        """How many messages are not done; dead letters are."""
        return sum([await self._open(partition) for partition in self._partitions])

    async def _open(self, partition: QueuePartition) -> int:
        return partition.machine.backlog(await partition.end()) + partition.machine.retries

    async def _expire(self) -> None:
        """Let messages leave whose time to live is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXPIRY_WAIT_S):
                for partition in self._partitions:
                    await partition.feed(MAX_EXPIRING)
                    while partition.machine.expiring(self._clock.now()):
                        await asyncio.sleep(_LOOK_AGAIN_S)
                        await partition.feed(MAX_EXPIRING)

    async def counts(self) -> Counts:
        """How many messages are where."""
        now = self._clock.now()
        total = in_flight = delayed = retrying = dead = parked = 0
        for partition in self._partitions:
            machine = partition.machine
            total += await self._open(partition)
            waiting, failed = machine.undue(now)
            in_flight, delayed, retrying = in_flight + machine.in_flight, delayed + waiting, retrying + failed
            dead, parked = dead + machine.dead, parked + machine.parked
        return Counts(max(0, total - in_flight - delayed - retrying), in_flight, delayed, retrying, dead, parked)

    async def oldest_age_ms(self) -> int:
        """The age of the oldest message that is not done and was never moved to the retry topic; 0 when there is none."""
        ages = [await self._age_ms(partition) for partition in self._partitions]
        return max(ages, default=0)

    async def _age_ms(self, partition: QueuePartition) -> int:
        end = await partition.end()
        first = partition.machine.floor(Source.SOURCE)
        records = await partition.records_at(Source.SOURCE, [first]) if first < end else []
        return max(0, self._clock.now().wall_ms - records[0].timestamp_ms) if records else 0
