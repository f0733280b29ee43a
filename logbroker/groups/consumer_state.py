"""A group of the consumer protocol as it stands: what a restart keeps, what it forgets, and how each event changes both.

What lives here: state, ``apply``, questions that only read. What may not: decisions.
Invariants: a partition has at most one owner, and one that is being revoked still has its old one; the group epoch, the
target's epoch and a member's epoch never fall (but for 0, a member that begins anew, and -2, a static one that is away).

    group epoch   raised when members, subscriptions or topics change
    target epoch  the group epoch that the target assignment was made for
    member epoch  the target epoch that the member has reached
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields

from logbroker.groups import consumer_events as ce
from logbroker.groups.events import GroupDeleted
from logbroker.groups.messages import GroupState
from logbroker.machine import HardEvent
from logbroker.model import TopicPartition

JOINING_EPOCH = 0
LEAVING_EPOCH = -1
AWAY_EPOCH = -2
"""A static member that left to come back: it keeps what it has until its session ends."""


@dataclass(frozen=True, slots=True)
class Current:
    """What a member owns and what it has yet to give up, with the epoch in which each partition was assigned to it."""

    epoch: int = JOINING_EPOCH
    previous_epoch: int = JOINING_EPOCH
    owned: dict[TopicPartition, int] = field(default_factory=dict)
    revoking: dict[TopicPartition, int] = field(default_factory=dict)


NOTHING = Current()
NO_PARTITIONS: frozenset[TopicPartition] = frozenset()


@dataclass(slots=True)
class ConsumerState:
    """The hard state. Members are kept in the order in which they came."""

    epoch: int = 0
    assignor: str = ""
    target_epoch: int = 0
    topics: dict[str, ce.TopicFacts] = field(default_factory=dict)
    """The topics that members are subscribed to, as the present group epoch knows them."""
    members: dict[str, ce.ConsumerMember] = field(default_factory=dict)
    targets: dict[str, frozenset[TopicPartition]] = field(default_factory=dict)
    current: dict[str, Current] = field(default_factory=dict)
    owners: dict[TopicPartition, str] = field(default_factory=dict)
    """Who owns a partition or has not yet given it up."""
    instances: dict[str, str] = field(default_factory=dict)
    """Which member holds a group.instance.id."""

    def copy(self) -> "ConsumerState":
        """An independent copy for a decision to try its events on."""
        return ConsumerState(*(copy.copy(getattr(self, one.name)) for one in fields(self)))

    # -- questions -------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> GroupState:
        """The state in the words of Kafka's tools."""
        if not self.members:
            return GroupState.EMPTY
        if self.target_epoch < self.epoch:
            return GroupState.ASSIGNING
        if all(self.is_reconciled(member_id) for member_id in self.members):
            return GroupState.STABLE
        return GroupState.RECONCILING

    def is_reconciled(self, member_id: str) -> bool:
        """Whether the member owns its target and nothing else."""
        now = self.current[member_id]
        return now.epoch == self.target_epoch and not now.revoking and now.owned.keys() == self.target_of(member_id)

    def target_of(self, member_id: str) -> frozenset[TopicPartition]:
        """What the member is to own in the end."""
        return self.targets.get(member_id, NO_PARTITIONS)

    # -- changes ---------------------------------------------------------------------------------------------------------

    def apply(self, event: object) -> None:
        """Change the state; events that do not concern it change nothing."""
        match event:
            case ce.CurrentAssigned(member_id=member_id):
                owned, revoking = ({one.where: one.epoch for one in some} for some in (event.owned, event.revoking))
                self._own(member_id, Current(event.epoch, event.previous_epoch, owned, revoking))
            case ce.ConsumerMemberSet(member=member):
                self._set(member)
            case ce.ConsumerMemberRemoved(member_id=member_id):
                self._remove(member_id)
            case ce.ConsumerMemberReplaced():
                self._replace(event.old_member_id, event.member)
            case ce.GroupEpochRaised(epoch=epoch, topics=topics):
                self.epoch, self.topics = epoch, topics
            case ce.TargetAssigned():
                self.target_epoch, self.assignor = event.epoch, event.assignor
                self.targets.update((member_id, frozenset(target)) for member_id, target in event.targets.items())
            case ce.TopicsGone(topics=topics):
                self._forget(frozenset(topics))

    def _own(self, member_id: str, now: Current) -> None:
        before = self.current.get(member_id, NOTHING)
        for at in (*before.owned, *before.revoking):
            if self.owners.get(at) == member_id:
                del self.owners[at]
        self.owners.update((at, member_id) for at in (*now.owned, *now.revoking))
        self.current[member_id] = now

    def _set(self, member: ce.ConsumerMember) -> None:
        known = self.members.get(member.member_id)
        if known is not None and known.instance_id is not None:
            self.instances.pop(known.instance_id, None)
        self.members[member.member_id] = member
        self.current.setdefault(member.member_id, NOTHING)
        if member.instance_id is not None:
            self.instances[member.instance_id] = member.member_id

    def _remove(self, member_id: str) -> None:
        member = self.members.pop(member_id)
        self._own(member_id, NOTHING)
        del self.current[member_id]
        self.targets.pop(member_id, None)
        if member.instance_id is not None and self.instances.get(member.instance_id) == member_id:
            del self.instances[member.instance_id]

    def _replace(self, old: str, member: ce.ConsumerMember) -> None:
        target, now = self.target_of(old), self.current[old]
        self._remove(old)
        self._set(member)
        self.targets[member.member_id] = target
        self._own(member.member_id, Current(JOINING_EPOCH, JOINING_EPOCH, now.owned))

    def _forget(self, gone: frozenset[str]) -> None:
        for member_id, now in list(self.current.items()):
            owned, revoking = (
                {at: epoch for at, epoch in some.items() if at.topic not in gone} for some in (now.owned, now.revoking)
            )
            self._own(member_id, Current(now.epoch, now.previous_epoch, owned, revoking))
        for member_id, target in self.targets.items():
            self.targets[member_id] = frozenset(at for at in target if at.topic not in gone)
        self.topics = {name: facts for name, facts in self.topics.items() if name not in gone}

    def snapshot(self) -> Iterator[HardEvent]:
        """Events that rebuild this state in a group that was just founded."""
        yield ce.ConsumerGroupFounded(self.epoch)
        yield ce.GroupEpochRaised(self.epoch, self.topics)
        for member in self.members.values():
            yield ce.ConsumerMemberSet(member)
        if self.target_epoch:
            yield ce.TargetAssigned(self.target_epoch, self.assignor, {})
        for member_id, target in self.targets.items():
            yield ce.TargetAssigned(self.target_epoch, self.assignor, {member_id: tuple(sorted(target))})
        for member_id, now in self.current.items():
            yield current_assigned(member_id, now)


