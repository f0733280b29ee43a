"""What members do within a generation: ask for their assignment, say that they live, leave.

What lives here: the decisions of SyncGroup, Heartbeat and LeaveGroup. What may not: the barriers (``rebalance``).
Invariant: a request of a member that is not of the present generation changes nothing.
"""

import msgspec

from logbroker.errors import InconsistentGroupProtocol, LogbrokerError
from logbroker.groups import events as e
from logbroker.groups.membership import unknown_member
from logbroker.groups.messages import (
    Done,
    GroupReply,
    GroupState,
    Heartbeat,
    LeaveGroup,
    Leaver,
    Left,
    MemberClaim,
    Synced,
    SyncGroup,
)
from logbroker.groups.rebalance import (
    Draft,
    rebalance_in_progress,
    rebalance_or_complete,
    remove_member,
    renew_session,
)
from logbroker.machine import Decision, Park


def sync(draft: Draft, command: SyncGroup) -> Decision[GroupReply]:
    """Hand out an assignment, or wait for the leader's; the leader's own request forms the generation."""
    group, member_id = draft.group, command.claim.member_id
    refusal = group.refusal(command.claim) or _protocol_refusal(draft, command)
    if refusal is not None:
        return draft.decision(refusal)
    if group.state is GroupState.PREPARING_REBALANCE:
        return draft.decision(rebalance_in_progress())
    if group.state is GroupState.STABLE:
        draft.emit(e.MemberSynced(member_id, None))
        renew_session(draft, member_id)
        return draft.decision(_synced(draft, member_id))
    draft.answer(group.syncing.get(member_id), rebalance_in_progress())
    draft.emit(e.MemberSynced(member_id, command.token))
    if member_id == group.leader:
        _form(draft, dict(command.assignments))
    return draft.decision(Park(command.token))


def _protocol_refusal(draft: Draft, command: SyncGroup) -> LogbrokerError | None:
    """A member that names the protocol (SyncGroup 5) must name the group's (KIP-559)."""
    group = draft.group
    for named, actual in ((command.protocol_type, group.protocol_type), (command.protocol, group.protocol)):
        if named is not None and named != actual:
            return InconsistentGroupProtocol(f"the group speaks {actual!r}, not {named!r}")
    return None


def _form(draft: Draft, assignments: dict[str, bytes]) -> None:
    group = draft.group
    assert group.protocol is not None and group.leader is not None  # chosen when the generation started
    members = tuple(
        msgspec.structs.replace(member, assignment=assignments.get(member.member_id, b""))
        for member in group.members.values()
    )
    waiting = dict(group.syncing)
    draft.emit(e.GenerationFormed(group.generation, group.protocol_type, group.protocol, group.leader, members))
    for member_id, token in waiting.items():
        draft.answer(token, _synced(draft, member_id))
        renew_session(draft, member_id)


def _synced(draft: Draft, member_id: str) -> Synced:
    group = draft.group
    return Synced(group.protocol_type, group.protocol, group.members[member_id].assignment)


def heartbeat(draft: Draft, command: Heartbeat) -> Decision[GroupReply]:
    """Renew the member's session, and tell it when it has to join again."""
    refusal = draft.group.refusal(command.claim)
    if refusal is not None:
        return draft.decision(refusal)
    renew_session(draft, command.claim.member_id)
    rebalancing = draft.group.state is GroupState.PREPARING_REBALANCE
    return draft.decision(rebalance_in_progress() if rebalancing else Done())


def leave(draft: Draft, command: LeaveGroup) -> Decision[GroupReply]:
    """Take the named members out; the others join again. Each member is answered for itself (KIP-345)."""
    results = tuple((leaver, _leave(draft, leaver)) for leaver in command.members)
    if any(refusal is None for _, refusal in results) and draft.group.state is not GroupState.EMPTY:
        rebalance_or_complete(draft)
    return draft.decision(Left(results))


def _leave(draft: Draft, leaver: Leaver) -> LogbrokerError | None:
    group, member_id = draft.group, leaver.member_id
    if not member_id and leaver.instance_id is not None:
        member_id = group.instances.get(leaver.instance_id, "")
    if member_id in group.pending:
        draft.emit(e.MemberIdForgotten(member_id))
        return None
    if not member_id:
        return unknown_member(member_id)
    refusal = group.identity_refusal(MemberClaim(member_id, group.generation, leaver.instance_id))
    if refusal is None:
        remove_member(draft, member_id)
    return refusal
