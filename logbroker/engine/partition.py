"""One partition as the embedded engine runs it: a log, and those who wait for it.

What lives here: who waits for a flush or for new records, the holds below which nothing is deleted, the claim of a writer.
What may not: file access, topics, decoding.
Invariant: ``high_watermark`` is what the topic's durability acknowledges; readers, waiters and answers all go by it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from logbroker.config import INT64_MAX, TopicConfig
from logbroker.engine.api import DamagedRange, Isolation
from logbroker.engine.flusher import Flusher, Ticket
from logbroker.errors import FlushFailed, LogbrokerError, PartitionDamaged
from logbroker.log.compaction.plan import Plan
from logbroker.log.partition import FlushTicket, PartitionLog
from logbroker.log.retention import Retained
from logbroker.model import Appended, Bounds, Buffer, Now

Done: TypeAlias = Callable[[LogbrokerError | None], None]


class Partition:
    """A log with its waiters. All calls on the loop's thread."""

    def __init__(self, log: PartitionLog, config: TopicConfig, flusher: Flusher) -> None:
        self.log = log
        self.holds: dict[str, int] = {}
        self.damages: Sequence[DamagedRange] = ()
        """What was found damaged by reading it again; it cannot be read any more."""
        self.claim = 0
        self.high_watermark = log.end_offset
        """One past the last offset that is acknowledged and can be read. Never falls, also when durability is raised."""
        self._flusher = flusher
        self._waiting: deque[tuple[int, Done]] = deque()  # ascending, since appends are
        self._needing: list[tuple[int, Done]] = []
        """Who waits for the disk although the topic's durability does not."""
        self._watchers: dict[asyncio.Future[None], tuple[int, Isolation]] = {}
        self._flush_timer: asyncio.TimerHandle | None = None
        self._over: LogbrokerError | None = None
        self._config = config

    # -- positions ---------------------------------------------------------------------------------------------------

    @property
    def acknowledges_flushed_only(self) -> bool:
        """Whether an acknowledgement waits for the disk (durability fsync, or flush_messages = 1 as Kafka has it)."""
        return self._config.durability == "fsync" or self._config.flush_messages == 1

    def bounds(self) -> Bounds:
        """Where this partition can be read."""
        high = self.high_watermark
        return Bounds(self.log.log_start_offset, high, self._stable(high))

    def readable_end(self, isolation: Isolation) -> int:
        """Where a reader comes to the end."""
        high = self.high_watermark
        return self._stable(high) if isolation is Isolation.READ_COMMITTED else high

    def _stable(self, high: int) -> int:
        first = self.log.first_undecided(high)
        return high if first is None else min(first, high)

    @property
    def floor(self) -> int:
        """The offset at and above which nothing may be deleted."""
        return min(self.holds.values(), default=INT64_MAX)

    def intact_end(self, offset: int, upto: int) -> int:
        """Up to where one may read from ``offset``, at most ``upto``. Raises PartitionDamaged for what is known damaged."""
        for one in self.damages:
            if one.first_offset <= offset <= one.last_offset:
                raise PartitionDamaged(
                    f"{one.file} is damaged at byte {one.position}, offsets {one.first_offset} to {one.last_offset} cannot "
                    f"be read: {one.message}. Nothing was changed; see 'logbroker segment verify' and 'segment repair'",
                    **self.log.where._asdict(),
                    file=one.file,
                    position=one.position,
                    first_offset=one.first_offset,
                    last_offset=one.last_offset,
                )
            if one.first_offset > offset:
                upto = min(upto, one.first_offset)
        return upto

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, batches: Buffer, now: Now, *, transactional: bool = False) -> Appended:
        """Write whole batches and see that they get flushed as the topic's durability says."""
        if self._over is not None:
            raise self._over
        try:
            appended = self.log.append(batches, now, transactional=transactional)
        except FlushFailed as failure:
            self._flusher.fail(failure)
            raise
        self._after_append()
        return appended

    def end_transaction(self, producer_id: int, epoch: int, committed: bool, now: Now) -> int:
        """Write the marker of a transaction if it is not there; returns up to where must be flushed for it to hold."""
        if self._over is not None:
            raise self._over
        try:
            appended = self.log.end_transaction(producer_id, epoch, committed, now)
        except FlushFailed as failure:
            self._flusher.fail(failure)
            raise
        if appended is None:
            return self.log.end_offset
        self._after_append()
        return appended.next_offset

    def trim(self, before_offset: int, now: Now) -> int:
        """Move the log start to ``before_offset`` and return it. Raises StorageError, FlushFailed."""
        try:
            return self.log.trim(before_offset, now)
        except FlushFailed as failure:
            self._flusher.fail(failure)
            raise

    def maintain(self, now: Now, believed: Now) -> Retained | None:
        """Roll and retire the segments that are due; deletions go by the time that is ``believed``. Returns what went.

        Raises PartitionDamaged, StorageError, FlushFailed.
        """
        try:
            self.log.roll_if_due(now)
            retained = self.log.retain(believed, min(self.floor, self._stable(self.high_watermark)))
            if self.log.flush_is_due:
                self.flush_soon()
            return retained
        except FlushFailed as failure:
            self._flusher.fail(failure)
            raise

    def plan_compaction(self, believed: Now) -> Plan | None:
        """What may be compacted: what is decided and, unless the topic says otherwise, needed by nobody who holds it."""
        if self._over is not None:
            return None
        if self.log.flush_is_due:
            self._flusher.request(self)  # sealed segments that a recovery would look at cannot be compacted
        stable = self.bounds().last_stable_offset
        return self.log.plan_compaction(believed, stable if self._config.compact_unread else min(stable, self.floor))

    def fail(self, failure: FlushFailed) -> None:
        """What is on disk is in doubt: let the engine stop."""
        self._flusher.fail(failure)

    def flush_soon(self) -> None:
        """Flush what is not on disk, whatever the durability."""
        if self.log.flushed_offset < self.log.end_offset:
            self._flusher.request(self)

    def when_flushed(self, next_offset: int, done: Done) -> None:
        """Call ``done`` once ``next_offset`` is acknowledged, in the order of the offsets; at once if it is."""
        if self._over is not None:
            done(self._over)
        elif next_offset <= self.high_watermark:
            done(None)
        else:
            self._waiting.append((next_offset, done))

    def when_durable(self, next_offset: int, done: Done) -> None:
        """Call ``done`` once ``next_offset`` is on disk, whatever the durability; at once if it is."""
        if self._over is not None:
            done(self._over)
        elif next_offset <= self.log.flushed_offset:
            done(None)
        else:
            self._needing.append((next_offset, done))
            self._flusher.request(self)

    def _after_append(self) -> None:
        if self.acknowledges_flushed_only:
            self._flusher.request(self)
            return
        if self.log.flush_is_due or self.log.end_offset - self.log.flushed_offset >= self._config.flush_messages:
            self._flusher.request(self)
        elif self._config.durability == "interval" and self._flush_timer is None:
            loop = asyncio.get_running_loop()
            self._flush_timer = loop.call_later(self._config.flush_ms / 1000, self._flush_is_due)
        self._advanced()

    def _flush_is_due(self) -> None:
        self._flush_timer = None
        self._flusher.request(self)

    def begin_flush(self) -> Ticket | None:
        return None if self._over is not None else self.log.begin_flush()

    def finish_flush(self, ticket: Ticket) -> None:
        assert isinstance(ticket, FlushTicket)
        if self._over is None:
            self.log.finish_flush(ticket)
            self._advanced()
            needing, self._needing = self._needing, []
            for next_offset, done in needing:
                self.when_durable(next_offset, done)

    def _advanced(self) -> None:
        """Move the high watermark and answer everyone it has reached."""
        reached = self.log.flushed_offset if self.acknowledges_flushed_only else self.log.end_offset
        high = self.high_watermark = max(self.high_watermark, reached)
        while self._waiting and self._waiting[0][0] <= high:
            self._waiting.popleft()[1](None)
        self._wake(high)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def watch(self, future: asyncio.Future[None], position: int, isolation: Isolation) -> None:
        """Resolve ``future`` when the partition can be read past ``position``, or is gone."""
        self._watchers[future] = position, isolation

    def unwatch(self, future: asyncio.Future[None]) -> None:
        """Forget ``future``."""
        self._watchers.pop(future, None)

    def _wake(self, high: int) -> None:
        if not self._watchers:
            return
        ends = {Isolation.READ_UNCOMMITTED: high, Isolation.READ_COMMITTED: self._stable(high)}
        self._resolve([one for one, (position, isolation) in self._watchers.items() if position < ends[isolation]])

    def _resolve(self, futures: Iterable[asyncio.Future[None]]) -> None:
        for future in futures:
            del self._watchers[future]
            if not future.done():
                future.set_result(None)

    # -- life --------------------------------------------------------------------------------------------------------

    def configure(self, config: TopicConfig) -> None:
        """Take over changed settings. What was acknowledged under a laxer durability is flushed now."""
        self._config = config
        self.log.configure(config)
        if self.acknowledges_flushed_only:
            self._flusher.request(self)

    def end(self, why: LogbrokerError) -> None:
        """Accept and acknowledge nothing from now on, and tell everyone who waits why: the topic is gone, the broker
        stops, or what is on disk is in doubt.
        """
        self._over = why
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        waiting, self._waiting = [*self._waiting, *self._needing], deque()
        self._needing = []
        for _, done in waiting:
            done(why)
        self._resolve(list(self._watchers))