def current_assigned(member_id: str, now: Current) -> ce.CurrentAssigned:
    """The event that makes ``now`` what the member owns."""
    owned, revoking = (
        tuple(ce.OwnedPartition(at, epoch) for at, epoch in sorted(some.items())) for some in (now.owned, now.revoking)
    )
    return ce.CurrentAssigned(member_id, now.epoch, now.previous_epoch, owned, revoking)


class ConsumerSessions:
    """The soft state: until when members may be silent, and what they know."""

    __slots__ = ("revocations", "sessions", "told")

    def __init__(self) -> None:
        self.sessions: dict[str, int] = {}
        self.revocations: dict[str, int] = {}
        """Until when members have to give up what they were told to."""
        self.told: dict[str, dict[TopicPartition, int]] = {}
        """What members were last told that they own; missing after a restart, so that they are told again."""

    def apply(self, event: object) -> None:
        """Change the state; events that do not concern it change nothing."""
        match event:
            case ce.ConsumerSessionRenewed(member_id=member_id, deadline=deadline):
                self.sessions[member_id] = deadline
            case ce.RevocationAwaited(member_id=member_id, deadline=None):
                self.revocations.pop(member_id, None)
            case ce.RevocationAwaited(member_id=member_id, deadline=int(until)):
                self.revocations[member_id] = until
            case ce.AssignmentTold(member_id=member_id, owned=owned):
                self.told[member_id] = owned
            case ce.ConsumerMemberRemoved(member_id=member_id) | ce.ConsumerMemberReplaced(old_member_id=member_id):
                for of_member in (self.sessions, self.revocations, self.told):
                    of_member.pop(member_id, None)
            case GroupDeleted() | ce.ConsumerGroupFounded() | ce.ConsumerGroupDissolved():
                ConsumerSessions.__init__(self)

    def next_deadline(self) -> int | None:
        """The earliest ``mono_ms`` at which something is due."""
        return min((*self.sessions.values(), *self.revocations.values()), default=None)

    def overdue(self, mono_ms: int) -> Iterable[str]:
        """The members whose time is up."""
        due = {member_id for member_id, deadline in self.sessions.items() if deadline <= mono_ms}
        return sorted(due | {member_id for member_id, deadline in self.revocations.items() if deadline <= mono_ms})
