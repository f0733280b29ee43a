"""Waiting for new records, bounded by time and by the end of the broker.

What lives here: the one place where a read waits. What may not: reading. Invariant: nothing is left behind, however the
wait ends: the engine's waiter is cancelled with it, also when the caller is cancelled because its client has gone.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from logbroker.engine.api import Engine, Isolation
from logbroker.errors import Recovering
from logbroker.metrics import Metrics
from logbroker.model import TopicPartition

T = TypeVar("T")


class Waiting:
    """Waits for changes of partitions; ``count`` says how many callers wait now."""

    def __init__(self, engine: Engine, closing: asyncio.Event, metrics: Metrics) -> None:
        self._engine = engine
        self._closing = closing
        self.count = 0
        metrics.gauge("long_polls_waiting", "Requests that wait for records.", read=lambda: self.count)

    @property
    def closing(self) -> bool:
        """Whether waiting is over for everybody."""
        return self._closing.is_set()

    async def changed(
        self,
        positions: Mapping[TopicPartition, int],
        timeout_ms: float,
        isolation: Isolation = Isolation.READ_UNCOMMITTED,
    ) -> bool:
        """Whether something can be read past one of ``positions``, within ``timeout_ms`` and before the broker stops."""
        if timeout_ms <= 0 or self.closing:
            return False
        change = asyncio.ensure_future(self._engine.changed(positions, isolation))
        stop = asyncio.ensure_future(self._closing.wait())
        self.count += 1
        try:
            done, _ = await asyncio.wait((change, stop), timeout=timeout_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
            return change in done and change.exception() is None
        finally:
            self.count -= 1
            change.cancel()
            stop.cancel()

    async def for_end(self, timeout_ms: float) -> None:
        """Wait for the end of the broker, or for ``timeout_ms``."""
        if timeout_ms > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), timeout_ms / 1000)

    async def while_open(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of ``work``. Raises Recovering when the broker stops first; ``work`` is cancelled then."""
        working = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((working, stop), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Recovering("the broker is stopping")
            return await working
        finally:
            working.cancel()
            stop.cancel()
