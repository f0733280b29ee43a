"""Queues as every door sees them: declared, described, changed, deleted; and the dispatcher of each.

What lives here: the rules about names and topics, and the life of the dispatchers. What may not: HTTP words, messages.
Invariants: a queue's definition, journal and topic come and go in one write of the catalogue; a queue is served only
when it has loaded; whoever declares it again identically changes nothing.
"""

import asyncio
import logging
import secrets
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from logbroker.broker.positions import LATEST, AtOffset, Position, resolve
from logbroker.broker.topics import Topics, check_changeable, check_topic_name
from logbroker.clock import Clock
from logbroker.engine.api import Engine, Isolation, TopicInfo, TopicSpec
from logbroker.errors import (
    ConfigConflict,
    InvalidConfig,
    InvalidOffset,
    InvalidTopic,
    LogbrokerError,
    PolicyViolation,
    PreconditionFailed,
    QueueNotFound,
    UnknownTopicOrPartition,
)
from logbroker.metrics import Metrics
from logbroker.model import TopicPartition
from logbroker.queues.dispatcher import Definition, Dispatcher
from logbroker.queues.dispatcher.definition import PREFIX, definition_of
from logbroker.queues.dispatcher.tally import QueueCounters
from logbroker.queues.settings import QueueSettings, check_change, checked, partitions_for

log = logging.getLogger(__name__)

MAX_NAME = 243
"""So that ``.retry`` fits behind it."""
_ID_BITS = 48

Start: TypeAlias = Position | Mapping[int, int]
"""Where a queue begins in a topic that was there before; offsets by partition, and the end where none is given."""


