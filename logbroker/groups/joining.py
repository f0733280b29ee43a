"""JoinGroup: who may enter a group, under which id, and what that sets off.

What lives here: the decisions of one request. What may not: the barriers themselves (``rebalance``).
Invariants: a join is answered exactly once, at once or when the join barrier opens; a static member that joins again by the
connection it holds its place with keeps its member id, so that it never fences itself (KAFKA-20985).
Behaviour: KIP-62, KIP-134, KIP-345 (static members), KIP-394 (member id required), KIP-814 (skip assignment).
"""

import dataclasses

from logbroker.errors import (
    GroupMaxSizeReached,
    InconsistentGroupProtocol,
    InvalidSessionTimeout,
    LogbrokerError,
    MemberIdRequired,
)
from logbroker.groups import events as e
from logbroker.groups.membership import Membership
from logbroker.groups.messages import GroupLimits, GroupReply, GroupState, Joined, JoinGroup, MemberClaim
from logbroker.groups.rebalance import (
    Draft,
    chosen_protocol,
    common_protocols,
    joined,
    rebalance_in_progress,
    rebalance_or_complete,
    renew_session,
    start_rebalance,
)
from logbroker.machine import Decision, Park


def join(draft: Draft, command: JoinGroup) -> Decision[GroupReply]:
    """Let a member in, or say why not."""
    group = draft.group
    member_id = command.member_id or _held_by_caller(group, command)
    refusal = (
        session_refusal(draft.limits, command)
        or _size_refusal(draft, member_id or group.instances.get(command.instance_id or "", ""))
        or _protocol_refusal(group, command, member_id)
    )
    if refusal is not None:
        return draft.decision(refusal)
    if not member_id:
        return _join_without_id(draft, command)
    if member_id in group.pending and command.instance_id is None:
        return _enter(draft, command, member_id)
    refusal = group.identity_refusal(MemberClaim(member_id, group.generation, command.instance_id))
    return draft.decision(refusal) if refusal is not None else _join_again(draft, command, member_id)


def _held_by_caller(group: Membership, command: JoinGroup) -> str:
    """The member id under which the caller itself holds the instance id; empty if it does not."""
    holder = group.instances.get(command.instance_id) if command.instance_id is not None else None
    return holder if holder is not None and command.caller and group.callers.get(holder) == command.caller else ""


def session_refusal(limits: GroupLimits, command: JoinGroup) -> LogbrokerError | None:
    """Why the broker does not take the session timeout; None if it does."""
    lowest, highest = limits.min_session_timeout_ms, limits.max_session_timeout_ms
    if lowest <= command.session_timeout_ms <= highest:
        return None
    return InvalidSessionTimeout(
        f"session timeout {command.session_timeout_ms} ms is not accepted: give {lowest} to {highest} ms",
        min_session_timeout_ms=lowest,
        max_session_timeout_ms=highest,
    )


def _size_refusal(draft: Draft, member_id: str) -> LogbrokerError | None:
    """A full group takes nobody new. While it rebalances, whoever joins first gets the places."""
    group = draft.group
    if group.state is GroupState.PREPARING_REBALANCE:
        known, size = member_id in group.joining, len(group.joining)
    else:
        known, size = member_id in group.members, len(group.members)
    if known or size < draft.limits.max_size:
        return None
    if member_id in group.pending:
        draft.emit(e.MemberIdForgotten(member_id))
    return GroupMaxSizeReached(f"the group has {size} members and the broker allows no more")


def _protocol_refusal(group: Membership, command: JoinGroup, member_id: str) -> LogbrokerError | None:
    """All members must have the protocol type and at least one protocol in common."""
    if not command.protocol_type or not command.protocols:
        return InconsistentGroupProtocol("a member must name a protocol type and at least one protocol")
    others = [member for member in group.members.values() if not _is_same_member(member, command, member_id)]
    if not others:
        return None
    offered = {protocol.name for protocol in command.protocols}
    common = common_protocols(others)
    if command.protocol_type == group.protocol_type and common & offered:
        return None
    return InconsistentGroupProtocol(
        f"the group speaks {group.protocol_type!r} with {sorted(common)}, "
        f"the member {command.protocol_type!r} with {sorted(offered)}"
    )


def _is_same_member(member: e.Member, command: JoinGroup, member_id: str) -> bool:
    is_same_instance = command.instance_id is not None and member.instance_id == command.instance_id
    return is_same_instance or member.member_id == member_id


# -- the ways in ---------------------------------------------------------------------------------------------------------


