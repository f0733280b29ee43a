"""Copies into the retry and dead-letter topics, which are made by the first of them.

What lives here: seeing to it that the target is there and takes the copy. What may not: what a failed copy means.
Invariant: the copy topics have as many partitions as the source, and take its largest message with all reserved headers.
"""

import asyncio
import contextlib
from collections import OrderedDict

from logbroker.engine.api import Engine, TopicInfo, TopicSpec
from logbroker.errors import TopicAlreadyExists, UnknownTopicOrPartition
from logbroker.journal import EngineMover
from logbroker.machine import Move
from logbroker.model import StoredRecord, TopicPartition
from logbroker.queues.dispatcher.definition import Definition, copy_spec

KEPT_READS = 8
"""Batches whose records are kept decoded."""


class QueueMover(EngineMover):
    """Carries out the moves of one queue.

    A record is decoded with the whole batch it was sent in, so what was read last is kept: messages that are sent together
    often fail together.
    """

    def __init__(self, engine: Engine, definition: Definition) -> None:
        super().__init__(engine)
        self._engine = engine
        self._definition = definition
        self._making = asyncio.Lock()
        self._reads: OrderedDict[tuple[TopicPartition, int], dict[int, StoredRecord]] = OrderedDict()

    async def move(self, move: Move) -> int:
        await self._ensure(move.where.topic)
        return await super().move(move)

    async def original(self, where: TopicPartition, offset: int) -> StoredRecord | None:
        for key, records in reversed(self._reads.items()):
            if key[0] == where and offset in records:
                self._reads.move_to_end(key)
                return records[offset]
        read = await self._engine.read(where, offset, max_bytes=1)
        self._reads[where, offset] = {record.offset: record for record in read.records}
        while len(self._reads) > KEPT_READS:
            self._reads.popitem(last=False)
        return self._reads[where, offset].get(offset)

    async def _ensure(self, topic: str) -> None:
        source = self._engine.topic(self._definition.name)
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
