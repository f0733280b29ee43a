"""Committed offsets of a consumer group: which member may commit and read them, by its epoch.

What lives here: who may. What may not: writing (``offsets``). Invariants: a member that is out commits nothing; what it
says at its present epoch is believed, as Kafka does; what it says at an earlier one is taken for the partitions that it
has owned ever since (KIP-1251), so that a commit on its way during a rebalance is not refused while nobody else can have
the partition.
"""

from collections.abc import Mapping
from dataclasses import replace

from logbroker.errors import IllegalGeneration, LogbrokerError, NonEmptyGroup, StaleMemberEpoch
from logbroker.groups import offsets
from logbroker.groups.consumer_state import ConsumerState
from logbroker.groups.events import CommittedOffset
from logbroker.groups.membership import unknown_member
from logbroker.groups.messages import (
    NO_GENERATION,
    CommitOffsets,
    FetchOffsets,
    GroupReply,
    MemberClaim,
    OffsetResults,
    ResetOffsets,
)
from logbroker.groups.rebalance import Draft
from logbroker.machine import Decision
from logbroker.model import TopicPartition

Refusals = dict[TopicPartition, LogbrokerError]


def commit(
    draft: Draft, command: CommitOffsets, committed: Mapping[TopicPartition, CommittedOffset], group: ConsumerState
) -> Decision[GroupReply]:
    """Commit what may be committed; each position is answered for itself."""
    refusals: LogbrokerError | Refusals = {}
    if command.producer_id is None or not command.claim.is_none:
        refusals = commit_refusals(group, command.claim, tuple(wanted.where for wanted in command.offsets))
    if isinstance(refusals, LogbrokerError):
        if command.producer_id is not None and isinstance(refusals, StaleMemberEpoch):
            refusals = IllegalGeneration(refusals.detail)  # TxnOffsetCommit knows no other word for it
        return draft.decision(refusals)
    taken = replace(command, offsets=tuple(one for one in command.offsets if one.where not in refusals))
    generation = command.claim.generation if command.claim.member_id else NO_GENERATION
    written = dict(offsets.write(draft, taken, generation, committed).results)
    asked = (wanted.where for wanted in command.offsets)
    return draft.decision(OffsetResults(tuple((at, refusals.get(at) or written.get(at)) for at in asked)))


def commit_refusals(
    group: ConsumerState, claim: MemberClaim, partitions: tuple[TopicPartition, ...]
) -> LogbrokerError | Refusals:
    """Why the caller may commit nothing, or nothing for some partitions."""
    if not claim.member_id and claim.generation == NO_GENERATION and not group.members:
        return {}
    if claim.member_id not in group.members:
        return unknown_member(claim.member_id)
    now = group.current[claim.member_id]
    if claim.generation == now.epoch:
        return {}
    stale = _stale(group, claim)
    if claim.generation > now.epoch:
        return stale
    since = {**now.owned, **now.revoking}
    return {at: stale for at in partitions if since.get(at, now.epoch) > claim.generation}


def fetch(
    draft: Draft, command: FetchOffsets, committed: Mapping[TopicPartition, CommittedOffset], group: ConsumerState
) -> Decision[GroupReply]:
    """The committed offsets asked for; a caller that says which member it is must be that, at its present epoch."""
    claim = command.claim
    if claim is not None:
        if claim.member_id not in group.members:
            return draft.decision(unknown_member(claim.member_id))
        if claim.generation != group.current[claim.member_id].epoch:
            return draft.decision(_stale(group, claim))
    return offsets.fetch(draft, command, committed)


def _stale(group: ConsumerState, claim: MemberClaim) -> LogbrokerError:
    """In the words of the protocol that the member speaks."""
    epoch = group.current[claim.member_id].epoch
    detail = f"member {claim.member_id!r} is at epoch {epoch}, not {claim.generation}"
    is_classic = group.members[claim.member_id].classic is not None
    return IllegalGeneration(detail) if is_classic else StaleMemberEpoch(detail, member_epoch=epoch)


def reset(draft: Draft, command: ResetOffsets, group: ConsumerState) -> Decision[GroupReply]:
    """Set positions as an administrator, while nobody reads from them."""
    if group.members and not command.force:
        return draft.decision(NonEmptyGroup(f"the group has {len(group.members)} members: stop them first"))
    return offsets.reset(draft, command)