def _join_without_id(draft: Draft, command: JoinGroup) -> Decision[GroupReply]:
    if command.instance_id is not None:
        predecessor = draft.group.instances.get(command.instance_id)
        if predecessor is not None:
            return _replace(draft, command, predecessor)
    elif command.member_id_required:
        draft.emit(e.MemberIdGiven(command.new_member_id, draft.now.mono_ms + command.session_timeout_ms))
        return draft.decision(MemberIdRequired(f"join again as {command.new_member_id!r}", member_id=command.new_member_id))
    return _enter(draft, command, command.new_member_id)


def _enter(draft: Draft, command: JoinGroup, member_id: str) -> Decision[GroupReply]:
    """A new member waits behind the join barrier of the rebalance that it causes."""
    _wait_at_barrier(draft, command, member_id, draft.limits.new_member_join_timeout_ms)
    rebalance_or_complete(draft)
    return draft.decision(Park(command.token))


def _join_again(draft: Draft, command: JoinGroup, member_id: str) -> Decision[GroupReply]:
    """A member that has not changed just missed an answer; any other join makes the group rebalance.

    So does a join of the leader in a stable group, for that is how it says that topics have changed.
    """
    group = draft.group
    settled = group.state is GroupState.COMPLETING_REBALANCE or (
        group.state is GroupState.STABLE and member_id != group.leader
    )
    if settled and group.members[member_id].protocols == command.protocols:
        renew_session(draft, member_id)
        return draft.decision(joined(group, member_id))
    _wait_at_barrier(draft, command, member_id, command.session_timeout_ms)
    rebalance_or_complete(draft)
    return draft.decision(Park(command.token))


def _wait_at_barrier(draft: Draft, command: JoinGroup, member_id: str, patience_ms: int) -> None:
    group = draft.group
    known = group.members.get(member_id)
    draft.answer(group.joining.get(member_id), rebalance_in_progress())
    if member_id in group.newcomers:
        patience_ms = draft.limits.new_member_join_timeout_ms
    member = _member(command, member_id, known.assignment if known is not None else b"")
    deadline = draft.now.mono_ms + patience_ms
    draft.emit(e.MemberJoined(member, command.protocol_type, command.token, command.caller, deadline))


def _member(command: JoinGroup, member_id: str, assignment: bytes) -> e.Member:
    return e.Member(
        member_id,
        command.instance_id,
        command.client_id,
        command.client_host,
        command.session_timeout_ms,
        command.rebalance_timeout_ms,
        command.protocols,
        assignment,
    )


# -- static members ------------------------------------------------------------------------------------------------------


def _replace(draft: Draft, command: JoinGroup, predecessor: str) -> Decision[GroupReply]:
    """A new process takes over the place of a static member; requests of the old one are fenced.

    In a stable group whose choice of protocol stays, it takes over the assignment too, and nobody else notices.
    """
    group = draft.group
    old_leader = group.leader
    fenced = group.identity_refusal(MemberClaim("", group.generation, command.instance_id))
    assert fenced is not None  # a predecessor holds the instance id
    draft.answer(group.joining.get(predecessor), fenced)
    draft.answer(group.syncing.get(predecessor), fenced)
    member = _member(command, command.new_member_id, group.members[predecessor].assignment)
    draft.emit(e.StaticMemberReplaced(predecessor, member))
    if group.state is GroupState.STABLE and chosen_protocol(group) == group.protocol:
        renew_session(draft, member.member_id)
        draft.emit(e.CallerKnown(member.member_id, command.caller))
        return draft.decision(_take_over(group, command, old_leader))
    _wait_at_barrier(draft, command, member.member_id, command.session_timeout_ms)
    # While members sync, the leader has the old id in hand and would assign to nobody: join again, all of you.
    if group.state is GroupState.COMPLETING_REBALANCE:
        start_rebalance(draft)
    else:
        rebalance_or_complete(draft)
    return draft.decision(Park(command.token))


def _take_over(group: Membership, command: JoinGroup, old_leader: str | None) -> Joined:
    """The answer to a successor in a stable group. A leader must not assign: the assignment stands (KIP-814).

    A client that does not know ``skip_assignment`` is told that the leader is somebody else, its old self.
    """
    reply = joined(group, command.new_member_id)
    if not command.can_skip_assignment:
        return Joined(reply.member_id, reply.generation, reply.protocol_type, reply.protocol, old_leader or "")
    return dataclasses.replace(reply, skip_assignment=group.leader == command.new_member_id)
