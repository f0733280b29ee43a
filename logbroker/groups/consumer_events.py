"""What happens to a group of the consumer protocol (KIP-848), as data.

What lives here: hard events and soft events beside those of ``events``, which both protocols share. What may not:
decisions.
Invariant: as in ``events``. The hard events are Kafka's records for such a group: members, group epoch and the topics it
was raised for, target assignment, current assignments; so a restarted broker knows who may own what.
"""

from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import msgspec

from logbroker.groups.events import GroupProtocol
from logbroker.machine import HardEvent, SoftEvent
from logbroker.model import TopicPartition


class ClassicPart(msgspec.Struct, frozen=True, array_like=True):
    """What only a member that speaks the classic protocol has."""

    session_timeout_ms: int
    protocols: tuple[GroupProtocol, ...]


class ConsumerMember(msgspec.Struct, frozen=True, array_like=True):
    """One member and what it wants to read: ``topics`` by name, and those whose whole name matches ``pattern`` (RE2)."""

    member_id: str
    instance_id: str | None
    rack_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    topics: tuple[str, ...]
    pattern: str | None
    assignor: str | None
    classic: ClassicPart | None = None


class TopicFacts(msgspec.Struct, frozen=True, array_like=True):
    """A topic as an assignment sees it; a topic that is made anew has another id."""

    id: UUID
    partitions: int


class OwnedPartition(msgspec.Struct, frozen=True, array_like=True):
    """A partition that a member may read since the group assigned it to the member in ``epoch`` (KIP-1251)."""

    where: TopicPartition
    epoch: int


# -- hard events: tags never change --------------------------------------------------------------------------------------


class ConsumerGroupFounded(HardEvent, frozen=True, tag="c-found"):
    """The group speaks the consumer protocol from now on; the next group epoch follows ``epoch``."""

    epoch: int


class ConsumerGroupDissolved(HardEvent, frozen=True, tag="c-end"):
    """The group speaks the classic protocol again; the next generation follows ``generation``."""

    generation: int


class ConsumerMemberSet(HardEvent, frozen=True, tag="c-member"):
    """A member entered, or wants something else."""

    member: ConsumerMember


class ConsumerMemberReplaced(HardEvent, frozen=True, tag="c-static"):
    """The holder of a group.instance.id came back as a new process, which takes over what its predecessor had."""

    old_member_id: str
    member: ConsumerMember


class ConsumerMemberRemoved(HardEvent, frozen=True, tag="c-remove"):
    """A member left, was silent for too long, or did not give up what it had to in time."""

    member_id: str


class GroupEpochRaised(HardEvent, frozen=True, tag="c-epoch"):
    """Members, subscriptions or topics changed, so that a new target is due. ``topics`` are those subscribed to."""

    epoch: int
    topics: dict[str, TopicFacts]


class TargetAssigned(HardEvent, frozen=True, tag="c-target"):
    """What members are to own in the end, for group epoch ``epoch``; members that are not named keep their target."""

    epoch: int
    assignor: str
    targets: dict[str, tuple[TopicPartition, ...]]


class CurrentAssigned(HardEvent, frozen=True, tag="c-current"):
    """What a member owns, and what it was told to give up and has not yet said that it did."""

    member_id: str
    epoch: int
    previous_epoch: int
    owned: tuple[OwnedPartition, ...]
    revoking: tuple[OwnedPartition, ...]


class TopicsGone(HardEvent, frozen=True, tag="c-gone"):
    """Topics were deleted: nobody owns anything of them, even if they were made anew."""

    topics: tuple[str, ...]


ConsumerEvent: TypeAlias = (
    ConsumerGroupFounded
    | ConsumerGroupDissolved
    | ConsumerMemberSet
    | ConsumerMemberReplaced
    | ConsumerMemberRemoved
    | GroupEpochRaised
    | TargetAssigned
    | CurrentAssigned
    | TopicsGone
)
"""What the journal of groups holds of this protocol."""


# -- soft events: deadlines are mono_ms ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConsumerSessionRenewed(SoftEvent):
    """A member was heard of; it is out unless heard of again before ``deadline``."""

    member_id: str
    deadline: int


@dataclass(frozen=True, slots=True)
class RevocationAwaited(SoftEvent):
    """A member is out unless it gives up what it was told to before ``deadline``; None: nothing is waited for."""

    member_id: str
    deadline: int | None


@dataclass(frozen=True, slots=True)
class AssignmentTold(SoftEvent):
    """A member was told all that it owns; the epochs of assignment tell a topic from one that was made anew."""

    member_id: str
    owned: dict[TopicPartition, int]
