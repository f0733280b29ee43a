"""``lb.consumer(topic, group=...)``: records of a group, as a member of it.

What lives here: when to read on, the heartbeat, and the end. What may not: what may be committed (``membership``).
A thread of its own says that the member lives while the caller works on what it was given.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from logbroker.client.blocking.driver import Driver
from logbroker.client.calls.groups import GetLag, GroupLag
from logbroker.client.calls.records import Record
from logbroker.client.durations import Duration, Instant, to_ms
from logbroker.client.flows import Flow
from logbroker.client.membership import Membership
from logbroker.client.positions import Place, target_of
from logbroker.errors import Closed, LogbrokerError
from logbroker.model import TopicPartition

WAIT_MS = 500
"""How long one poll waits: a consumer that another thread closes ends within this time."""


class Consumer:
    """A member of a consumer group. Use it as a context; leaving it commits what is finished, and leaves the group.

    With ``commit="after"`` a record is finished when the loop asks for the next; one whose loop body raised or broke off is
    not, and is given again to whoever reads on. With ``"manual"`` only ``commit`` commits.
    """

    def __init__(self, driver: Driver, membership: Membership) -> None:
        self._driver = driver
        self._membership = membership
        self._turn = threading.Lock()
        self._closing = threading.Event()
        self._came_back = threading.Event()
        self._came_back.set()
        self._reader: threading.Thread | None = None
        """The thread that works on what it was given."""
        self._heart: threading.Thread | None = None
        self._is_open = False

    def __enter__(self) -> Self:
        if self._is_open or self._closing.is_set():
            raise Closed("a consumer is entered once: make another")
        self._is_open = True
        self._driver.opened(self, self.close)
        self._heart = threading.Thread(target=self._beat, name=f"heartbeat in {self._membership.group}", daemon=True)
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reader = None
        self._came_back.set()
        try:
            self.close()
        except LogbrokerError:
            if error is None:
                raise

    def close(self) -> None:
        """End the loops over this consumer, commit what is finished, and leave the group.

        A loop in another thread that works on a record finishes it first.
        """
        self._closing.set()
        worker = self._reader
        if worker is not None and worker is not threading.current_thread():
            while worker.is_alive() and not self._came_back.wait(0.1):
                pass
        if not self._is_open:
            return
        self._is_open = False
        self._driver.closed(self)
        if self._heart is not None:
            self._heart.join()
        with self._turn:
            self._driver.run(self._membership.leave())

    # -- reading ---------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Record:
        records = self._next(1, None)
        if not records:
            raise StopIteration
        return records[0]

    def batches(self, max_records: int = 500, max_wait: Duration = 0.5) -> Iterator[list[Record]]:
        """Records in batches: as many as come within ``max_wait`` of the first. A batch is finished as a whole."""
        wait_s = to_ms(max_wait) / 1_000
        while batch := self._next(max_records, wait_s):
            yield batch

    def _next(self, count: int, gather_s: float | None) -> list[Record]:
        """The next records, none at the end. With ``gather_s`` more are waited for so long."""
        with self._turn:
            self._membership.finish()
        self._reader = None
        self._came_back.set()
        if not self._is_open and not self._closing.is_set():
            raise Closed("a consumer is used inside its context")
        taken: list[Record] = []
        until: float | None = None
        while not self._closing.is_set() and len(taken) < count:
            with self._turn:
                taken += self._membership.take(count - len(taken))
            if taken and until is None:
                until = time.monotonic() + (gather_s or 0)
            left_ms = WAIT_MS if until is None else int((until - time.monotonic()) * 1_000)
            if len(taken) >= count or left_ms <= 0:
                break
            self._run(self._membership.fill(min(left_ms, WAIT_MS), max(count, 500)))
        if self._closing.is_set():
            return []
        self._came_back.clear()
        self._reader = threading.current_thread()
        return taken

    def _run(self, flow: Flow[None]) -> None:
        with self._turn:
            self._driver.run(flow)

    def _beat(self) -> None:
        while not self._closing.wait(self._membership.heartbeat_interval_s):
            if not self._turn.locked():  # else a poll is under way, which is a heartbeat
                with suppress(LogbrokerError):
                    self._run(self._membership.beat())

    # -- where it stands -------------------------------------------------------------------------------------------------

    @property
    def assignment(self) -> Sequence[TopicPartition]:
        """The partitions this member reads, as of the last read."""
        return self._membership.assignment

    def commit(self, record: Record | None = None) -> None:
        """Commit up to and with ``record``, or all that was given; durable on return.

        Raises UnknownMember, IllegalGeneration and RebalanceInProgress when others may have the partition by now.
        """
        self._run(self._membership.commit(record))

    def seek(
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
        self._run(self._membership.seek(None if partition is None else [partition], target))

    def pause(self, *partitions: int) -> None:
        """Stop reading these partitions, or all, but keep them."""
        self._run(self._membership.set_reading(partitions or None, paused=True))

    def resume(self, *partitions: int) -> None:
        """Go on reading these partitions, or all."""
        self._run(self._membership.set_reading(partitions or None, paused=False))

    def lag(self) -> GroupLag:
        """How far the group is behind. Raises GroupNotFound before it has read."""
        return self._driver(GetLag(self._membership.group))
