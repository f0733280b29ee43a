"""Subscriptions as every door sees them: declared over a topic, changed, sought, deleted.

What lives here: the rules about subscriptions and their topics. What may not: HTTP words, messages, what all views have
in common.
Invariants: a topic that a subscription stands on is not deleted; another filter and another place are written before they
are acted on, so that a crash leaves them done or to be done.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import msgspec

from logbroker.broker.positions import LATEST
from logbroker.broker.queues import Start, starts_in
from logbroker.broker.snapshots import Snapshots
from logbroker.broker.topics import INTERNAL_PREFIX, Topics
from logbroker.broker.views import INCARNATION_BITS, NameSpace, Views, hash_of, patched
from logbroker.clock import Clock
from logbroker.engine.api import Engine, TopicInfo
from logbroker.errors import ConfigConflict, LogbrokerError, SubscriptionNotFound, TopicReserved
from logbroker.metrics import Metrics
from logbroker.model import TopicPartition
from logbroker.pubsub.cursors import Cursor
from logbroker.pubsub.definition import FilterVersion, SubscriptionDefinition
from logbroker.pubsub.settings import SubscriptionSettings, check_change, checked
from logbroker.pubsub.subscription import COUNTED, Subscription
from logbroker.queues.dispatcher.definition import View
from logbroker.queues.dispatcher.tally import Counters
from logbroker.queues.positions import Source
from logbroker.queues.settings import check_no_cycle


@dataclass(frozen=True, slots=True)
class AtSnapshot:
    """Where a subscription was when a snapshot was taken."""

    name: str


Target: TypeAlias = Start | AtSnapshot
"""Where a subscription begins or goes to; with offsets by partition the other partitions begin at their ends, or stay."""


class Leap(NamedTuple):
    """What a seek does to one partition: the first offset that is not done before and after, and the end."""

    partition: int
    from_offset: int
    to_offset: int
    end_offset: int
    voided_leases: int
    voided_retries: int


class Subscriptions(Views[Subscription]):
    """The subscriptions of a broker."""

    KIND = SubscriptionDefinition

    def __init__(
        self, engine: Engine, topics: Topics, names: NameSpace, snapshots: Snapshots, clock: Clock, metrics: Metrics
    ) -> None:
        super().__init__(engine, topics, names)
        self._snapshots = snapshots
        self._clock = clock
        self._counters = Counters(metrics, SubscriptionDefinition.KIND, COUNTED)
        topics.readers = lambda topic: (*self.on(topic), *snapshots.on(topic))

    def _dispatcher(self, definition: View) -> Subscription:
        assert isinstance(definition, SubscriptionDefinition), "it was read as one"
        run = secrets.randbits(INCARNATION_BITS)
        return Subscription(self._engine, self._clock, definition, self._counters, run)

    def _missing(self, name: str) -> LogbrokerError:
        return SubscriptionNotFound(f"there is no subscription {name!r}", subscription=name)

    def tag_of(self, dispatcher: Subscription) -> str:
        definition = dispatcher.definition
        return f"{definition.incarnation:x}-{hash_of(definition.config)}"

    def on(self, topic: str) -> Sequence[str]:
        """What stands on a topic."""
        return sorted(f"subscription {one.name!r}" for one in self.definitions() if one.topic == topic)

    # -- declaring -------------------------------------------------------------------------------------------------------

    async def ensure(
        self,
        name: str,
        settings: SubscriptionSettings,
        start: Target = LATEST,
        *,
        tag: str | None = None,
        replace: bool = False,
    ) -> tuple[Subscription, bool]:
        """The subscription as declared, and whether it was created now; ``start`` is where a new one begins.

        A different declaration raises ConfigConflict, unless ``replace`` or ``tag`` (the present one's) lets it pass.
        Raises InvalidTopic, TopicReserved, InvalidConfig, FilterInvalid, UnknownTopicOrPartition, InvalidOffset,
        SnapshotNotFound, PreconditionFailed.
        """
        settings = checked(settings)
        async with self._names.changing:
            if name not in self:
                self._names.check_free(name)
                return await self._create(name, settings, start), True
            subscription = self.get(name)
            self._check_tag(subscription, tag)
            if not replace and tag is None and subscription.definition.config != settings:
                raise ConfigConflict(f"subscription {name!r} exists with other settings", subscription=name)
            await self._change(subscription, settings)
            return subscription, False

    async def _create(self, name: str, settings: SubscriptionSettings, start: Target) -> Subscription:
        others = {one.name: one.topic for one in self.definitions()}
        check_no_cycle(name, settings.topic, others)
        self._topics.check_room(1)
        async with self._topics.changing:
            topic = self._readable(settings.topic)
            cursors = await self._cursors(topic, start)
            definition = SubscriptionDefinition(
                name=name,
                incarnation=secrets.randbits(INCARNATION_BITS),
                created_ms=self._clock.now().wall_ms,
                config=settings,
                filters=(FilterVersion(settings.filter),),
            ).sought(cursors, 1)
            await self._engine.define(definition.key, definition.to_json(), create=[definition.journal_spec()])
        return await self._loaded(definition)

    def _readable(self, name: str) -> TopicInfo:
        topic = self._topics.get(name)
        if name.startswith(INTERNAL_PREFIX):
            raise TopicReserved(f"{name!r} is logbroker's own and has no subscriptions", topic=name)
        return topic

    async def _cursors(self, topic: TopicInfo, target: Target) -> dict[int, Cursor]:
        """Where a target lies in each partition; never before the log begins."""
        if isinstance(target, AtSnapshot):
            cursors = self._snapshots.cursors(target.name, topic.name, topic.partitions)
        else:
            cursors = {number: Cursor(offset) for number, offset in (await starts_in(self._engine, topic, target)).items()}
        starts = {n: (await self._engine.bounds(TopicPartition(topic.name, n))).log_start_offset for n in cursors}
        return {number: cursor.not_below(starts[number]) for number, cursor in cursors.items()}

    async def alter(self, name: str, changes: Mapping[str, Any], *, tag: str | None = None) -> Subscription:
        """Change settings by a merge patch; another filter judges what was not read yet.

        Raises SubscriptionNotFound, InvalidConfig, FilterInvalid, ConfigConflict, PreconditionFailed.
        """
        async with self._names.changing:
            subscription = self.get(name)
            self._check_tag(subscription, tag)
            await self._change(subscription, checked(patched(subscription.definition.config, changes)))
            return subscription

    async def _change(self, subscription: Subscription, settings: SubscriptionSettings) -> None:
        if settings == subscription.definition.config:
            return
        check_change(subscription.definition.config, settings)
        async with subscription.still():
            known = {one.number: one.machine.known_to for one in subscription.partitions}
            frontiers = {one.number: one.machine.floor(Source.SOURCE) for one in subscription.partitions}
            await self._redefine(subscription, subscription.definition.changed(settings, known, frontiers))

    async def delete(self, name: str, *, tag: str | None = None) -> None:
        """Delete a subscription with its retries and dead letters; the topic stays.

        Raises SubscriptionNotFound, PreconditionFailed, TopicInUse.
        """
        async with self._names.changing:
            if name in self:
                self._topics.check_unread(f"{name}.retry", f"{name}.dlq")
            await self._removed(await self._ended(name, tag))
            self._counters.forget(name)

    # -- seeking ---------------------------------------------------------------------------------------------------------

    async def plan(self, name: str, target: Target) -> list[Leap]:
        """What a seek would do. Raises as ``seek``."""
        subscription = self.get(name)
        return await self._leaps(subscription, await self._aimed(subscription, target))

    async def seek(self, name: str, target: Target) -> list[Leap]:
        """Go to ``target``: leases and waiting retries are void, dead letters stay; the present filter judges all again.

        Raises SubscriptionNotFound, SnapshotNotFound, InvalidOffset, UnknownTopicOrPartition.
        """
        async with self._names.changing:
            subscription = self.get(name)
            cursors = await self._aimed(subscription, target)
            async with subscription.still():
                leaps = await self._leaps(subscription, cursors)
                definition = subscription.definition.sought(cursors, subscription.next_generation())
                await self._engine.define(definition.key, definition.to_json())
                await subscription.seek(definition)
                if definition.done:  # it may be long, and everybody has heard it by now
                    await self._redefine(subscription, msgspec.structs.replace(definition, done={}))
            return leaps

    async def _aimed(self, subscription: Subscription, target: Target) -> dict[int, Cursor]:
        topic = self._engine.topic(subscription.definition.topic)
        if isinstance(target, Mapping):
            for number in target:
                self._topics.partition(topic.name, number)
        cursors = await self._cursors(topic, target)
        served = range(len(subscription.partitions))
        return {
            number: cursor
            for number, cursor in cursors.items()
            if number in served and (not isinstance(target, Mapping) or number in target)
        }

    async def _leaps(self, subscription: Subscription, cursors: Mapping[int, Cursor]) -> list[Leap]:
        leaps: list[Leap] = []
        for number, cursor in sorted(cursors.items()):
            partition = subscription.partitions[number]
            machine = partition.machine
            places = (machine.floor(Source.SOURCE), cursor.offset, await partition.end())
            leaps.append(Leap(number, *places, machine.in_flight, machine.waiting))
        return leaps
