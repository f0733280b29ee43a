"""One member of a group as the broker plays it: what a Kafka consumer does about its group, and no more.

What lives here: joining, assigning as leader, syncing. What may not: who polls, tasks, records.
Invariant: ``assignment`` is what the group gave the member in ``generation``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from logbroker.engine.api import Engine
from logbroker.errors import (
    IllegalGeneration,
    InvalidRequest,
    MemberIdRequired,
    RebalanceInProgress,
    UnknownTopicOrPartition,
)
from logbroker.groups import messages as m
from logbroker.groups.assignors import ASSIGNORS, assign
from logbroker.groups.consumer_protocol import (
    Assignment,
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from logbroker.groups.coordinator import GroupCoordinator
from logbroker.groups.events import GroupProtocol
from logbroker.model import TopicPartition

HOST_PREFIX = "http://"
"""The hosts of these members are shown with it; after a restart it tells them from Kafka's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a new member wants: topics by name, or all whose name matches a glob; the assignor it likes best."""

    topics: tuple[str, ...] = ()
    pattern: str | None = None
    assignor: str = "range"
    client_id: str = "http"
    host: str = ""
    instance_id: str | None = None
    session_timeout_ms: int = 45_000
    rebalance_timeout_ms: int = 60_000

    def check(self) -> None:
        """Raise InvalidRequest for a wish that cannot be fulfilled."""
        if bool(self.topics) == (self.pattern is not None):
            raise InvalidRequest("give either topics or a pattern")
        if self.assignor not in ASSIGNORS:
            raise InvalidRequest(f"there is no assignor {self.assignor!r}; there are: {', '.join(ASSIGNORS)}")


class PlayedMember:
    """A member of ``group_id`` that wants ``wish``. Calls raise the refusals of the coordinator."""

    def __init__(self, coordinator: GroupCoordinator, engine: Engine, group_id: str, wish: Wish) -> None:
        self._coordinator = coordinator
        self._engine = engine
        self.group_id = group_id
        self.wish = wish
        self.member_id = ""
        self.generation = m.NO_GENERATION
        self.assignment: tuple[TopicPartition, ...] = ()
        self._topics: tuple[str, ...] = ()
        self._led: Mapping[str, int] = {}
        """As leader: the partition counts it assigned by, of all topics that any member reads."""

    def recall(self, member: m.MemberView, generation: int) -> None:
        """Go on as the member that a broker played before it restarted."""
        self.member_id, self.generation = member.member_id, generation
        self._topics = self._wanted_topics()
        self.assignment = decode_assignment(member.assignment).partitions

    @property
    def claim(self) -> m.MemberClaim:
        """Who it says it is."""
        return m.MemberClaim(self.member_id, self.generation, self.wish.instance_id)

    async def get_member_id(self) -> None:
        """Get an id before joining, so that the member can be taken out if its caller leaves while it waits."""
        if self.wish.instance_id is not None:
            return
        try:
            await self._coordinator.join(self.group_id, self._join_command())
        except MemberIdRequired as told:
            self.member_id = str(told.fields["member_id"])

    async def must_enter(self) -> bool:
        """Heartbeat; whether the member has to join again, by the word of the group or because topics have changed."""
        try:
            await self._coordinator.heartbeat(self.group_id, self.claim)
        except (RebalanceInProgress, IllegalGeneration):
            return True
        return self._wanted_topics() != self._topics or self._counts(self._led) != self._led

    async def enter(self) -> None:
        """Join and sync until the member has an assignment that stands."""
        while True:
            held = set(self.assignment)
            joined = await self._coordinator.join(self.group_id, self._join_command())
            self.member_id, self.generation = joined.member_id, joined.generation
            try:
                synced = await self._coordinator.sync(self.group_id, self._sync_command(joined))
            except (RebalanceInProgress, IllegalGeneration):
                continue
            self.assignment = decode_assignment(synced.assignment).partitions
            gave_up = held - set(self.assignment)
            # What a member gives up in a cooperative rebalance is assigned anew once it has joined without it.
            if not (gave_up and joined.protocol == "cooperative-sticky"):
                return

    async def leave(self) -> None:
        """Leave the group. Raises UnknownMember when the member is out already."""
        leaver = m.Leaver(self.member_id, self.wish.instance_id)
        ((_, refusal),) = (await self._coordinator.leave(self.group_id, [leaver])).results
        if refusal is not None:
            raise refusal

    def _join_command(self) -> m.JoinGroup:
        wish = self.wish
        self._topics = self._wanted_topics()
        metadata = encode_subscription(Subscription(self._topics, self.assignment, self.generation))
        names = sorted(ASSIGNORS, key=lambda name: name != wish.assignor)
        return m.JoinGroup(
            member_id=self.member_id,
            instance_id=wish.instance_id,
            client_id=wish.client_id,
            client_host=HOST_PREFIX + wish.host,
            session_timeout_ms=wish.session_timeout_ms,
            rebalance_timeout_ms=wish.rebalance_timeout_ms,
            protocol_type=m.CONSUMER_PROTOCOL_TYPE,
            protocols=tuple(GroupProtocol(name, metadata) for name in names),
            member_id_required=True,
            can_skip_assignment=True,
        )

    def _sync_command(self, joined: m.Joined) -> m.SyncGroup:
        self._led = {}
        assignments: tuple[tuple[str, bytes], ...] = ()
        if joined.leader == joined.member_id:
            subscriptions = {one.member_id: _subscription(one.metadata) for one in joined.members}
            self._led = self._counts({topic: 0 for one in subscriptions.values() for topic in one.topics})
            if not joined.skip_assignment:
                assert joined.protocol is not None  # one of ours, or the join would have been refused
                shares = assign(joined.protocol, subscriptions, self._led)
                assignments = tuple(
                    (member_id, encode_assignment(Assignment(tuple(found)))) for member_id, found in shares.items()
                )
        return m.SyncGroup(claim=self.claim, assignments=assignments)

    def _wanted_topics(self) -> tuple[str, ...]:
        pattern = self.wish.pattern
        if pattern is None:
            return self.wish.topics
        return tuple(info.name for info in self._engine.topics() if info.owner is None and fnmatchcase(info.name, pattern))

    def _counts(self, topics: Mapping[str, int]) -> dict[str, int]:
        """The present number of partitions of ``topics``; 0 for one that does not exist."""
        counts = {}
        for topic in topics:
            try:
                counts[topic] = self._engine.topic(topic).partitions
            except UnknownTopicOrPartition:
                counts[topic] = 0
        return counts


def _subscription(metadata: bytes) -> Subscription:
    """What another member wants; one that cannot be read wants nothing."""
    try:
        return decode_subscription(metadata)
    except InvalidRequest:
        return Subscription(())
