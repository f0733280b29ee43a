"""What is asked of a consumer group and what it answers, as data.

What lives here: commands and replies, equal for both doors and the embedded broker. What may not: decisions, wire formats.
Whatever a decision needs from outside (new member ids, tokens for replies that wait) comes in with the command.
Refusals are errors of ``logbroker.errors``; where Kafka refuses per partition or per member, the reply carries the error.
"""

import enum
from dataclasses import dataclass
from typing import TypeAlias

from logbroker.errors import LogbrokerError
from logbroker.groups.consumer_messages import Beaten, Catalogue, ConsumerGroupView, ConsumerHeartbeat, ConsumerMemberView
from logbroker.groups.events import CommittedOffset, GroupProtocol
from logbroker.model import TopicPartition

NO_GENERATION = -1
CONSUMER_PROTOCOL_TYPE = "consumer"


class GroupKind(enum.Enum):
    """Which protocol a group speaks, as Kafka's tools spell it: KIP-62's or KIP-848's."""

    CLASSIC = "classic"
    CONSUMER = "consumer"


class GroupState(enum.Enum):
    """The states of a group, as Kafka's tools spell them; assigning and reconciling are a consumer group's."""

    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLimits:
    """What the broker allows all groups (Kafka's group.* and offset.metadata.max.bytes settings)."""

    initial_rebalance_delay_ms: int = 3_000
    min_session_timeout_ms: int = 6_000
    max_session_timeout_ms: int = 1_800_000
    max_size: int = 2**31 - 1
    offset_metadata_max_bytes: int = 4096
    new_member_join_timeout_ms: int = 300_000
    """How long a join without a known member id may wait; its caller cannot heartbeat and may be gone."""
    idle_group_ms: int = 600_000
    """How long a group without members and without offsets is remembered."""
    consumer_session_timeout_ms: int = 45_000
    consumer_heartbeat_interval_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class MemberClaim:
    """Who a caller says it is. ``generation`` -1 and an empty ``member_id`` stand for no membership at all."""

    member_id: str
    generation: int
    instance_id: str | None = None

    @property
    def is_none(self) -> bool:
        """Whether the caller claims to be nobody."""
        return self.generation == NO_GENERATION and not self.member_id and self.instance_id is None


# -- commands ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinGroup:
    """Enter the group, or enter it again. Answered when the next generation starts.

    ``caller`` names the connection or session the request came by: a static member that joins again by it keeps its member
    id instead of fencing itself. ``token`` and ``new_member_id``, which is used if one is needed, are the coordinator's.
    """

    token: int = 0
    member_id: str
    new_member_id: str = ""
    instance_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    caller: str = ""
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: tuple[GroupProtocol, ...]
    member_id_required: bool = False
    """Whether a new dynamic member must join twice, the second time with its id (KIP-394, JoinGroup 4 and later)."""
    can_skip_assignment: bool = False
    """Whether the caller understands ``skip_assignment`` (KIP-814, JoinGroup 9 and later)."""
    catalogue: Catalogue | None = None
    """The coordinator's: a member may join a group to which the broker assigns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncGroup:
    """Ask for one's assignment; the leader brings everybody's. Answered when the leader has assigned.

    ``token`` is the coordinator's.
    """

    token: int = 0
    claim: MemberClaim
    assignments: tuple[tuple[str, bytes], ...] = ()
    protocol_type: str | None = None
    protocol: str | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Say that the member is alive."""

    claim: MemberClaim


@dataclass(frozen=True, slots=True)
class Leaver:
    """A member that leaves; an administrator may name just the instance id."""

    member_id: str
    instance_id: str | None = None


@dataclass(frozen=True, slots=True)
class LeaveGroup:
    """Take members out of the group."""

    members: tuple[Leaver, ...]


@dataclass(frozen=True, slots=True)
class OffsetToCommit:
    """The next offset to read of one partition, with a note of the client."""

    where: TopicPartition
    offset: int
    leader_epoch: int = -1
    metadata: str | None = None


@dataclass(frozen=True, slots=True)
class CommitOffsets:
    """Commit positions as a member, or without membership while the group is empty.

    ``may_go_back`` says that a lower offset than the one committed in the same generation is meant. Kafka's protocol cannot
    tell a seek from a late request and takes every commit; callers that can tell leave it False, and a late commit is
    accepted without effect.
    """

    claim: MemberClaim
    offsets: tuple[OffsetToCommit, ...]
    may_go_back: bool = False
    producer_id: int | None = None
    """Whose transaction the positions are part of; they wait for its end (KIP-98, KIP-447)."""