class Queues:
    """The queues of a broker. To be started before a door opens."""

    def __init__(self, engine: Engine, topics: Topics, clock: Clock, metrics: Metrics) -> None:
        self._engine = engine
        self._topics = topics
        self._clock = clock
        self._counters = QueueCounters(metrics)
        self._dispatchers: dict[str, Dispatcher] = {}
        self._damaged: dict[str, tuple[Definition, LogbrokerError]] = {}
        self._changing = asyncio.Lock()

    # -- life ------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load all queues. One that cannot be loaded answers its error, and does not keep the others from it.

        Raises DataDirectoryError for a definition of a newer logbroker.
        """
        definitions = [
            definition_of(key, document) for key, document in self._engine.definitions().items() if key.startswith(PREFIX)
        ]
        await asyncio.gather(*(self._load(definition) for definition in definitions))

    async def _load(self, definition: Definition) -> Dispatcher | None:
        dispatcher = Dispatcher(self._engine, self._clock, definition, self._counters, secrets.randbits(_ID_BITS))
        try:
            await dispatcher.start()
        except LogbrokerError as error:
            log.error("queue %s cannot be loaded: %s: %s", definition.name, error.code, error)
            self._damaged[definition.name] = definition, error
            await dispatcher.close()
            return None
        self._dispatchers[definition.name] = dispatcher
        return dispatcher

    def end_waiting(self) -> None:
        """Answer all long polls now."""
        for dispatcher in self._dispatchers.values():
            dispatcher.end_waiting()

    async def stop(self) -> None:
        """Stop all dispatchers; what they have answered is durable."""
        await asyncio.gather(*(dispatcher.close() for dispatcher in self._dispatchers.values()))
        self._dispatchers.clear()

    async def tell(self, every_s: float) -> None:
        """Log the counts of each queue again and again; never returns."""
        while True:
            await asyncio.sleep(every_s)
            for dispatcher in self.list():
                facts = {**(await dispatcher.size.counts())._asdict(), **dispatcher.tally.totals}
                told = ", ".join(f"{name} {count}" for name, count in facts.items() if count) or "nothing yet"
                log.info(
                    "queue %s: %s", dispatcher.definition.name, told, extra={"queue": dispatcher.definition.name, **facts}
                )

    # -- looking ---------------------------------------------------------------------------------------------------------

    def get(self, name: str) -> Dispatcher:
        """The queue. Raises InvalidTopic, QueueNotFound, and what it could not be loaded for."""
        dispatcher = self._dispatchers.get(name)
        if dispatcher is not None:
            return dispatcher
        if name in self._damaged:
            raise self._damaged[name][1]
        check_topic_name(name)
        _check_length(name)
        raise QueueNotFound(f"there is no queue {name!r}", queue=name)

    def list(self, prefix: str = "") -> list[Dispatcher]:
        """The queues whose names start with ``prefix``, by name."""
        return [self._dispatchers[name] for name in sorted(self._dispatchers) if name.startswith(prefix)]

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
        check_queue_name(name)
        settings = checked(settings)
        async with self._changing:
            if name not in self._dispatchers and name not in self._damaged:
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
            incarnation=secrets.randbits(_ID_BITS),
            created_ms=self._clock.now().wall_ms,
            settings=settings,
            starts={} if existing is None else await self._starts(existing, start),
        )
        create = [definition.journal_spec()]
        if existing is None:
            create.append(TopicSpec(name, partitions, {"retention_ms": -1, "retention_bytes": -1}))
        elif more:
            await self._engine.grow_topic(name, partitions)
        adopt = () if existing is None else (name,)
        await self._engine.define(definition.key, definition.to_json(), create=create, adopt=adopt)
        dispatcher = await self._load(definition)
        if dispatcher is None:
            raise self._damaged[name][1]
        return dispatcher

    async def _starts(self, topic: TopicInfo, start: Start) -> dict[int, int]:
        starts: dict[int, int] = {}
        for number in range(topic.partitions):
            where = TopicPartition(topic.name, number)
            position = start if not isinstance(start, Mapping) else AtOffset(start[number]) if number in start else LATEST
            starts[number] = await resolve(self._engine, where, position, Isolation.READ_COMMITTED)
            end = (await self._engine.bounds(where)).high_watermark
            if starts[number] > end:
                raise InvalidOffset(f"a queue cannot start at offset {starts[number]} of {where}, which ends at {end}")
        return starts

    def _find_topic(self, name: str) -> TopicInfo | None:
        try:
            return self._engine.topic(name)
        except UnknownTopicOrPartition:
            return None

    async def alter(self, name: str, changes: Mapping[str, Any], *, tag: str | None = None) -> Dispatcher:
        """Change settings by a merge patch. Raises QueueNotFound, InvalidConfig, ConfigConflict, PreconditionFailed."""
        async with self._changing:
            dispatcher = self.get(name)
            self._check_tag(dispatcher, tag)
            await self._change(dispatcher, checked(_patched(self._declared(dispatcher), changes)))
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

    async def _redefine(self, dispatcher: Dispatcher, definition: Definition) -> None:
        await self._engine.define(definition.key, definition.to_json())
        await dispatcher.configure(definition)

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

    def _check_tag(self, dispatcher: Dispatcher, tag: str | None) -> None:
        if tag not in (None, "*") and tag != self.tag_of(dispatcher):
            name = dispatcher.definition.name
            raise PreconditionFailed(f"queue {name!r} was changed since: its tag is {self.tag_of(dispatcher)}", queue=name)

    async def set_paused(self, name: str, *, paused: bool) -> None:
        """Deliver nothing, or go on; durable."""
        async with self._changing:
            dispatcher = self.get(name)
            if dispatcher.definition.paused != paused:
                await self._redefine(dispatcher, msgspec.structs.replace(dispatcher.definition, paused=paused))

    async def delete(self, name: str, *, keep_topic: bool = False, tag: str | None = None) -> None:
        """Delete a queue with its messages, retries and dead letters; ``keep_topic`` leaves the source topic.

        Raises QueueNotFound, PreconditionFailed.
        """
        async with self._changing:
            definition = await self._ended(name, tag)
            topics = [definition.journal.topic, definition.retry, definition.dead, *(() if keep_topic else (name,))]
            there = [topic for topic in topics if self._find_topic(topic) is not None]
            try:
                await self._engine.define(definition.key, None, delete=there)
            except LogbrokerError:
                await self._load(definition)  # nothing was deleted: it is served as before
                raise
            self._counters.forget(name)
            if not keep_topic:
                await self._topics.forgotten(name)

    async def _ended(self, name: str, tag: str | None) -> Definition:
        """Stop serving a queue, also one that could not be loaded."""
        if name in self._damaged:
            return self._damaged.pop(name)[0]
        dispatcher = self.get(name)
        self._check_tag(dispatcher, tag)
        del self._dispatchers[name]
        await dispatcher.close()
        dispatcher.release_holds()
        return dispatcher.definition


def check_queue_name(name: str) -> None:
    """Raise InvalidTopic or TopicReserved unless a queue may be called so."""
    check_changeable(name)
    _check_length(name)


def _check_length(name: str) -> None:
    if len(name) > MAX_NAME:
        raise InvalidTopic(f"the name of a queue takes at most {MAX_NAME} characters, so that '.retry' fits behind it")


def hash_of(settings: QueueSettings) -> str:
    """A short text that is equal for equal settings."""
    return f"{zlib.crc32(msgspec.json.encode(settings)):08x}"


def _patched(settings: QueueSettings, changes: Mapping[str, Any]) -> QueueSettings:
    try:
        return msgspec.convert(_merged(msgspec.to_builtins(settings), changes), QueueSettings)
    except msgspec.ValidationError as error:
        raise InvalidConfig(str(error)) from None


def _merged(document: Any, changes: Any) -> Any:
    """RFC 7396: null takes a member away, which means its default."""
    if not isinstance(changes, Mapping):
        return changes
    merged = dict(document) if isinstance(document, dict) else {}
    for name, value in changes.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged
