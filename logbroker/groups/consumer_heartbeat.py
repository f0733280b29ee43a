"""ConsumerGroupHeartbeat: who may enter, stay and leave a consumer group, and what each heartbeat sets off (KIP-848).

What lives here: the decisions of that one request. What may not: reconciliation itself (``consumer_reconcile``).
Invariants: a request that is refused changes nothing; a member that begins anew (epoch 0) is never refused for what its
former self was or did (apache/kafka#21305), and a static member never fences itself.
"""

from logbroker.errors import (
    FencedInstance,
    FencedMemberEpoch,
    GroupMaxSizeReached,
    InvalidRegularExpression,
    InvalidRequest,
    LogbrokerError,
    UnreleasedInstanceId,
    UnsupportedAssignor,
)
from logbroker.groups import consumer_events as ce
from logbroker.groups.assignors import SERVER_ASSIGNORS
from logbroker.groups.consumer_departures import remove_members
from logbroker.groups.consumer_messages import Beaten, ConsumerHeartbeat
from logbroker.groups.consumer_reconcile import ConsumerDraft, reconcile, renew_session, retarget
from logbroker.groups.consumer_state import (
    AWAY_EPOCH,
    JOINING_EPOCH,
    LEAVING_EPOCH,
    NOTHING,
    ConsumerState,
    Current,
    current_assigned,
)
from logbroker.groups.membership import unknown_member
from logbroker.groups.messages import GroupReply, LeaveGroup, Leaver, Left
from logbroker.groups.patterns import check_pattern
from logbroker.machine import Decision


def heartbeat(draft: ConsumerDraft, command: ConsumerHeartbeat) -> Decision[GroupReply]:
    """Let a member in, on or out, or say why not."""
    refusal = malformed(command) or _identity_refusal(draft.group, command) or _size_refusal(draft, command)
    if refusal is not None:
        return draft.decision(refusal)
    if command.epoch < JOINING_EPOCH:
        return _leave(draft, command)
    assert command.catalogue is not None  # the coordinator's part
    changed = _take_in(draft, command)
    retarget(draft, command.catalogue, changed=changed)
    reconcile(draft, command.member_id, frozenset() if command.epoch == JOINING_EPOCH else command.owned)
    renew_session(draft, command.member_id)
    return draft.decision(_answer(draft, command))


def _answer(draft: ConsumerDraft, command: ConsumerHeartbeat) -> Beaten:
    """The assignment goes with it when it is news, and to a member that says everything, for it may have missed some."""
    member_id = command.member_id
    now = draft.group.current[member_id]
    wants_all = command.rebalance_timeout_ms is not None and _has_wish(command) and command.owned is not None
    interval_ms = draft.limits.consumer_heartbeat_interval_ms
    if not wants_all and command.epoch != JOINING_EPOCH and draft.sessions.told.get(member_id) == now.owned:
        return Beaten(member_id, now.epoch, interval_ms)
    draft.emit(ce.AssignmentTold(member_id, now.owned))
    return Beaten(member_id, now.epoch, interval_ms, tuple(sorted(now.owned)))


# -- who may -------------------------------------------------------------------------------------------------------------


def malformed(command: ConsumerHeartbeat) -> LogbrokerError | None:
    """Why the request makes no sense, whatever the group."""
    if not command.member_id:
        return InvalidRequest("the member id is empty")
    if command.instance_id == "":
        return InvalidRequest("the group.instance.id is empty")
    if command.epoch < AWAY_EPOCH:
        return InvalidRequest(f"member epoch {command.epoch} does not exist")
    if command.epoch == AWAY_EPOCH and command.instance_id is None:
        return InvalidRequest(f"member epoch {AWAY_EPOCH} is for members with a group.instance.id")
    if command.epoch == JOINING_EPOCH:
        if command.rebalance_timeout_ms is None or not _has_wish(command):
            return InvalidRequest("a member that joins must say its rebalance timeout and what it subscribes to")
        if command.owned:
            return InvalidRequest("a member that joins cannot own partitions yet")
    if command.assignor is not None and command.assignor not in SERVER_ASSIGNORS:
        known = ", ".join(SERVER_ASSIGNORS)
        return UnsupportedAssignor(f"there is no assignor {command.assignor!r}; there are: {known}")
    return _pattern_refusal(command.pattern) if command.pattern else None


def _pattern_refusal(pattern: str) -> LogbrokerError | None:
    try:
        check_pattern(pattern)
    except InvalidRegularExpression as refusal:
        return refusal
    return None


def _has_wish(command: ConsumerHeartbeat) -> bool:
    return command.topics is not None or command.pattern is not None


def _identity_refusal(group: ConsumerState, command: ConsumerHeartbeat) -> LogbrokerError | None:
    """Why the caller is not the member it claims to be."""
    holder = group.instances.get(command.instance_id) if command.instance_id is not None else None
    if command.epoch == JOINING_EPOCH:
        return _unreleased(group, holder, command) if holder not in (None, command.member_id) else None
    if command.instance_id is not None and holder is not None and holder != command.member_id:
        return _fenced(command.instance_id, command.member_id)
    if command.member_id not in group.members or (command.instance_id is not None and holder is None):
        return unknown_member(command.member_id)
    return _epoch_refusal(group.current[command.member_id], command) if command.epoch > JOINING_EPOCH else None


