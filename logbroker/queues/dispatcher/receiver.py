"""Leasing messages to whoever asks: from which partition, how many, and waiting for them.

What lives here: the order of partitions, the in-flight cap, long polls, repeated receives. What may not: which message of
a partition comes next, which is the lease machine's.
Invariants: a caller that leaves before it has its messages leaves no lease behind; a message on its last attempt is
delivered alone; above the cap nothing is delivered for the first time, but what comes back still is.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from logbroker.clock import Clock
from logbroker.errors import LogbrokerError
from logbroker.queues import commands as c
from logbroker.queues.attempts import ReceiveAttempts
from logbroker.queues.bands import BandChoice, PriorityMode, band_of
from logbroker.queues.dispatcher.bell import Bell
from logbroker.queues.dispatcher.partition import QueuePartition
from logbroker.queues.dispatcher.receiving import Want
from logbroker.queues.positions import Receipt
from logbroker.queues.redelivery import last_attempt
from logbroker.queues.settings import QueueSettings

Leased = tuple[QueuePartition, c.Delivery]


class Receiver:
    """The receives of one queue."""

    def __init__(self, partitions: Sequence[QueuePartition], settings: QueueSettings, clock: Clock) -> None:
        self.bell = Bell()
        self.is_paused = False
        self._partitions = partitions
        self._settings = settings
        self._clock = clock
        self._choice = BandChoice(PriorityMode(settings.priority_mode), settings.priorities)
        self._attempts = ReceiveAttempts()
        self._attempting: dict[str, asyncio.Lock] = {}
        self._turn = 0
        self._granting = 0

    def configure(self, settings: QueueSettings) -> None:
        """Other settings from now on."""
        if settings.priority_mode != self._settings.priority_mode:
            self._choice = BandChoice(PriorityMode(settings.priority_mode), settings.priorities)
        self._settings = settings
        self.bell.ring_all()

    async def receive(self, want: Want, wait_s: float, closing: Callable[[], bool]) -> list[Leased]:
        """Messages, or none once the time is over. A caller that is cancelled has leased nothing."""
        if want.attempt_id is None:
            return await self._received(want, wait_s, closing)
        lock = self._attempting.setdefault(want.attempt_id, asyncio.Lock())
        try:
            async with lock:
                return await self._repeated(want.attempt_id, want, wait_s, closing)
        finally:
            if not lock.locked():
                self._attempting.pop(want.attempt_id, None)

    async def _repeated(self, attempt_id: str, want: Want, wait_s: float, closing: Callable[[], bool]) -> list[Leased]:
        given = self._attempts.given(attempt_id, self._clock.now().mono_ms)
        held = await self._still_held(given or ())
        if held:
            return held
        leased = await self._received(want, wait_s, closing)
        if leased:
            receipts = tuple(delivery.receipt for _, delivery in leased)
            self._attempts.remember(attempt_id, receipts, self._clock.now().mono_ms)
        return leased

    async def _still_held(self, receipts: Sequence[Receipt]) -> list[Leased]:
        held: list[Leased] = []
        now = self._clock.now()
        for receipt in receipts:
            partition = self._partitions[receipt.partition]
            lease = partition.machine.lease(receipt.number)
            if lease is None or (lease.run, lease.grant.position) != (receipt.run, receipt.position):
                continue
            for message in await partition.messages_at([receipt.position]):
                expires_ms = now.wall_ms + lease.deadline - now.mono_ms
                held.append((partition, c.Delivery(message, receipt, lease.grant.deliveries, expires_ms)))
        return held

    async def _received(self, want: Want, wait_s: float, closing: Callable[[], bool]) -> list[Leased]:
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while True:
            noted = self.bell.rings
            if not self.is_paused:
                leased = await self._unbroken(want)
                if leased:
                    self.bell.ring()  # there may be more, for whoever waits next
                    return leased
            left = until - loop.time()
            if left <= 0 or closing():
                return []
            if self.is_paused or not any(partition.is_behind for partition in self._partitions):
                await self.bell.wait(noted, left)

    async def _unbroken(self, want: Want) -> list[Leased]:
        """Lease in a task of its own: a caller that leaves meanwhile has its messages given back."""
        taking = asyncio.ensure_future(self._take(want))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._take_back)
            raise

    def _take_back(self, taking: "asyncio.Future[list[Leased]]") -> None:
        if not taking.cancelled() and taking.exception() is None:
            self.give_back(taking.result())

    def give_back(self, leased: Sequence[Leased]) -> None:
        """Release what nobody will ever hear of."""
        for partition, group in groupby(leased, key=lambda one: one[0]):
            receipts = tuple(delivery.receipt for _, delivery in group)
            task = asyncio.ensure_future(partition.ask(c.Release(receipts)))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    # -- choosing --------------------------------------------------------------------------------------------------------

    async def _take(self, want: Want) -> list[Leased]:
        leased: list[Leased] = []
        lease_ms = self._settings.visibility_timeout_ms if want.lease_ms is None else want.lease_ms
        for partition in await self._in_order():
            left = want.limit - len(leased)
            if left <= 0:
                break
            await partition.feed(left)
            if not partition.machine.available(self._clock.now()):
                continue
            fresh = max(0, min(left, self._settings.max_in_flight - self.in_flight - self._granting))
            self._granting += fresh
            try:
                deliveries = await partition.ask(c.Acquire(want.consumer, lease_ms, left, fresh, in_company=bool(leased)))
            except LogbrokerError:
                if leased:
                    break  # what is leased already is given to the caller
                raise
            finally:
                self._granting -= fresh
            leased += [(partition, delivery) for delivery in deliveries]
            if any(last_attempt(self._settings.max_attempts, one.message.failures) for one in deliveries):
                break
        return leased

    @property
    def in_flight(self) -> int:
        """How many messages of all partitions are leased."""
        return sum(partition.machine.in_flight for partition in self._partitions)

    async def _in_order(self) -> list[QueuePartition]:
        """The partitions that may have something: the band whose turn it is first, then the others from high to low.

        Within a band each receive begins with another partition.
        """
        bands: dict[int, list[QueuePartition]] = {}
        for partition in self._rotated():
            if await partition.has_something():
                bands.setdefault(band_of(partition.number, self._settings.priorities), []).append(partition)
        if not bands:
            return []
        first = self._choice.choose(bands) if len(bands) > 1 else next(iter(bands))
        others = sorted(bands.keys() - {first}, reverse=True)
        return [partition for band in (first, *others) for partition in bands[band]]

    def _rotated(self) -> Iterator[QueuePartition]:
        self._turn = (self._turn + 1) % len(self._partitions)
        yield from self._partitions[self._turn :]
        yield from self._partitions[: self._turn]
