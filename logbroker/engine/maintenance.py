"""Upkeep of the partitions of an engine: rolling by age, and retention.

What lives here: going through the partitions in slices, and which time to believe. What may not: what is deleted
(``log.retention``), timers (``node``).
Invariant: a clock that is put forward deletes nothing before it has stood there for a day; one that is put back is believed
at once. Deleting late can be made good, deleting early cannot.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping

from logbroker.clock import Clock
from logbroker.config import DAY_MS
from logbroker.engine.api import Deleted
from logbroker.engine.partition import Partition
from logbroker.errors import FlushFailed, StorageError
from logbroker.log.retention import Retained
from logbroker.model import Now, TopicPartition

BELIEVED_AFTER_MS = DAY_MS

_log = logging.getLogger(__name__)


class BelievedTime:
    """The wall clock as far as deletions may go by it: the least it has been ahead of the monotonic one for a day.

    A machine that was suspended looks like one whose clock was put forward, so there retention is up to a day late.
    """

    def __init__(self) -> None:
        self._leads: deque[tuple[int, int]] = deque()
        """Ascending: since when (monotonic) the wall clock has been at least so far ahead."""

    def at(self, now: Now) -> Now:
        """``now`` with the wall time that is believed. Calls come in the order of the monotonic time."""
        lead, since = now.wall_ms - now.mono_ms, now.mono_ms
        while self._leads and self._leads[-1][1] >= lead:
            since = self._leads.pop()[0]
        self._leads.append((since, lead))
        while len(self._leads) > 1 and now.mono_ms - self._leads[1][0] >= BELIEVED_AFTER_MS:
            self._leads.popleft()
        return Now(now.mono_ms + self._leads[0][1], now.mono_ms)


class Maintenance:
    """The upkeep of all partitions of one engine."""

    def __init__(self, partitions: Mapping[TopicPartition, Partition], clock: Clock, believed: BelievedTime) -> None:
        self._partitions = partitions
        self._clock = clock
        self._believed = believed

    async def run(self) -> list[Deleted]:
        """Roll and retire segments that are due, in slices that do not hold up the loop.

        A partition where that fails does not keep the others from it. Raises FlushFailed.
        """
        deleted: list[Deleted] = []
        self._believed.at(self._clock.now())
        for where, partition in list(self._partitions.items()):
            try:
                retained = self._maintain(partition)
            except FlushFailed:
                raise
            except StorageError as error:
                _log.warning("upkeep of %s failed: %s", where, error)
            else:
                deleted += [Deleted(where, *retained)] if retained is not None else []
            await asyncio.sleep(0)
        return deleted

    def _maintain(self, partition: Partition) -> Retained | None:
        now = self._clock.now()
        return partition.maintain(now, self._believed.at(now))
