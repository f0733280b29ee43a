"""A group while it speaks the consumer protocol (KIP-848): which decision answers which command, and how it is seen.

What lives here: the way from commands to decisions, views. What may not: the decisions themselves, and what both protocols
share (``group``). Invariant: an epoch is never lower than any generation the group had, nor the other way round.
"""

from dataclasses import replace
from typing import TypeAlias

from logbroker.errors import GroupNotFound, LogbrokerError, NonEmptyGroup
from logbroker.groups import consumer_classic, consumer_offsets, offsets
from logbroker.groups import consumer_events as ce
from logbroker.groups import events as e
from logbroker.groups import messages as m
from logbroker.groups.consumer_heartbeat import heartbeat, leave, malformed
from logbroker.groups.consumer_messages import ConsumerGroupView, ConsumerHeartbeat, ConsumerMemberView
from logbroker.groups.consumer_migration import can_upgrade, upgrade
from logbroker.groups.consumer_protocol import Assignment, Subscription, encode_assignment, encode_subscription
from logbroker.groups.consumer_reconcile import ConsumerDraft
from logbroker.groups.consumer_state import JOINING_EPOCH, ConsumerState
from logbroker.groups.joining import join
from logbroker.groups.membership import unknown_member
from logbroker.groups.rebalance import Draft, rebalance_in_progress
from logbroker.machine import Answer, Decision
from logbroker.model import TopicPartition

Committed: TypeAlias = offsets.CommittedOffsets


def found(draft: ConsumerDraft, command: ConsumerHeartbeat, classic: Draft) -> Decision[m.GroupReply]:
    """The first member of the consumer protocol: the group speaks that from now on, with all its members if it has any."""
    if not can_upgrade(classic.group):
        return classic.decision(GroupNotFound("the group speaks another protocol: stop its members first"))
    if command.epoch != JOINING_EPOCH:
        return classic.decision(malformed(command) or unknown_member(command.member_id))
    waiting = (*classic.group.joining.values(), *classic.group.syncing.values())
    upgrade(draft, classic.group)
    decision = heartbeat(draft, command)
    if isinstance(decision.reply, LogbrokerError):
        return Decision(reply=decision.reply)
    return replace(decision, answers=tuple(Answer(token, rebalance_in_progress()) for token in waiting))


def decide(
    draft: ConsumerDraft, classic: Draft, command: m.ProtocolCommand, committed: Committed
) -> Decision[m.GroupReply]:
    """What a command leads to. ``classic`` is a draft over the membership of the classic protocol, which is empty."""
    group = draft.group
    match command:
        case ConsumerHeartbeat():
            return heartbeat(draft, command)
        case m.CommitOffsets():
            return consumer_offsets.commit(classic, command, committed, group)
        case m.FetchOffsets():
            return consumer_offsets.fetch(classic, command, committed, group)
        case m.JoinGroup():
            return _join(draft, classic, command)
        case m.SyncGroup():
            return consumer_classic.sync(draft, command)
        case m.Heartbeat():
            return consumer_classic.heartbeat(draft, command)
        case m.LeaveGroup():
            return leave(draft, command)
        case m.ResetOffsets():
            return consumer_offsets.reset(classic, command, group)
        case m.DeleteOffsets():
            return offsets.delete(classic, command, committed, set(group.topics))
        case m.DescribeGroup():
            return classic.decision(view(group, draft.limits))
        case m.DeleteGroup():
            return _delete(classic, group)


def _join(draft: ConsumerDraft, classic: Draft, command: m.JoinGroup) -> Decision[m.GroupReply]:
    """A member of the classic protocol: a group that is empty speaks that again, another takes it in."""
    if draft.group.members:
        return consumer_classic.join(draft, command, frozenset(classic.group.pending))
    classic.emit(ce.ConsumerGroupDissolved(draft.group.epoch))
    decision = join(classic, command)
    has_entered = len(decision.events) > 1
    return decision if has_entered else Decision(reply=decision.reply)


def _delete(classic: Draft, group: ConsumerState) -> Decision[m.GroupReply]:
    if group.members:
        return classic.decision(NonEmptyGroup(f"the group has {len(group.members)} members: stop them first"))
    classic.emit(e.GroupDeleted())
    return classic.decision(m.Done())


# -- what can be seen ----------------------------------------------------------------------------------------------------


def view(group: ConsumerState, limits: m.GroupLimits) -> m.GroupView:
    """The group as administrators see it. Members are also shown in the words of the classic protocol."""
    members = tuple(_member_view(group, member, limits) for member in group.members.values())
    details = ConsumerGroupView(group.target_epoch)
    return m.GroupView(group.state, group.epoch, m.CONSUMER_PROTOCOL_TYPE, group.assignor, None, members, details)


def _member_view(group: ConsumerState, member: ce.ConsumerMember, limits: m.GroupLimits) -> m.MemberView:
    now = group.current[member.member_id]
    owned: tuple[TopicPartition, ...] = tuple(sorted(now.owned))
    details = ConsumerMemberView(
        now.epoch,
        member.topics,
        member.pattern,
        member.rack_id,
        owned,
        tuple(sorted(group.target_of(member.member_id))),
        member.classic is not None,
    )
    return m.MemberView(
        member.member_id,
        member.instance_id,
        member.client_id,
        member.client_host,
        encode_subscription(Subscription(member.topics)),
        encode_assignment(Assignment(owned)),
        member.classic.session_timeout_ms if member.classic is not None else limits.consumer_session_timeout_ms,
        member.rebalance_timeout_ms,
        details,
    )
