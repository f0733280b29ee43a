"""Members that go: by leaving, by silence, by not giving up what others are to get; and the time a restart gives to all.

What lives here: departures, which any request or the passing of time can bring about. What may not: arrivals.
Invariant: what a member owned is free as soon as it is out, and the group epoch is raised with it.
"""

from collections.abc import Mapping

from logbroker.groups import consumer_events as ce
from logbroker.groups.consumer_migration import downgrade_if_due
from logbroker.groups.consumer_reconcile import ConsumerDraft, renew_session
from logbroker.groups.events import GroupIdle, MemberIdForgotten


def remove_members(draft: ConsumerDraft, member_ids: tuple[str, ...]) -> None:
    """Take members out; what they owned is free at once."""
    if not member_ids:
        return
    for member_id in member_ids:
        draft.emit(ce.ConsumerMemberRemoved(member_id))
    group = draft.group
    draft.emit(ce.GroupEpochRaised(group.epoch + 1, group.topics if group.members else {}))
    if not group.members:
        draft.emit(GroupIdle(draft.now.mono_ms + draft.limits.idle_group_ms))
    downgrade_if_due(draft)


def resume(draft: ConsumerDraft) -> None:
    """Go on where the journal ends: all members get a full session, and a full time to give up what they have to."""
    group = draft.group
    for member_id, member in group.members.items():
        renew_session(draft, member_id)
        if group.current[member_id].revoking:
            draft.emit(ce.RevocationAwaited(member_id, draft.now.mono_ms + member.rebalance_timeout_ms))
    if not group.members:
        draft.emit(GroupIdle(draft.now.mono_ms + draft.limits.idle_group_ms))


def expire(draft: ConsumerDraft, given_ids: Mapping[str, int]) -> None:
    """Members that were silent for too long, or kept for too long what others are to get, are out.

    ``given_ids`` were told to new members of the classic protocol, each to be used before its deadline.
    """
    for member_id, deadline in given_ids.items():
        if deadline <= draft.now.mono_ms:
            draft.emit(MemberIdForgotten(member_id))
    remove_members(draft, tuple(draft.sessions.overdue(draft.now.mono_ms)))
