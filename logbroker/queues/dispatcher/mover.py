"""Copies into the retry and dead-letter topics, which are made by the first of them.

What lives here: seeing to it that the target is there and takes the copy. What may not: what a failed copy means.
Invariant: the copy topics have as many partitions as the source, and take its largest message with all reserved headers.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import NamedTuple

from logbroker.config import KIB
from logbroker.engine.api import Engine, TopicInfo, TopicSpec
from logbroker.errors import AppendUnknown, LogbrokerError, TopicAlreadyExists, UnknownTopicOrPartition
from logbroker.journal import EngineMover
from logbroker.machine import Move
from logbroker.model import Record, StoredRecord, TopicPartition
from logbroker.queues.dispatcher.definition import View, copy_spec
from logbroker.queues.dispatcher.reads import KeptReads

GROUP_BYTES = 256 * KIB
"""About how large a batch of copies may be."""
_HEADERS_BYTES = 512


class _Copy(NamedTuple):
    """A copy on its way."""

    record: Record
    offset: "asyncio.Future[int]"

    def done(self, offset: int) -> None:
        if not self.offset.done():
            self.offset.set_result(offset)

    def fail(self, error: LogbrokerError) -> None:
        if not self.offset.done():
            self.offset.set_exception(error)


def _fitting(copies: Sequence[_Copy]) -> int:
    """How many of the copies go into one batch; at least one."""
    size = 0
    for count, copy in enumerate(copies):
        size += sum(map(len, (copy.record.key or b"", copy.record.value or b""))) + _HEADERS_BYTES
        if size > GROUP_BYTES and count:
            return count
    return len(copies)


class QueueMover(EngineMover):
    """Carries out the moves of one queue.

    Messages that are sent together often fail together: copies of one turn of the loop that go to one partition are
    appended as one batch.
    """

    def __init__(self, engine: Engine, definition: View, reads: KeptReads) -> None:
        super().__init__(engine)
        self._reads = reads
        self._engine = engine
        self._definition = definition
        self._making = asyncio.Lock()
        self._groups: dict[TopicPartition, list[_Copy]] = {}
        self._appends: set[asyncio.Task[None]] = set()

    async def move(self, move: Move) -> int:
        await self._ensure(move.where.topic)
        return await super().move(move)

    async def append(self, where: TopicPartition, record: Record) -> int:
        copy = _Copy(record, asyncio.get_running_loop().create_future())
        group = self._groups.setdefault(where, [])
        group.append(copy)
        if len(group) == 1:
            task = asyncio.create_task(self._append_groups(where), name=f"copies to {where}")
            self._appends.add(task)
            task.add_done_callback(self._appends.discard)
        return await copy.offset

    async def _append_groups(self, where: TopicPartition) -> None:
        await asyncio.sleep(0)  # what else this turn of the loop brings
        copies = self._groups.pop(where)
        while copies:
            count = _fitting(copies)
            part, copies = copies[:count], copies[count:]
            task = asyncio.create_task(self._append_group(where, part), name=f"copies to {where}")
            self._appends.add(task)
            task.add_done_callback(self._appends.discard)

    async def _append_group(self, where: TopicPartition, copies: Sequence["_Copy"]) -> None:
        """Append copies as one batch, which is all or none; where it is refused, one by one: each has its own outcome."""
        try:
            first = await self.append_all(where, [copy.record for copy in copies])
        except AppendUnknown as error:
            for copy in copies:
                copy.fail(error)
        except LogbrokerError as error:
            if len(copies) == 1:
                copies[0].fail(error)
            else:
                for copy in copies:
                    await self._append_group(where, [copy])
        else:
            for offset, copy in enumerate(copies, first):
                copy.done(offset)

    async def original(self, where: TopicPartition, offset: int) -> StoredRecord | None:
        return await self._reads.one(where, offset)

    async def _ensure(self, topic: str) -> None:
        source = self._engine.topic(self._definition.topic)
        wanted = copy_spec(topic, source.partitions, source.config)
        if self._fits(wanted):
            return
        async with self._making:
            with contextlib.suppress(TopicAlreadyExists):
                if self._topic(topic) is None:
                    await self._engine.create_topic(*wanted, owner=self._definition.key)
            if not self._fits(wanted):
                await self._engine.configure_topic(topic, wanted.overrides)
                await self._engine.grow_topic(topic, wanted.partitions)

    def _fits(self, wanted: TopicSpec) -> bool:
        present = self._topic(wanted.name)
        largest = wanted.overrides["max_message_bytes"]
        assert isinstance(largest, int), "a copy topic says how large its messages may be"
        return (
            present is not None and present.partitions >= wanted.partitions and present.config.max_message_bytes >= largest
        )

    def _topic(self, topic: str) -> TopicInfo | None:
        try:
            return self._engine.topic(topic)
        except UnknownTopicOrPartition:
            return None
