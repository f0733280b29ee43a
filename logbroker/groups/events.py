"""What happens to a consumer group, as data: the only things that change it.

What lives here: hard events (journalled; what a restarted broker knows of the group) and soft events (sessions and callers
that wait; gone with the process). What may not: decisions.
Invariant: a hard event holds no monotonic time and no token, for both mean nothing to the next process. Hard events are
msgpack arrays; fields are added at the end, with a default.

As in Kafka, a group is durable once the leader has assigned: the members, their subscriptions and assignments of the last
*formed* generation. Beyond Kafka, the number of a generation is journalled when it starts, before anyone hears of it, so
that no crash gives one number to two sets of members.
"""

from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from logbroker.machine import HardEvent, SoftEvent
from logbroker.model import TopicPartition


class GroupProtocol(msgspec.Struct, frozen=True, array_like=True):
    """A way to assign partitions that a member offers, with what the assignor needs to know of the member."""

    name: str
    metadata: bytes


class Member(msgspec.Struct, frozen=True, array_like=True):
    """One member as it last joined. ``protocols`` are in the member's order of preference."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: tuple[GroupProtocol, ...]
    assignment: bytes = b""

    def metadata_for(self, protocol: str | None) -> bytes:
        """What the member said for ``protocol``; empty if it does not offer it."""
        return next((offered.metadata for offered in self.protocols if offered.name == protocol), b"")


class CommittedOffset(msgspec.Struct, frozen=True, array_like=True):
    """A position a group committed: the *next* offset to read. ``generation`` -1: committed without membership."""

    where: TopicPartition
    offset: int
    leader_epoch: int
    metadata: str | None
    committed_ms: int
    generation: int = -1


# -- hard events: tags never change --------------------------------------------------------------------------------------


class GenerationStarted(HardEvent, frozen=True, tag="start"):
    """The join barrier opened: the members in hand make up ``generation`` and wait for ``leader`` to assign."""

    generation: int
    protocol_type: str
    protocol: str
    leader: str


class GenerationFormed(HardEvent, frozen=True, tag="formed"):
    """The leader assigned: these are the members and assignments of ``generation``."""

    generation: int
    protocol_type: str
    protocol: str
    leader: str
    members: tuple[Member, ...]


class StaticMemberReplaced(HardEvent, frozen=True, tag="static"):
    """The holder of a group.instance.id came back as a new process: ``member`` takes the place of ``old_member_id``.

    Journalled in every state, unlike in Kafka: a broker that forgot the new member id would fence its only holder.
    """

    old_member_id: str
    member: Member


class GroupEmptied(HardEvent, frozen=True, tag="empty"):
    """No member is left; the next generation follows ``generation``."""

    generation: int
    protocol_type: str


class GroupDeleted(HardEvent, frozen=True, tag="deleted"):
    """The group and its offsets are gone."""


class OffsetsCommitted(HardEvent, frozen=True, tag="commit"):
    """Positions were committed."""

    offsets: tuple[CommittedOffset, ...]


class OffsetsDeleted(HardEvent, frozen=True, tag="uncommit"):
    """Committed positions were deleted."""

    partitions: tuple[TopicPartition, ...]


class OffsetsPending(HardEvent, frozen=True, tag="pending"):
    """A producer committed positions in a transaction; they count once that is committed."""

    producer_id: int
    offsets: tuple[CommittedOffset, ...]


class TransactionDecided(HardEvent, frozen=True, tag="decided"):
    """The transaction of a producer has ended; if it was committed, its positions count now."""

    producer_id: int
    committed: bool


GroupEvent: TypeAlias = (
    GenerationStarted
    | GenerationFormed
    | StaticMemberReplaced
    | GroupEmptied
    | GroupDeleted
    | OffsetsCommitted
    | OffsetsDeleted
    | OffsetsPending
    | TransactionDecided
)
"""What the journal of groups holds."""


# -- soft events: deadlines are mono_ms ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MemberIdGiven(SoftEvent):
    """A new member was told its id and is to join with it before ``deadline`` (KIP-394)."""

    member_id: str
    deadline: int


@dataclass(frozen=True, slots=True)
class MemberIdForgotten(SoftEvent):
    """A member id that was given out is no longer waited for."""

    member_id: str


@dataclass(frozen=True, slots=True)
class MemberJoined(SoftEvent):
    """A member entered or re-entered and waits behind the join barrier for the answer to ``token``."""

    member: Member
    protocol_type: str
    token: int
    caller: str
    deadline: int


@dataclass(frozen=True, slots=True)
class CallerKnown(SoftEvent):
    """A member came in by the connection or session ``caller`` without having to wait."""

    member_id: str
    caller: str


@dataclass(frozen=True, slots=True)
class MemberRemoved(SoftEvent):
    """A member left, was silent for too long, or missed a barrier."""

    member_id: str


@dataclass(frozen=True, slots=True)
class MemberSynced(SoftEvent):
    """A member asked for its assignment; it waits for the leader's under ``token``, or has it already (None)."""

    member_id: str
    token: int | None


@dataclass(frozen=True, slots=True)
class RebalanceStarted(SoftEvent):
    """All members have to join again before ``deadline``.

    ``extra_ms`` is how much longer the first rebalance of an empty group may be delayed for further members (KIP-134);
    None for a later rebalance.
    """

    deadline: int
    extra_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SyncAwaited(SoftEvent):
    """Whoever has not asked for its assignment by ``deadline`` is out."""

    deadline: int


@dataclass(frozen=True, slots=True)
class SessionsRenewed(SoftEvent):
    """Members were heard of; each is out unless heard of again before its deadline."""

    deadlines: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class GroupIdle(SoftEvent):
    """The group is empty; without committed offsets it is deleted at ``deadline``."""

    deadline: int


@dataclass(frozen=True, slots=True)
class MembershipResumed(SoftEvent):
    """The journal is replayed: the last formed generation goes on, or joins anew before ``rejoin_deadline``."""

    sessions: tuple[tuple[str, int], ...]
    rejoin_deadline: int | None
    formed: GenerationFormed | None
    generation: int
    protocol_type: str
