"""Deliveries that go on by themselves: one consumer, and a bound on what of it is not settled.

What lives here: how much may be delivered now. What may not: how deliveries are written, leases.
Invariants: at most ``limit`` deliveries of one stream are leased at a time, however they are settled; a stream that ends
gives back what is still leased, without counting.
"""

import asyncio
from collections.abc import Sequence

from logbroker.queues.dispatcher.dispatcher import Dispatcher
from logbroker.queues.dispatcher.receiving import Received, Want

AT_ONCE = 100
"""How many deliveries come together at most."""


class Stream:
    """One stream of deliveries. ``give_back`` has to follow."""

    def __init__(self, dispatcher: Dispatcher, consumer: str, limit: int, lease_ms: int | None = None) -> None:
        self._dispatcher = dispatcher
        self._consumer = consumer
        self._limit = limit
        self._lease_ms = lease_ms
        self._loop = asyncio.get_running_loop()
        self._outstanding: list[Received] = []

    @property
    def is_over(self) -> bool:
        """Whether nothing will come any more, because the broker or the view ends."""
        return self._dispatcher.closing

    async def next(self, wait_s: float) -> Sequence[Received]:
        """The next deliveries; none when the time is over, or the stream."""
        until = self._loop.time() + wait_s
        room = await self._room(until)
        if room <= 0:
            return ()
        want = Want(min(room, AT_ONCE), self._lease_ms, self._consumer)
        left_ms = max(0, int((until - self._loop.time()) * 1_000))
        received = await self._dispatcher.receive(want, left_ms)
        self._outstanding += received
        return received

    async def _room(self, until: float) -> int:
        while not self.is_over:
            noted = self._dispatcher.settled.rings
            self._forget_settled()
            room = self._limit - len(self._outstanding)
            left = until - self._loop.time()
            if room > 0 or left <= 0:
                return room
            await self._dispatcher.settled.wait(noted, left)
        return 0

    def _forget_settled(self) -> None:
        leased = self._dispatcher.is_leased
        self._outstanding = [one for one in self._outstanding if leased(one.receipt)]

    async def give_back(self) -> None:
        """Release what is still leased."""
        self._forget_settled()
        given, self._outstanding = self._outstanding, []
        if given:
            await asyncio.shield(asyncio.ensure_future(self._dispatcher.give_back(given)))
