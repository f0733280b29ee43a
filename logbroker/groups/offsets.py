"""Committed offsets of one group: who may commit, move back, read and delete them.

What lives here: decisions about offsets. What may not: membership, except the question who is a member.
Invariants: a member of a past generation commits nothing; a commit is one event, so all its positions become durable
together; within a generation a position moves back only if that is asked for.
"""

from collections.abc import Container, Mapping

from logbroker.errors import (
    GroupNotFound,
    GroupSubscribedToTopic,
    IllegalGeneration,
    InvalidOffset,
    LogbrokerError,
    NonEmptyGroup,
    OffsetMetadataTooLarge,
)
from logbroker.groups import events as e
from logbroker.groups.consumer_protocol import subscribed_topics
from logbroker.groups.membership import Membership, unknown_member
from logbroker.groups.messages import (
    CONSUMER_PROTOCOL_TYPE,
    NO_GENERATION,
    CommitOffsets,
    DeleteOffsets,
    Done,
    EndTransaction,
    FetchOffsets,
    ForgetTopic,
    GroupReply,
    GroupState,
    MemberClaim,
    OffsetResults,
    Offsets,
    OffsetToCommit,
    ResetOffsets,
)
from logbroker.groups.rebalance import Draft, rebalance_in_progress, renew_session
from logbroker.machine import Decision
from logbroker.model import TopicPartition

CommittedOffsets = Mapping[TopicPartition, e.CommittedOffset]


def commit(draft: Draft, command: CommitOffsets, committed: CommittedOffsets) -> Decision[GroupReply]:
    """Commit what may be committed; each position is answered for itself."""
    group, claim = draft.group, command.claim
    is_new = group.generation == 0 and not group.members and not committed
    if command.producer_id is None:
        refusal = _commit_refusal(group, claim, is_new)
    else:
        refusal = None if claim.is_none else group.refusal(claim)
    if refusal is not None:
        return draft.decision(refusal)
    if claim.member_id in group.members:
        renew_session(draft, claim.member_id)
    generation = claim.generation if claim.member_id in group.members else NO_GENERATION
    return draft.decision(write(draft, command, generation, committed))


def reset(draft: Draft, command: ResetOffsets) -> Decision[GroupReply]:
    """Set positions, backwards too, while nobody reads from them."""
    if draft.group.members and not command.force:
        return draft.decision(_has_members(draft.group))
    return draft.decision(_write(draft, command.offsets, NO_GENERATION, {}))


def fetch(draft: Draft, command: FetchOffsets, committed: CommittedOffsets) -> Decision[GroupReply]:
    """The committed offsets asked for."""
    if command.partitions is None:
        return draft.decision(Offsets(dict(committed)))
    return draft.decision(Offsets({at: committed[at] for at in command.partitions if at in committed}))


def delete_classic(draft: Draft, command: DeleteOffsets, committed: CommittedOffsets) -> Decision[GroupReply]:
    """Delete offsets of a classic group; its members must say what they read."""
    group = draft.group
    if group.state is GroupState.EMPTY and group.generation == 0 and not committed:
        return draft.decision(GroupNotFound())
    if group.members and group.protocol_type != CONSUMER_PROTOCOL_TYPE:
        return draft.decision(_has_members(group))
    return delete(draft, command, committed, _subscribed_topics(group))


def delete(
    draft: Draft, command: DeleteOffsets, committed: CommittedOffsets, subscribed: set[str] | None
) -> Decision[GroupReply]:
    """Delete offsets of topics that no member reads (KIP-496); None: it may be any."""
    results = tuple((at, _delete_refusal(at, subscribed)) for at in command.partitions)
    gone = tuple(at for at, refusal in results if refusal is None and at in committed)
    if gone:
        draft.emit(e.OffsetsDeleted(gone))
    return draft.decision(OffsetResults(results))


