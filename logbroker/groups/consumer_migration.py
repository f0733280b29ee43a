"""A group with members goes from the classic protocol to the consumer protocol and back (KIP-848, "online migration").

What lives here: both conversions. What may not: what members say (``consumer_heartbeat``, ``consumer_classic``).
Invariants: nobody stops reading because of a conversion; numbers go on, the group epoch from the generation and back.

Up: with the first member of the consumer protocol, if all others speak protocol type "consumer", so that the broker can
read their subscriptions and assignments. Down: when the last such member is gone and others are left; they rebalance once.
"""

from logbroker.errors import InvalidRequest
from logbroker.groups import consumer_events as ce
from logbroker.groups import events as e
from logbroker.groups.consumer_protocol import (
    Assignment,
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
)
from logbroker.groups.consumer_reconcile import ConsumerDraft, renew_session
from logbroker.groups.consumer_state import ConsumerState, Current, current_assigned
from logbroker.groups.membership import Membership
from logbroker.groups.messages import CONSUMER_PROTOCOL_TYPE
from logbroker.model import TopicPartition


def can_upgrade(classic: Membership) -> bool:
    """Whether the broker can assign to all members."""
    if classic.members and classic.protocol_type != CONSUMER_PROTOCOL_TYPE:
        return False
    return all(_subscription(member) is not None for member in classic.members.values())


def upgrade(draft: ConsumerDraft, classic: Membership) -> None:
    """Take over all members, with what they own in the last generation that was assigned to."""
    draft.emit(ce.ConsumerGroupFounded(draft.group.epoch))
    epoch, taken = draft.group.epoch, set[TopicPartition]()
    for member in classic.members.values():
        subscription = _subscription(member)
        assert subscription is not None  # by can_upgrade
        draft.emit(ce.ConsumerMemberSet(_consumer_member(member, subscription)))
        owned = {at: epoch for at in _assignment(member) if at not in taken}
        taken.update(owned)
        draft.emit(ce.TargetAssigned(epoch, "", {member.member_id: tuple(owned)}))
        draft.emit(current_assigned(member.member_id, Current(epoch, epoch, owned)))
        renew_session(draft, member.member_id)


def _consumer_member(member: e.Member, subscription: Subscription) -> ce.ConsumerMember:
    return ce.ConsumerMember(
        member.member_id,
        member.instance_id,
        subscription.rack,
        member.client_id,
        member.client_host,
        member.rebalance_timeout_ms,
        tuple(sorted(set(subscription.topics))),
        None,
        None,
        ce.ClassicPart(member.session_timeout_ms, member.protocols),
    )


def _subscription(member: e.Member) -> Subscription | None:
    try:
        return decode_subscription(member.protocols[0].metadata)
    except InvalidRequest:
        return None


def _assignment(member: e.Member) -> tuple[TopicPartition, ...]:
    try:
        return decode_assignment(member.assignment).partitions
    except InvalidRequest:
        return ()


def downgrade_if_due(draft: ConsumerDraft) -> None:
    """Go back when only members of the classic protocol are left. They have to join again."""
    group = draft.group
    parts = {name: member.classic for name, member in group.members.items() if member.classic is not None}
    if not parts or len(parts) < len(group.members):
        return
    members = tuple(_classic_member(group, name, part) for name, part in parts.items())
    protocol, leader = members[0].protocols[0].name, members[0].member_id
    formed = e.GenerationFormed(group.epoch, CONSUMER_PROTOCOL_TYPE, protocol, leader, members)
    draft.emit(ce.ConsumerGroupDissolved(group.epoch))
    draft.emit(e.GenerationStarted(group.epoch, CONSUMER_PROTOCOL_TYPE, protocol, leader))
    draft.emit(formed)
    mono_ms = draft.now.mono_ms
    sessions = tuple((member.member_id, mono_ms + member.session_timeout_ms) for member in members)
    rejoin_deadline = mono_ms + max(member.rebalance_timeout_ms for member in members)
    draft.emit(e.MembershipResumed(sessions, rejoin_deadline, formed, group.epoch, CONSUMER_PROTOCOL_TYPE))


def _classic_member(group: ConsumerState, member_id: str, classic: ce.ClassicPart) -> e.Member:
    member, owned = group.members[member_id], tuple(sorted(group.current[member_id].owned))
    return e.Member(
        member_id,
        member.instance_id,
        member.client_id,
        member.client_host,
        classic.session_timeout_ms,
        member.rebalance_timeout_ms,
        classic.protocols,
        encode_assignment(Assignment(owned)),
    )
