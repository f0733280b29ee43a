"""``lb.consumer(topic, group=...)``: records of a group, as a member of it.

What lives here: when to read on, the heartbeat, and the end. What may not: what may be committed (``membership``).
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Self

from logbroker.client.aio.driver import Driver
from logbroker.client.calls.groups import GetLag, GroupLag
from logbroker.client.calls.records import Record
from logbroker.client.durations import Duration, Instant, to_ms
from logbroker.client.flows import Flow
from logbroker.client.membership import Membership
from logbroker.client.positions import Place, target_of
from logbroker.errors import Closed, LogbrokerError
from logbroker.model import TopicPartition

WAIT_MS = 10_000


class AsyncConsumer:
    """A member of a consumer group. Use it as a context; leaving it commits what is finished, and leaves the group.

    With ``commit="after"`` a record is finished when the loop asks for the next; one whose loop body raised or broke off is
    not, and is given again to whoever reads on. With ``"manual"`` only ``commit`` commits.
    """

    def __init__(self, driver: Driver, membership: Membership) -> None:
        self._driver = driver
        self._membership = membership
        self._turn = asyncio.Lock()
        self._closing = asyncio.Event()
        self._came_back = asyncio.Event()
        self._reader: asyncio.Task[object] | None = None
        """The task that works on what it was given."""
        self._heart: asyncio.Task[None] | None = None
        self._is_open = False

    async def __aenter__(self) -> Self:
        if self._is_open or self._closing.is_set():
            raise Closed("a consumer is entered once: make another")
        self._is_open = True
        self._driver.opened(self, self.close)
        self._heart = asyncio.create_task(self._beat(), name=f"heartbeat in {self._membership.group}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reader = None
        try:
            await self.close()
        except LogbrokerError:
            if error is None:
                raise

    async def close(self) -> None:
        """End the loops over this consumer, commit what is finished, and leave the group.

        A loop in another task that works on a record finishes it first.
        """
        self._closing.set()
        worker = self._reader
        if worker is not None and worker is not asyncio.current_task():
            back = asyncio.ensure_future(self._came_back.wait())
            await asyncio.wait((worker, back), return_when=asyncio.FIRST_COMPLETED)
            back.cancel()
        if not self._is_open:
            return
        self._is_open = False
        self._driver.closed(self)
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.wait([self._heart])
        async with self._turn:
            await self._driver.run(self._membership.leave())

    # -- reading ---------------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        records = await self._next(1, None)
        if not records:
            raise StopAsyncIteration
        return records[0]

    async def batches(self, max_records: int = 500, max_wait: Duration = 0.5) -> AsyncGenerator[list[Record], None]:
        """Records in batches: as many as come within ``max_wait`` of the first. A batch is finished as a whole."""
        wait_s = to_ms(max_wait) / 1_000
        while batch := await self._next(max_records, wait_s):
            yield batch

    async def _next(self, count: int, gather_s: float | None) -> list[Record]:
        """The next records, none at the end. With ``gather_s`` more are waited for so long."""
        self._membership.finish()
        self._reader = None
        self._came_back.set()
        if not self._is_open and not self._closing.is_set():
            raise Closed("a consumer is used inside its context")
        taken: list[Record] = []
        loop = asyncio.get_running_loop()
        until: float | None = None
        while not self._closing.is_set() and len(taken) < count:
            taken += self._membership.take(count - len(taken))
            if taken and until is None:
                until = loop.time() + (gather_s or 0)
            left_s = WAIT_MS / 1_000 if until is None else until - loop.time()
            if len(taken) >= count or left_s <= 0:
                break
            await self._fill(int(left_s * 1_000), count)
        if self._closing.is_set():
            return []
        self._came_back.clear()
        self._reader = asyncio.current_task()
        return taken

    async def _fill(self, wait_ms: int, count: int) -> None:
        """Read on, unless the consumer is closed meanwhile."""
        filling = asyncio.ensure_future(self._run(self._membership.fill(wait_ms, max(count, 500))))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((filling, closing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            if not filling.done():
                filling.cancel()
                await asyncio.wait([filling])
        if not filling.cancelled():
            filling.result()

    async def _run(self, flow: Flow[None]) -> None:
        async with self._turn:
            await self._driver.run(flow)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._membership.heartbeat_interval_s)
            if not self._turn.locked():  # else a poll is under way, which is a heartbeat
                with contextlib.suppress(LogbrokerError):
                    await self._run(self._membership.beat())

    # -- where it stands -------------------------------------------------------------------------------------------------

    @property
    def assignment(self) -> Sequence[TopicPartition]:
        """The partitions this member reads, as of the last read."""
        return self._membership.assignment

    async def commit(self, record: Record | None = None) -> None:
        """Commit up to and with ``record``, or all that was given; durable on return.

        Raises UnknownMember, IllegalGeneration and RebalanceInProgress when others may have the partition by now.
        """
        await self._run(self._membership.commit(record))

    async def seek(
        self,
        partition: int | None = None,
        *,
        offset: int | None = None,
        timestamp: Instant | None = None,
        at: Place | None = None,
    ) -> None:
        """Read on elsewhere, in one partition or all that are assigned: at an offset, a time, the start or the end.

        Raises IllegalGeneration for a partition that is not assigned, InvalidRequest.
        """
        target = target_of(offset, timestamp, at)
        await self._run(self._membership.seek(None if partition is None else [partition], target))

    async def pause(self, *partitions: int) -> None:
        """Stop reading these partitions, or all, but keep them."""
        await self._run(self._membership.set_reading(partitions or None, paused=True))

    async def resume(self, *partitions: int) -> None:
        """Go on reading these partitions, or all."""
        await self._run(self._membership.set_reading(partitions or None, paused=False))

    async def lag(self) -> GroupLag:
        """How far the group is behind. Raises GroupNotFound before it has read."""
        return await self._driver(GetLag(self._membership.group))