@dataclass(frozen=True, slots=True)
class EndTransaction:
    """The transaction of a producer was committed or aborted; done once, however often it is said."""

    producer_id: int
    committed: bool


@dataclass(frozen=True, slots=True)
class ResetOffsets:
    """Set positions as an administrator. Refused while the group has members unless ``force``."""

    offsets: tuple[OffsetToCommit, ...]
    force: bool = False


@dataclass(frozen=True, slots=True)
class FetchOffsets:
    """The committed offsets of ``partitions``, or of all if None. With a ``claim``, only for a member at that epoch."""

    partitions: tuple[TopicPartition, ...] | None = None
    claim: MemberClaim | None = None


@dataclass(frozen=True, slots=True)
class DeleteOffsets:
    """Delete committed offsets; those of topics a member is subscribed to are kept."""

    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class ForgetTopic:
    """The topic was deleted: so are its offsets, whoever is subscribed."""

    topic: str


@dataclass(frozen=True, slots=True)
class DescribeGroup:
    """The group as it stands."""


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    """Delete the group and its offsets. Refused while it has members."""


ProtocolCommand: TypeAlias = (
    JoinGroup
    | SyncGroup
    | Heartbeat
    | ConsumerHeartbeat
    | LeaveGroup
    | CommitOffsets
    | ResetOffsets
    | FetchOffsets
    | DeleteOffsets
    | DescribeGroup
    | DeleteGroup
)
"""What is answered by the protocol that the group speaks."""
GroupCommand: TypeAlias = ProtocolCommand | EndTransaction | ForgetTopic


# -- replies -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """It is done; there is no more to say."""


@dataclass(frozen=True, slots=True)
class JoinedMember:
    """A member as the leader sees it, with its metadata for the chosen protocol."""

    member_id: str
    instance_id: str | None
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Joined:
    """The member belongs to ``generation``. Only the leader is told the ``members``, to assign to them."""

    member_id: str
    generation: int
    protocol_type: str | None
    protocol: str | None
    leader: str
    members: tuple[JoinedMember, ...] = ()
    skip_assignment: bool = False


@dataclass(frozen=True, slots=True)
class Synced:
    """The assignment of the member, in the words of the protocol."""

    protocol_type: str | None
    protocol: str | None
    assignment: bytes


@dataclass(frozen=True, slots=True)
class Left:
    """Per member that was to leave, in the order asked: None, or why it was not taken out."""

    results: tuple[tuple[Leaver, LogbrokerError | None], ...]


@dataclass(frozen=True, slots=True)
class OffsetResults:
    """Per partition, in the order asked: None, or why nothing was done to it."""

    results: tuple[tuple[TopicPartition, LogbrokerError | None], ...]


@dataclass(frozen=True, slots=True)
class Offsets:
    """Committed offsets; a partition without one is missing."""

    offsets: dict[TopicPartition, CommittedOffset]
    unstable: frozenset[TopicPartition] = frozenset()
    """Partitions for which a transaction that is not decided yet has committed a position (KIP-447)."""


@dataclass(frozen=True, slots=True)
class MemberView:
    """A member as administrators see it; ``metadata`` and ``assignment`` are empty until the group is stable."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes
    session_timeout_ms: int
    rebalance_timeout_ms: int
    consumer: ConsumerMemberView | None = None


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group as administrators see it. ``state`` DEAD: there is no such group."""

    state: GroupState
    generation: int
    protocol_type: str
    protocol: str
    leader: str | None
    members: tuple[MemberView, ...]
    consumer: ConsumerGroupView | None = None

    @property
    def kind(self) -> GroupKind:
        """The protocol it speaks."""
        return GroupKind.CLASSIC if self.consumer is None else GroupKind.CONSUMER


@dataclass(frozen=True, slots=True)
class GroupListing:
    """A line of the list of groups."""

    group_id: str
    state: GroupState
    protocol_type: str
    kind: GroupKind = GroupKind.CLASSIC


GroupReply: TypeAlias = Done | Joined | Synced | Beaten | Left | OffsetResults | Offsets | GroupView
