"""Compaction of the partitions of an engine: which one is next, a cleaner for it, and the swap.

What lives here: the order of these, and running the cleaner where it does not hold up the loop: in a process of its own,
or, for files that no other process can see, in slices. What may not: what is compacted (``log.compaction``), timers.
Invariants: one partition is compacted at a time; the loop is held for the renames of one segment at most, and what they
free is freed in a thread; a topic's files are removed only when no cleaner is at work on them.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from time import monotonic

import msgspec

from logbroker.clock import Clock
from logbroker.config import BrokerConfig
from logbroker.engine.api import Compacted
from logbroker.engine.maintenance import BelievedTime
from logbroker.engine.partition import Partition
from logbroker.errors import DiskFull, FlushFailed, StorageError
from logbroker.log.compaction.cleaner import Cleaner
from logbroker.log.compaction.job import Job, Result
from logbroker.log.compaction.plan import Plan
from logbroker.log.compaction.worker import Reply, Request
from logbroker.log.files import Files
from logbroker.model import TopicPartition

_SLICE_SECONDS = 0.005

_log = logging.getLogger(__name__)


class Compactor:
    """Compacts the partitions of one engine."""

    def __init__(
        self,
        files: Files,
        partitions: Mapping[TopicPartition, Partition],
        config: BrokerConfig,
        clock: Clock,
        believed: BelievedTime,
    ) -> None:
        self._files = files
        self._partitions = partitions
        self._config = config
        self._clock = clock
        self._believed = believed
        self._busy = asyncio.Lock()
        self.process: asyncio.subprocess.Process | None = None
        """The cleaner that is at work, if it is a process."""

    async def run(self) -> Compacted | None:
        """Compact the partition that needs it most; None if none does. Raises FlushFailed.

        Where it fails otherwise that is logged, and nothing has changed.
        """
        async with self._busy:
            found = await self._filthiest()
            if found is None:
                return None
            where, partition, planned = found
            try:
                return await self._compact(where, partition, planned)
            except FlushFailed as failure:
                partition.fail(failure)
                raise
            except StorageError as error:
                if partition is self._partitions.get(where):
                    _log.warning("compaction of %s failed: %s", where, error)
                return None

    async def abandon(self) -> None:
        """Give up what is under way, and return when no cleaner touches a file any more."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
        async with self._busy:
            pass

    async def _filthiest(self) -> tuple[TopicPartition, Partition, Plan] | None:
        best: tuple[TopicPartition, Partition, Plan] | None = None
        for where, partition in list(self._partitions.items()):
            try:
                planned = partition.plan_compaction(self._believed.at(self._clock.now()))
            except StorageError as error:
                _log.warning("%s cannot be compacted: %s", where, error)
                continue
            if planned is not None and planned.is_due and (best is None or planned.dirty_ratio > best[2].dirty_ratio):
                best = (where, partition, planned)
            await asyncio.sleep(0)
        return best

    async def _compact(self, where: TopicPartition, partition: Partition, planned: Plan) -> Compacted:
        """As many passes as the table of keys makes necessary."""
        log, started = partition.log, monotonic()
        end = planned.sources[-1].next_offset
        before = sum(segment.size_bytes for segment in planned.sources)
        if self._files.free_bytes() < before:
            raise DiskFull(f"copies may take {before} bytes, {self._files.free_bytes()} are free")
        dropped = reclaimed = 0
        following: Plan | None = planned
        while following is not None:
            now = self._believed.at(self._clock.now())
            job = log.compaction_job(
                following, now, self._config.compaction_dedupe_buffer_bytes, self._config.compaction_io_bytes_per_second
            )
            result = await self._clean(job)
            reclaimed += await self._swap(partition, result)
            dropped += result.records_read - result.records_kept
            following = partition.plan_compaction(now) if result.cleaned_to < end else None
        return Compacted(where, end, monotonic() - started, before, before - reclaimed, dropped)

    async def _swap(self, partition: Partition, result: Result) -> int:
        """Put the copies in place; returns how many bytes that freed."""
        log = partition.log
        swap = log.begin_swap(result.outputs)
        try:
            await asyncio.to_thread(swap.commit)
        except StorageError as error:
            raise FlushFailed(f"a compacted segment could not be committed: {error}", **error.fields) from error
        reclaimed = 0
        for output in swap.outputs:
            held = log.swap_in(output)
            await asyncio.to_thread(held.clear)
            reclaimed += sum(source.size for source in output.sources) - output.size
        log.finish_swap(result.cleaned_to)
        return reclaimed

    # -- the cleaner -------------------------------------------------------------------------------------------------

    async def _clean(self, job: Job) -> Result:
        if self._files.root is None:
            return await self._clean_in_slices(job)
        return await self._clean_in_process(self._files.root, job)

    async def _clean_in_slices(self, job: Job) -> Result:
        cleaner = Cleaner(self._files, job)
        until = monotonic() + _SLICE_SECONDS
        for _ in cleaner.run():
            if monotonic() >= until:
                await asyncio.sleep(0)
                until = monotonic() + _SLICE_SECONDS
        return cleaner.result

    async def _clean_in_process(self, root: str, job: Job) -> Result:
        process = self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "logbroker.log.compaction.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            request = Request(root, os.getpid(), job)
            out, _ = await process.communicate(msgspec.json.encode(request) + b"\n")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            self.process = None
        if process.returncode or not out:
            raise StorageError(f"the cleaner ended with {process.returncode}")
        reply = msgspec.json.decode(out, type=Reply)
        if reply.result is None:
            raise StorageError(str(reply.error))
        return reply.result
