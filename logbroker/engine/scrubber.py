"""Reading sealed segments again, before anybody needs them: bad sectors and changed bytes are found while nothing is lost.

What lives here: which segment is next, how fast, and what follows from what was found. What may not: what is right and
wrong in a segment (``log.verify``), timers beside its own.

A segment is read with ``pread`` in a thread of its own (a bad sector under a map would kill the process), at most
``bytes_per_second`` and nineteen twentieths of the time asleep, so that the loop stays as quick as it was.
Invariants: damage is believed when it is found twice in the same files, so a segment that was deleted or compacted under
the reader is never called damaged; what is found damaged can no longer be read, and the rest of the partition can.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from logbroker.clock import Clock
from logbroker.engine.api import DamagedRange, SegmentCheck
from logbroker.engine.partition import Partition
from logbroker.errors import LogbrokerError, Recovering, StorageError
from logbroker.log.files import Files
from logbroker.log.mending import Mode, plan_segment, site_of
from logbroker.log.names import LOG, file_name
from logbroker.log.verify import DAMAGE, verify_segment
from logbroker.model import SegmentInfo, TopicPartition

_log = logging.getLogger(__name__)

_AWAKE_S: Final = 0.002
_ASLEEP_PER_AWAKE: Final = 19.0
_ROUND_MS: Final = 60_000


class Scrubber:
    """Checks the segments of all open partitions, and one when asked. Calls on the loop's thread."""

    def __init__(
        self,
        files: Files,
        partitions: Mapping[TopicPartition, Partition],
        path_of: Callable[[TopicPartition], str],
        clock: Clock,
    ) -> None:
        self.checks: dict[TopicPartition, dict[int, SegmentCheck]] = {}
        """What was found, by partition and base offset, since the start of the process."""
        self.tell_bytes: Callable[[float], None] = lambda count: None
        """Told of the bytes read."""
        self.tell_damages: Callable[[float], None] = lambda count: None
        """Told of the places found damaged, once each."""
        self.last_round_ms = 0
        """When every sealed segment had been checked; 0 before."""
        self._files = files
        self._partitions = partitions
        self._path_of = path_of
        self._clock = clock
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="scrub")
        self._stop = threading.Event()

    async def run(self, bytes_per_second: int, interval_ms: int) -> None:
        """Check every sealed segment once in ``interval_ms``, until cancelled."""
        while True:
            for where in list(self._partitions):
                await self._check_partition(where, bytes_per_second, interval_ms)
            self.last_round_ms = self._clock.now().wall_ms
            await asyncio.sleep(min(_ROUND_MS, interval_ms) / 1000)

    async def _check_partition(self, where: TopicPartition, bytes_per_second: int, interval_ms: int) -> None:
        partition = self._partitions.get(where)
        if partition is None:
            self.checks.pop(where, None)
            return
        try:
            bases = [one.base_offset for one in partition.log.segments() if not one.active]
            self._forget_gone(where, partition, set(bases))
            for base in bases:
                known = self.checks.get(where, {}).get(base)
                if known is None or self._clock.now().wall_ms - known.checked_ms >= interval_ms:
                    await self.check(where, base, bytes_per_second)
        except LogbrokerError as error:
            _log.warning("%s cannot be checked now: %s", where, error)

    def _forget_gone(self, where: TopicPartition, partition: Partition, bases: set[int]) -> None:
        checks = self.checks.get(where, {})
        for base in checks.keys() - bases:
            del checks[base]
        self._close_damaged(where, partition)

    async def check(self, where: TopicPartition, base_offset: int, bytes_per_second: int) -> SegmentCheck | None:
        """Check one sealed segment now; None where it is not there (any more). Raises StorageError."""
        segment = self._sealed(where, base_offset)
        if segment is None:
            return None
        damages = await self._verified(where, segment, bytes_per_second)
        if damages:
            damages = await self._verified(where, segment, bytes_per_second)
        if self._sealed(where, base_offset) != segment:
            return None  # it was replaced meanwhile; the next round sees the new one
        partition = self._partitions[where]
        check = SegmentCheck(base_offset, self._clock.now().wall_ms, damages)
        known = self.checks.setdefault(where, {}).get(base_offset)
        if damages and (known is None or known.damages != damages):
            self.tell_damages(len(damages))
            for one in damages:
                _log.error("%s is damaged: %s", where, one.message, extra={"file": one.file, "position": one.position})
        self.checks[where][base_offset] = check
        self._close_damaged(where, partition)
        return check

    def _sealed(self, where: TopicPartition, base_offset: int) -> SegmentInfo | None:
        partition = self._partitions.get(where)
        found = partition.log.segments() if partition is not None else []
        return next((one for one in found if one.base_offset == base_offset and not one.active), None)

    async def _verified(
        self, where: TopicPartition, segment: SegmentInfo, bytes_per_second: int
    ) -> tuple[DamagedRange, ...]:
        """The damages of a segment."""
        pace = _Pace(bytes_per_second, self._stop)
        path = self._path_of(where)
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, _damages, self._files, path, segment, pace.read
            )
        except StorageError as error:
            log = f"{path}/{file_name(segment.base_offset, LOG)}"
            if not self._files.exists(log):
                return ()
            return (DamagedRange(log, 0, segment.base_offset, segment.next_offset - 1, str(error)),)
        finally:
            self.tell_bytes(pace.done)

    def _close_damaged(self, where: TopicPartition, partition: Partition) -> None:
        partition.damages = [one for check in self.checks.get(where, {}).values() for one in check.damages]

    def close(self) -> None:
        """Stop the threads."""
        self._stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)


def _damages(
    files: Files, directory: str, segment: SegmentInfo, progress: Callable[[int], None]
) -> tuple[DamagedRange, ...]:
    """What is damaged in a segment; the offsets are those that a repair would have to put right or give up."""
    base, following = segment.base_offset, segment.next_offset
    found = [one for one in verify_segment(files, directory, base, following, progress) if one.severity == DAMAGE]
    if not found:
        return ()
    plan = plan_segment(site_of(files, directory, base, following, None), Mode.SKIP)
    ranges = [DamagedRange(one.file, one.position, one.first_offset, one.last_offset, one.why) for one in plan.changes]
    return tuple(ranges) or (DamagedRange(found[0].file, found[0].position or 0, base, following - 1, found[0].message),)


class _Pace:
    """Sleeps in the reading thread so that it is no faster than it may be, and leaves the processor to others."""

    def __init__(self, bytes_per_second: int, stop: threading.Event) -> None:
        self.done = 0
        self._rate = bytes_per_second
        self._stop = stop
        self._began = self._awake_since = time.perf_counter()

    def read(self, size: int) -> None:
        """So many more bytes have been checked."""
        self.done += size
        now = time.perf_counter()
        awake, ahead = now - self._awake_since, self.done / self._rate - (now - self._began)
        if max(awake, ahead) < _AWAKE_S:
            return
        if self._stop.wait(max(ahead, awake * _ASLEEP_PER_AWAKE)):
            raise Recovering("the broker is stopping")
        self._awake_since = time.perf_counter()
