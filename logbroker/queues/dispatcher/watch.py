"""What wakes a long poll: new records, messages that become due, and whatever the machines decide.

What lives here: the watching. What may not: leasing.
Invariants: nothing is watched while nobody waits; the same new records wake only once (what one waiter leaves, the next
is woken for by him), so a queue at its in-flight cap does not spin.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from logbroker.clock import Clock
from logbroker.engine.api import Engine, Isolation
from logbroker.errors import LogbrokerError
from logbroker.queues.dispatcher.bell import Bell
from logbroker.queues.dispatcher.partition import QueuePartition

_RETRY_S = 1.0


class Watch:
    """Rings the bell of a queue."""

    def __init__(self, engine: Engine, clock: Clock, partitions: Sequence[QueuePartition], bell: Bell) -> None:
        self._engine = engine
        self._clock = clock
        self._partitions = partitions
        self._bell = bell
        self._look_again = asyncio.Event()

    def look_again(self) -> None:
        """Something happened that changes what is due when, or where reading goes on."""
        self._look_again.set()

    async def run(self) -> None:
        """Ring whenever there may be something, as long as somebody waits; never returns."""
        while True:
            await self._bell.somebody.wait()
            self._look_again.clear()
            try:
                await self._until_something()
            except LogbrokerError:
                await asyncio.sleep(_RETRY_S)  # the waiters learn of it when they look themselves
            self._bell.ring()

    async def _until_something(self) -> None:
        positions = {
            partition.place.source: max(intake, partition.noticed)
            for partition in self._partitions
            if (intake := partition.machine.intake) is not None
        }
        change = asyncio.ensure_future(
            self._engine.changed(positions, Isolation.READ_COMMITTED) if positions else asyncio.Event().wait()
        )
        again = asyncio.ensure_future(self._look_again.wait())
        try:
            await asyncio.wait((change, again), timeout=self._until_due_s(), return_when=asyncio.FIRST_COMPLETED)
            if change.done():
                change.result()
        finally:
            for waiting in (change, again):
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError, LogbrokerError):
                    await waiting
        for partition in self._partitions:
            partition.noticed = await partition.end()

    def _until_due_s(self) -> float | None:
        now = self._clock.now().wall_ms
        dues = (partition.machine.next_due_ms() for partition in self._partitions)
        first = min((due for due in dues if due is not None and due > now), default=None)
        return None if first is None else (first - now) / 1_000
