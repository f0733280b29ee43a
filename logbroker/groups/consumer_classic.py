"""Members that speak the classic protocol to a consumer group (KIP-848, "online migration").

What lives here: JoinGroup, SyncGroup and Heartbeat of such members. What may not: turning the whole group from one
protocol to the other (``consumer_migration``). Invariants: no barrier, each member rebalances for itself; to the group a
join is a heartbeat that says everything: what the member's subscription says it owns, it owns, and the rest it has given
up. Members whose clients give up everything before they join get back what they keep with the answer to their SyncGroup.
"""

from logbroker.errors import (
    FencedInstance,
    GroupMaxSizeReached,
    IllegalGeneration,
    InconsistentGroupProtocol,
    InvalidRequest,
    LogbrokerError,
    MemberIdRequired,
)
from logbroker.groups import consumer_events as ce
from logbroker.groups import events as e
from logbroker.groups.consumer_migration import downgrade_if_due
from logbroker.groups.consumer_protocol import (
    Assignment,
    Subscription,
    decode_subscription,
    encode_assignment,
)
from logbroker.groups.consumer_reconcile import ConsumerDraft, reconcile, renew_session, retarget
from logbroker.groups.consumer_state import ConsumerState
from logbroker.groups.joining import session_refusal
from logbroker.groups.membership import unknown_member
from logbroker.groups.messages import (
    CONSUMER_PROTOCOL_TYPE,
    Done,
    GroupReply,
    Heartbeat,
    Joined,
    JoinGroup,
    MemberClaim,
    Synced,
    SyncGroup,
)
from logbroker.groups.rebalance import rebalance_in_progress
from logbroker.machine import Decision


def join(draft: ConsumerDraft, command: JoinGroup, given_ids: frozenset[str]) -> Decision[GroupReply]:
    """Let a member in or on; answered at once. ``given_ids`` were told to members that are to join with them (KIP-394)."""
    group = draft.group
    holder = group.instances.get(command.instance_id or "", "") if command.instance_id is not None else ""
    member_id = command.member_id or command.new_member_id
    refusal = session_refusal(draft.limits, command) or _join_refusal(draft, command, holder, given_ids)
    if refusal is not None:
        return draft.decision(refusal)
    if not command.member_id and command.instance_id is None and command.member_id_required:
        draft.emit(e.MemberIdGiven(member_id, draft.now.mono_ms + command.session_timeout_ms))
        return draft.decision(MemberIdRequired(f"join again as {member_id!r}", member_id=member_id))
    try:
        subscription = decode_subscription(command.protocols[0].metadata)
    except InvalidRequest as error:
        return draft.decision(InconsistentGroupProtocol(f"the subscription cannot be read: {error.detail}"))
    _enter(draft, command, member_id, holder or member_id, subscription)
    joined = _joined(draft.group, member_id)
    downgrade_if_due(draft)  # a static member of the consumer protocol may just have become the last of the others
    return draft.decision(joined)


def _join_refusal(
    draft: ConsumerDraft, command: JoinGroup, holder: str, given_ids: frozenset[str]
) -> LogbrokerError | None:
    group, member_id = draft.group, command.member_id
    offered = {protocol.name for protocol in command.protocols}
    if command.protocol_type != CONSUMER_PROTOCOL_TYPE or not offered:
        return InconsistentGroupProtocol(f"the group takes members of protocol type {CONSUMER_PROTOCOL_TYPE!r} only")
    if member_id and holder and holder != member_id:
        return _fenced(command.instance_id, member_id)
    is_known = bool(holder) or member_id in group.members
    if member_id and not is_known and member_id not in given_ids:
        return unknown_member(member_id)
    if not is_known and len(group.members) >= draft.limits.max_size:
        return GroupMaxSizeReached(f"the group has {len(group.members)} members and the broker allows no more")
    return None