def _unreleased(group: ConsumerState, holder: str | None, command: ConsumerHeartbeat) -> LogbrokerError | None:
    """A process takes over from one that said it was leaving; one of the classic protocol has no way to say it."""
    if holder is None or group.current[holder].epoch == AWAY_EPOCH or group.members[holder].classic is not None:
        return None
    return UnreleasedInstanceId(
        f"group.instance.id {command.instance_id!r} is held by {holder!r}: stop that, or wait until its session ends"
    )


def _epoch_refusal(now: Current, command: ConsumerHeartbeat) -> LogbrokerError | None:
    """A member may be one epoch behind because an answer was lost, as long as it owns nothing that it should not."""
    if command.epoch == now.epoch:
        return None
    missed_an_answer = command.epoch == now.previous_epoch and command.epoch < now.epoch
    if missed_an_answer and command.owned is not None and command.owned <= now.owned.keys():
        return None
    return FencedMemberEpoch(
        f"member {command.member_id!r} is at epoch {now.epoch}, not {command.epoch}: "
        "give up all partitions and join again with epoch 0",
        member_epoch=now.epoch,
    )


def _size_refusal(draft: ConsumerDraft, command: ConsumerHeartbeat) -> LogbrokerError | None:
    group, size = draft.group, len(draft.group.members)
    is_known = command.member_id in group.members or command.instance_id in group.instances
    if is_known or size < draft.limits.max_size:
        return None
    return GroupMaxSizeReached(f"the group has {size} members and the broker allows no more")


# -- coming and going ----------------------------------------------------------------------------------------------------


def _take_in(draft: ConsumerDraft, command: ConsumerHeartbeat) -> bool:
    """Note who the member is and what it wants; whether that calls for a new target."""
    group, member_id = draft.group, command.member_id
    holder = group.instances.get(command.instance_id, member_id) if command.instance_id is not None else member_id
    known = group.members.get(holder)
    member = _member(command, known)
    if holder != member_id:
        draft.emit(ce.ConsumerMemberReplaced(holder, member))
    elif member != known:
        draft.emit(ce.ConsumerMemberSet(member))
    if holder == member_id and command.epoch == JOINING_EPOCH and group.current.get(member_id, NOTHING) != NOTHING:
        draft.emit(current_assigned(member_id, NOTHING))
    return known is None or _wish(known) != _wish(member)


def _wish(member: ce.ConsumerMember) -> tuple[frozenset[str], str | None, str | None]:
    return frozenset(member.topics), member.pattern, member.assignor


def _member(command: ConsumerHeartbeat, known: ce.ConsumerMember | None) -> ce.ConsumerMember:
    """The member by what it says now and, where it says nothing, said before; one that joins says everything."""
    if command.epoch == JOINING_EPOCH or known is None:
        topics, pattern, assignor, rack = command.topics or (), command.pattern, command.assignor, command.rack_id
        instance, timeout_ms = command.instance_id, command.rebalance_timeout_ms or 0
    else:
        topics = known.topics if command.topics is None else command.topics
        pattern = known.pattern if command.pattern is None else command.pattern
        assignor, rack = command.assignor or known.assignor, command.rack_id or known.rack_id
        instance = known.instance_id
        told_ms = command.rebalance_timeout_ms
        timeout_ms = known.rebalance_timeout_ms if told_ms is None else told_ms
    return ce.ConsumerMember(
        command.member_id,
        instance,
        rack,
        command.client_id,
        command.client_host,
        timeout_ms,
        tuple(sorted(set(topics))),
        pattern or None,
        assignor,
    )


def leave(draft: ConsumerDraft, command: LeaveGroup) -> Decision[GroupReply]:
    """LeaveGroup: administrators take members out so, by instance id, and members of the classic protocol leave."""
    results = tuple((leaver, _leaver_refusal(draft.group, leaver)) for leaver in command.members)
    named = (leaver.member_id or draft.group.instances[leaver.instance_id or ""] for leaver, no in results if no is None)
    remove_members(draft, tuple(dict.fromkeys(named)))
    return draft.decision(Left(results))


def _leaver_refusal(group: ConsumerState, leaver: Leaver) -> LogbrokerError | None:
    holder = group.instances.get(leaver.instance_id) if leaver.instance_id is not None else leaver.member_id
    if holder is None or holder not in group.members:
        return unknown_member(leaver.member_id)
    return _fenced(leaver.instance_id, leaver.member_id) if leaver.member_id not in ("", holder) else None


def _fenced(instance_id: str | None, member_id: str) -> LogbrokerError:
    return FencedInstance(
        f"group.instance.id {instance_id!r} is held by another member now; give each process its own group.instance.id",
        member_id=member_id,
    )


def _leave(draft: ConsumerDraft, command: ConsumerHeartbeat) -> Decision[GroupReply]:
    """Leave for good, or as a static member for a while: then its partitions wait for it until its session ends."""
    member_id = command.member_id
    if command.epoch == LEAVING_EPOCH:
        remove_members(draft, (member_id,))
    else:
        now = draft.group.current[member_id]
        draft.emit(current_assigned(member_id, Current(AWAY_EPOCH, JOINING_EPOCH, now.owned)))
        draft.emit(ce.RevocationAwaited(member_id, None))
        renew_session(draft, member_id)
    return draft.decision(Beaten(member_id, command.epoch, draft.limits.consumer_heartbeat_interval_ms))