def forget_topic(draft: Draft, command: ForgetTopic, *committed: CommittedOffsets) -> Decision[GroupReply]:
    """Drop the offsets of a topic that is no more."""
    gone = {at for positions in committed for at in positions if at.topic == command.topic}
    if gone:
        draft.emit(e.OffsetsDeleted(tuple(sorted(gone))))
    return draft.decision(Done())


# -- who may commit ------------------------------------------------------------------------------------------------------


def _commit_refusal(group: Membership, claim: MemberClaim, is_new: bool) -> LogbrokerError | None:
    """Members commit in their generation; a consumer without membership only while there are no members to disturb."""
    if group.state is GroupState.EMPTY and claim.generation == NO_GENERATION:
        return None
    if claim.is_none:
        return unknown_member("")
    if is_new:
        return IllegalGeneration(f"there is no generation {claim.generation} of a group that has no members: join first")
    refusal = group.refusal(claim)
    if refusal is None and group.state is GroupState.COMPLETING_REBALANCE:
        return rebalance_in_progress()
    return refusal


def _has_members(group: Membership) -> NonEmptyGroup:
    return NonEmptyGroup(f"the group has {len(group.members)} members: stop them first")


# -- writing -------------------------------------------------------------------------------------------------------------


def write(draft: Draft, command: CommitOffsets, generation: int, committed: CommittedOffsets) -> OffsetResults:
    """Commit all acceptable offsets, as a member of ``generation`` or, with NO_GENERATION, as nobody."""
    settled = {}
    if not command.may_go_back:
        settled = {at: known.offset for at, known in committed.items() if known.generation == generation != NO_GENERATION}
    return _write(draft, command.offsets, generation, settled, command.producer_id)


def end_transaction(draft: Draft, command: EndTransaction, pending: Container[int]) -> Decision[GroupReply]:
    """Let the positions count that a producer committed in its transaction, or not."""
    if command.producer_id in pending:
        draft.emit(e.TransactionDecided(command.producer_id, command.committed))
    return draft.decision(Done())


def _write(
    draft: Draft,
    offsets: tuple[OffsetToCommit, ...],
    generation: int,
    settled: Mapping[TopicPartition, int],
    producer_id: int | None = None,
) -> OffsetResults:
    """Commit all acceptable ``offsets`` in one event; those below ``settled`` are late and have no effect."""
    results = tuple((wanted.where, _offset_refusal(draft, wanted)) for wanted in offsets)
    events = tuple(
        e.CommittedOffset(wanted.where, wanted.offset, wanted.leader_epoch, wanted.metadata, draft.now.wall_ms, generation)
        for wanted, (_, refusal) in zip(offsets, results, strict=True)
        if refusal is None and wanted.offset >= settled.get(wanted.where, 0)
    )
    if events:
        draft.emit(e.OffsetsCommitted(events) if producer_id is None else e.OffsetsPending(producer_id, events))
    return OffsetResults(results)


def _offset_refusal(draft: Draft, wanted: OffsetToCommit) -> LogbrokerError | None:
    if wanted.offset < 0:
        return InvalidOffset(f"offset {wanted.offset} of {wanted.where} is negative")
    limit = draft.limits.offset_metadata_max_bytes
    if wanted.metadata is not None and len(wanted.metadata.encode()) > limit:
        return OffsetMetadataTooLarge(f"the metadata for {wanted.where} is longer than {limit} bytes")
    return None


def _subscribed_topics(group: Membership) -> set[str] | None:
    """The topics that members read; None if a member's subscription cannot be read, which then may be any."""
    topics: set[str] = set()
    for member in group.members.values():
        for offered in member.protocols:
            subscription = subscribed_topics(offered.metadata)
            if subscription is None:
                return None
            topics.update(subscription)
    return topics


def _delete_refusal(at: TopicPartition, subscribed: set[str] | None) -> LogbrokerError | None:
    if subscribed is not None and at.topic not in subscribed:
        return None
    return GroupSubscribedToTopic(f"a member of the group may be reading {at.topic!r}: stop it first")
