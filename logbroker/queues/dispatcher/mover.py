"""Copies into the retry and dead-letter topics, which are made by the first of them.

What lives here: seeing to it that the target is there and takes the copy. What may not: what a failed copy means.
Invariant: the copy topics have as many partitions as the source, and take its largest message with all reserved headers.
"""

import asyncio
import contextlib

from logbroker.engine.api import Engine, TopicInfo, TopicSpec
from logbroker.errors import TopicAlreadyExists, UnknownTopicOrPartition
from logbroker.journal import EngineMover
from logbroker.machine import Move
from logbroker.queues.dispatcher.definition import Definition, copy_spec


class QueueMover:
    """Carries out the moves of one queue."""

    def __init__(self, engine: Engine, definition: Definition) -> None:
        self._engine = engine
        self._definition = definition
        self._mover = EngineMover(engine)
        self._making = asyncio.Lock()

    async def move(self, move: Move) -> int:
        await self._ensure(move.where.topic)
        return await self._mover.move(move)

    async def _ensure(self, topic: str) -> None:
        source = self._engine.topic(self._definition.name)
        wanted = copy_spec(topic, source.partitions, source.config)
        if self._fits(wanted):
            return
        async with self._making:
            with contextlib.suppress(TopicAlreadyExists):
                if self._find(topic) is None:
                    await self._engine.create_topic(*wanted, owner=self._definition.key)
            if not self._fits(wanted):
                await self._engine.configure_topic(topic, wanted.overrides)
                await self._engine.grow_topic(topic, wanted.partitions)

    def _fits(self, wanted: TopicSpec) -> bool:
        present = self._find(wanted.name)
        largest = wanted.overrides["max_message_bytes"]
        assert isinstance(largest, int), "a copy topic says how large its messages may be"
        return (
            present is not None and present.partitions >= wanted.partitions and present.config.max_message_bytes >= largest
        )

    def _find(self, topic: str) -> TopicInfo | None:
        try:
            return self._engine.topic(topic)
        except UnknownTopicOrPartition:
            return None
