"""Queues as every door sees them: declared, described, changed, deleted.

What lives here: the rules about queues and their topics. What may not: HTTP words, messages, what all views have in common.
Invariants: a queue's definition, journal and topic come and go in one write of the catalogue; whoever declares it again
identically changes nothing.
"""

import secrets
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from logbroker.broker.positions import LATEST, AtOffset, Position, resolve
from logbroker.broker.topics import Topics
from logbroker.broker.views import INCARNATION_BITS, NameSpace, Views, hash_of, patched
from logbroker.clock import Clock
from logbroker.engine.api import Engine, Isolation, TopicInfo, TopicSpec
from logbroker.errors import ConfigConflict, InvalidOffset, LogbrokerError, PolicyViolation, QueueNotFound
from logbroker.metrics import Metrics
from logbroker.model import TopicPartition
from logbroker.queues.dispatcher import Definition, Dispatcher, View
from logbroker.queues.dispatcher.tally import OF_QUEUES, Counters
from logbroker.queues.settings import QueueSettings, check_change, checked, partitions_for

Start: TypeAlias = Position | Mapping[int, int]
"""Where a view begins in a topic that was there before; offsets by partition, and the end where none is given."""


class Queues(Views[Dispatcher]):
    """The queues of a broker."""

    KIND = Definition

    def __init__(self, engine: Engine, topics: Topics, names: NameSpace, clock: Clock, metrics: Metrics) -> None:
        super().__init__(engine, topics, names)
        self._clock = clock
        self._counters = Counters(metrics, Definition.KIND, OF_QUEUES)

    def _dispatcher(self, definition: View) -> Dispatcher:
        return Dispatcher(self._engine, self._clock, definition, self._counters, secrets.randbits(INCARNATION_BITS))

    def _missing(self, name: str) -> LogbrokerError:
        return QueueNotFound(f"there is no queue {name!r}", queue=name)

    def priorities_of(self, topic: str) -> int:
        """How many priorities the queue on a topic has; 1 where there is none."""
        dispatcher = self._dispatchers.get(topic)
        return 1 if dispatcher is None else dispatcher.definition.settings.priorities

    def kafka_refusal(self, topic: str) -> PolicyViolation | None:
        """Why a Kafka producer may not write to a topic: its partitioner would scatter the queue's priorities."""
        dispatcher = self._dispatchers.get(topic)
        if dispatcher is None:
            return None
        settings = dispatcher.definition.settings
        if settings.priorities == 1 or settings.kafka_produce == "by_partition":
            return None
        return PolicyViolation(
            f"queue {topic!r} has {settings.priorities} priorities, which Kafka's partitioners would scatter: "
            "send over HTTP, or set kafka_produce = by_partition and choose partitions by priority",
            queue=topic,
        )

    # -- changing --------------------------------------------------------------------------------------------------------

    async def ensure(
        self, name: str, settings: QueueSettings, start: Start = LATEST, *, tag: str | None = None, replace: bool = False
    ) -> tuple[Dispatcher, bool]:
        """The queue as declared, and whether it was created now. ``start`` is where an existing topic is read from.

        A different declaration raises ConfigConflict, unless ``replace`` or ``tag`` (the present one's) lets it pass.
        Raises InvalidTopic, TopicReserved, InvalidConfig, InvalidPartitions, PreconditionFailed.
        """
        settings = checked(settings)
        async with self._names.changing:
            if name not in self:
                self._names.check_free(name)
                return await self._create(name, settings, start), True
            dispatcher = self.get(name)
            self._check_tag(dispatcher, tag)
            if not replace and tag is None and self._declared(dispatcher) != self._complete(dispatcher, settings):
                raise ConfigConflict(f"queue {name!r} exists with other settings", queue=name)
            await self._change(dispatcher, settings)
            return dispatcher, False

    async def _create(self, name: str, settings: QueueSettings, start: Start) -> Dispatcher:
        existing = self._find_topic(name)
        partitions = partitions_for(settings, existing.partitions if existing else None)
        more = partitions - (existing.partitions if existing else 0)
        self._topics.check_room(more + 1)
        definition = Definition(
            name=name,
            incarnation=secrets.randbits(INCARNATION_BITS),
            created_ms=self._clock.now().wall_ms,
            settings=settings,
            starts={} if existing is None else await starts_in(self._engine, existing, start),
        )
        create = [definition.journal_spec()]
        if existing is None:
            create.append(TopicSpec(name, partitions, {"retention_ms": -1, "retention_bytes": -1}))
        elif more:
            await self._engine.grow_topic(name, partitions)
        adopt = () if existing is None else (name,)
        await self._engine.define(definition.key, definition.to_json(), create=create, adopt=adopt)
        return await self._loaded(definition)

    async def alter(self, name: str, changes: Mapping[str, Any], *, tag: str | None = None) -> Dispatcher:
        """Change settings by a merge patch. Raises QueueNotFound, InvalidConfig, ConfigConflict, PreconditionFailed."""
        async with self._names.changing:
            dispatcher = self.get(name)
            self._check_tag(dispatcher, tag)
            await self._change(dispatcher, checked(patched(self._declared(dispatcher), changes)))
            return dispatcher

    async def _change(self, dispatcher: Dispatcher, settings: QueueSettings) -> None:
        settings = self._complete(dispatcher, settings)
        definition = dispatcher.definition
        present = self._engine.topic(definition.name).partitions
        if settings == self._declared(dispatcher):
            return
        check_change(definition.settings, settings)
        partitions = partitions_for(settings, present)
        if partitions > present:
            self._topics.check_room(partitions - present)
            await self._engine.grow_topic(definition.name, partitions)
        await self._redefine(dispatcher, msgspec.structs.replace(definition, settings=settings))
        await dispatcher.grow(partitions)

    def _declared(self, dispatcher: Dispatcher) -> QueueSettings:
        """The settings in force, with the number of partitions there are."""
        return self._complete(dispatcher, msgspec.structs.replace(dispatcher.definition.settings, partitions=None))

    def _complete(self, dispatcher: Dispatcher, settings: QueueSettings) -> QueueSettings:
        if settings.partitions is not None:
            return settings
        return msgspec.structs.replace(settings, partitions=self._engine.topic(dispatcher.definition.name).partitions)

    def settings_of(self, dispatcher: Dispatcher) -> QueueSettings:
        """The settings in force, with the number of partitions there are."""
        return self._declared(dispatcher)

    def tag_of(self, dispatcher: Dispatcher) -> str:
        """The entity tag of a declaration."""
        return f"{dispatcher.definition.incarnation:x}-{hash_of(self._declared(dispatcher))}"

    async def set_paused(self, name: str, *, paused: bool) -> None:
        """Deliver nothing, or go on; durable."""
        async with self._names.changing:
            dispatcher = self.get(name)
            if dispatcher.definition.paused != paused:
                await self._redefine(dispatcher, msgspec.structs.replace(dispatcher.definition, paused=paused))

    async def delete(self, name: str, *, keep_topic: bool = False, tag: str | None = None) -> None:
        """Delete a queue with its messages, retries and dead letters; ``keep_topic`` leaves the source topic.

        Raises QueueNotFound, PreconditionFailed, TopicInUse.
        """
        async with self._names.changing:
            topics = () if keep_topic else (name,)
            if name in self:
                self._topics.check_unread(*topics, f"{name}.retry", f"{name}.dlq")
            await self._removed(await self._ended(name, tag), *topics)
            self._counters.forget(name)
            if not keep_topic:
                await self._topics.forgotten(name)


async def starts_in(engine: Engine, topic: TopicInfo, start: Start) -> dict[int, int]:
    """The offset to begin at in each partition of a topic. Raises InvalidOffset for one beyond the end."""
    starts: dict[int, int] = {}
    for number in range(topic.partitions):
        where = TopicPartition(topic.name, number)
        position = start if not isinstance(start, Mapping) else AtOffset(start[number]) if number in start else LATEST
        starts[number] = await resolve(engine, where, position, Isolation.READ_COMMITTED)
        end = (await engine.bounds(where)).high_watermark
        if starts[number] > end:
            raise InvalidOffset(f"a reader cannot start at offset {starts[number]} of {where}, which ends at {end}")
    return starts
