"""Snapshots of subscriptions: taken, listed, kept from deletion, forgotten when their time is over.

What lives here: the life of snapshots. What may not: HTTP words; going back to one (``subscriptions``).
Invariant: while a snapshot stands, retention takes none of the records that it says are not done.
"""

import asyncio
import logging
from collections.abc import Sequence

from logbroker.broker.topics import check_topic_name
from logbroker.clock import Clock
from logbroker.engine.api import Engine
from logbroker.errors import ConfigConflict, InvalidOffset, LogbrokerError, SnapshotNotFound, UnknownTopicOrPartition
from logbroker.model import TopicPartition
from logbroker.pubsub.cursors import Cursor
from logbroker.pubsub.snapshots import PREFIX, Snapshot, snapshot_of
from logbroker.pubsub.subscription import Subscription

log = logging.getLogger(__name__)

LOOK_S = 1.0


class Snapshots:
    """The snapshots of a broker. To be started before anything is deleted."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._known: dict[str, Snapshot] = {}
        self._changing = asyncio.Lock()
        self._expiring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load and hold what there is. Raises DataDirectoryError for a newer logbroker's."""
        for key, document in self._engine.definitions().items():
            if key.startswith(PREFIX):
                self._hold(snapshot_of(key, document))
        self._expiring = asyncio.create_task(self._expire(), name="expiry of snapshots")

    async def stop(self) -> None:
        """Stop looking at the time."""
        if self._expiring is not None:
            self._expiring.cancel()
            await asyncio.wait([self._expiring])

    async def _expire(self) -> None:
        while True:
            try:
                await self.drop_expired()
            except LogbrokerError as error:
                log.warning("expired snapshots are dropped later: %s", error)
            await asyncio.sleep(LOOK_S)

    async def drop_expired(self) -> None:
        """Forget those whose time is over."""
        now_ms = self._clock.now().wall_ms
        for snapshot in self.list():
            if snapshot.expires_ms is not None and snapshot.expires_ms <= now_ms:
                await self.delete(snapshot.name)

    # -- looking ---------------------------------------------------------------------------------------------------------

    def get(self, name: str) -> Snapshot:
        """One snapshot. Raises InvalidTopic, SnapshotNotFound."""
        found = self._known.get(name)
        if found is not None:
            return found
        check_topic_name(name)
        raise SnapshotNotFound(f"there is no snapshot {name!r}", snapshot=name)

    def list(self, prefix: str = "") -> list[Snapshot]:
        """Those whose names start with ``prefix``, by name."""
        return [self._known[name] for name in sorted(self._known) if name.startswith(prefix)]

    def on(self, topic: str) -> Sequence[str]:
        """What stands on a topic."""
        return [f"snapshot {one.name!r}" for one in self.list() if one.topic == topic]

    def cursors(self, name: str, topic: str, partitions: int) -> dict[int, Cursor]:
        """Where a snapshot leads in each partition; new ones are read from their beginning.

        Raises SnapshotNotFound, and InvalidOffset for one of another topic.
        """
        snapshot = self.get(name)
        if snapshot.topic != topic:
            raise InvalidOffset(f"snapshot {name!r} is of topic {snapshot.topic!r}, not of {topic!r}")
        return {number: snapshot.cursors.get(number, Cursor(0)) for number in range(partitions)}

    async def kept_records(self, snapshot: Snapshot) -> int:
        """How many offsets it keeps from deletion: what it costs."""
        kept = 0
        for number, cursor in snapshot.cursors.items():
            bounds = await self._engine.bounds(TopicPartition(snapshot.topic, number))
            kept += bounds.high_watermark - max(cursor.offset, bounds.log_start_offset)
        return kept

    # -- changing --------------------------------------------------------------------------------------------------------

    async def take(self, name: str, subscription: Subscription, ttl_ms: int | None) -> tuple[Snapshot, bool]:
        """Note where a subscription is, and whether that is new; one that is there already stays as it is.

        Raises InvalidTopic, and ConfigConflict for one of another subscription.
        """
        check_topic_name(name)
        async with self._changing:
            known = self._known.get(name)
            if known is not None:
                if known.subscription != subscription.definition.name:
                    raise ConfigConflict(f"there is a snapshot {name!r} of {known.subscription!r}", snapshot=name)
                return known, False
            now_ms = self._clock.now().wall_ms
            snapshot = Snapshot(
                name=name,
                subscription=subscription.definition.name,
                topic=subscription.definition.topic,
                created_ms=now_ms,
                expires_ms=None if ttl_ms is None else now_ms + ttl_ms,
                cursors={one.number: subscription.cursor(one) for one in subscription.partitions},
            )
            self._hold(snapshot)
            try:
                await self._engine.define(snapshot.key, snapshot.to_json())
            except LogbrokerError:
                self._let_go(snapshot)
                raise
            return snapshot, True

    async def delete(self, name: str) -> None:
        """Forget a snapshot. Raises InvalidTopic, SnapshotNotFound."""
        async with self._changing:
            snapshot = self.get(name)
            await self._engine.define(snapshot.key, None)
            self._let_go(snapshot)

    def _hold(self, snapshot: Snapshot) -> None:
        self._known[snapshot.name] = snapshot
        for number, cursor in snapshot.cursors.items():
            self._engine.hold(TopicPartition(snapshot.topic, number), snapshot.key, cursor.offset)

    def _let_go(self, snapshot: Snapshot) -> None:
        del self._known[snapshot.name]
        for number in snapshot.cursors:
            try:
                self._engine.hold(TopicPartition(snapshot.topic, number), snapshot.key, None)
            except UnknownTopicOrPartition:
                continue