def _enter(draft: ConsumerDraft, command: JoinGroup, member_id: str, holder: str, subscription: Subscription) -> None:
    """Take the member in under ``member_id``; ``holder`` is who had its place."""
    assert command.catalogue is not None  # the coordinator's part
    known = draft.group.members.get(holder)
    classic = ce.ClassicPart(command.session_timeout_ms, command.protocols)
    member = ce.ConsumerMember(
        member_id,
        command.instance_id,
        subscription.rack,
        command.client_id,
        command.client_host,
        command.rebalance_timeout_ms,
        tuple(sorted(set(subscription.topics))),
        None,
        None,
        classic,
    )
    draft.emit(e.MemberIdForgotten(member_id))
    if known is not None and holder != member_id:
        draft.emit(ce.ConsumerMemberReplaced(holder, member))
    elif member != known:
        draft.emit(ce.ConsumerMemberSet(member))
    retarget(draft, command.catalogue, changed=known is None or known.topics != member.topics or known.pattern is not None)
    reconcile(draft, member_id, frozenset(subscription.owned))
    renew_session(draft, member_id)


def _joined(group: ConsumerState, member_id: str) -> Joined:
    """The leader is nobody: the broker assigns."""
    return Joined(member_id, group.current[member_id].epoch, CONSUMER_PROTOCOL_TYPE, _protocol(group, member_id), "")


def _protocol(group: ConsumerState, member_id: str) -> str:
    classic = group.members[member_id].classic
    assert classic is not None  # whoever joined so speaks so
    return classic.protocols[0].name


def _fenced(instance_id: str | None, member_id: str) -> LogbrokerError:
    return FencedInstance(
        f"group.instance.id {instance_id!r} is held by another member now; give each process its own group.instance.id",
        member_id=member_id,
    )


def _claim_refusal(group: ConsumerState, claim: MemberClaim) -> LogbrokerError | None:
    """Why the caller is not the member of the classic protocol, at the epoch, that it claims to be."""
    if claim.instance_id is not None:
        holder = group.instances.get(claim.instance_id)
        if holder is not None and holder != claim.member_id:
            return _fenced(claim.instance_id, claim.member_id)
    member = group.members.get(claim.member_id)
    if member is None or member.classic is None:
        return unknown_member(claim.member_id)
    epoch = group.current[claim.member_id].epoch
    if claim.generation == epoch:
        return None
    return IllegalGeneration(
        f"generation {claim.generation} is over, the member is at {epoch}: join again", generation=epoch
    )


def sync(draft: ConsumerDraft, command: SyncGroup) -> Decision[GroupReply]:
    """Tell a member what it owns."""
    group, member_id = draft.group, command.claim.member_id
    refusal = _claim_refusal(group, command.claim)
    if refusal is not None:
        return draft.decision(refusal)
    protocol = _protocol(group, member_id)
    for named, actual in ((command.protocol_type, CONSUMER_PROTOCOL_TYPE), (command.protocol, protocol)):
        if named is not None and named != actual:
            return draft.decision(InconsistentGroupProtocol(f"the member joined with {actual!r}, not {named!r}"))
    renew_session(draft, member_id)
    owned = tuple(sorted(group.current[member_id].owned))
    return draft.decision(Synced(CONSUMER_PROTOCOL_TYPE, protocol, encode_assignment(Assignment(owned))))


def heartbeat(draft: ConsumerDraft, command: Heartbeat) -> Decision[GroupReply]:
    """Renew the session; a member that can get nearer to its target has to join again, within its rebalance timeout."""
    group, member_id = draft.group, command.claim.member_id
    refusal = _claim_refusal(group, command.claim)
    if refusal is not None:
        return draft.decision(refusal)
    renew_session(draft, member_id)
    if not _must_join(group, member_id):
        return draft.decision(Done())
    if member_id not in draft.sessions.revocations:
        patience_ms = group.members[member_id].rebalance_timeout_ms
        draft.emit(ce.RevocationAwaited(member_id, draft.now.mono_ms + patience_ms))
    return draft.decision(rebalance_in_progress())


def _must_join(group: ConsumerState, member_id: str) -> bool:
    now = group.current[member_id]
    if now.epoch < group.epoch:
        return True
    return any(at not in now.owned and at not in group.owners for at in group.target_of(member_id))
