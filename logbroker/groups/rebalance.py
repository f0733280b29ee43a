"""How a group gets from one generation to the next: the barriers of the classic protocol.

What lives here: the steps that joining, leaving and the passing of time share, each a few events on a ``Draft``. What may
not: requests (``joining``, ``sessions``), commits (``offsets``).
Invariant: nothing here changes a group; a draft tries its events on a copy so that a later step of the same decision sees
what an earlier one did.

    Empty -- join --> PreparingRebalance -- all joined, or time is up --> CompletingRebalance -- leader assigns --> Stable
      ^                 |          ^                                          |                                       |
      '--- nobody left -'          '------------ join, leave, silence, a missed sync -------------------------------'

The first rebalance of an empty group is delayed for more members to come (KIP-134): by the initial delay, again as long as
somebody new came in meanwhile, and no longer than the rebalance timeout.
"""

from collections import Counter

from logbroker.errors import LogbrokerError, RebalanceInProgress
from logbroker.groups import events as e
from logbroker.groups.membership import Membership, unknown_member
from logbroker.groups.messages import GroupLimits, GroupReply, GroupState, Joined, JoinedMember
from logbroker.machine import Answer, Decision, Event, Park
from logbroker.model import Now


class Draft:
    """A decision in the making: its events, tried on a copy of the membership, and its answers."""

    __slots__ = ("_answers", "_events", "group", "limits", "now")

    def __init__(self, membership: Membership, limits: GroupLimits, now: Now) -> None:
        self.group = membership.copy()
        self.limits = limits
        self.now = now
        self._events: list[Event] = []
        self._answers: list[Answer[GroupReply]] = []

    def emit(self, event: Event) -> None:
        """Make ``event`` part of the decision."""
        self._events.append(event)
        self.group.apply(event)

    def answer(self, token: int | None, reply: GroupReply | LogbrokerError) -> None:
        """Answer a caller that waits; None is nobody."""
        if token is not None:
            self._answers.append(Answer(token, reply))

    def decision(self, reply: GroupReply | LogbrokerError | Park | None = None) -> Decision[GroupReply]:
        """The decision. A reply that was parked and answered at once is given at once."""
        answers = tuple(self._answers)
        if isinstance(reply, Park):
            for given in answers:
                if given.token == reply.token:
                    others = tuple(answer for answer in answers if answer.token != reply.token)
                    return Decision(tuple(self._events), given.reply, others)
        return Decision(tuple(self._events), reply, answers)


def renew_session(draft: Draft, member_id: str) -> None:
    """The member was heard of."""
    timeout = draft.group.members[member_id].session_timeout_ms
    draft.emit(e.SessionsRenewed(((member_id, draft.now.mono_ms + timeout),)))


def rebalance_or_complete(draft: Draft) -> None:
    """After a change of members: start a rebalance, or finish the one under way if it waits for nobody else."""
    if draft.group.state is GroupState.PREPARING_REBALANCE:
        complete_if_everybody_joined(draft)
    else:
        start_rebalance(draft)


def start_rebalance(draft: Draft) -> None:
    """Make all members join again."""
    group = draft.group
    for token in group.syncing.values():
        draft.answer(token, rebalance_in_progress())
    timeout = group.rebalance_timeout_ms()
    if group.state is GroupState.EMPTY:
        delay = draft.limits.initial_rebalance_delay_ms
        draft.emit(e.RebalanceStarted(draft.now.mono_ms + delay, extra_ms=max(timeout - delay, 0)))
    else:
        draft.emit(e.RebalanceStarted(draft.now.mono_ms + timeout))
        complete_if_everybody_joined(draft)


def complete_if_everybody_joined(draft: Draft) -> None:
    """Open the join barrier if it waits for nobody; the delay of a first rebalance runs its course."""
    group = draft.group
    if group.state is GroupState.PREPARING_REBALANCE and group.extra_ms is None and group.everybody_joined():
        start_generation(draft)


def join_time_is_up(draft: Draft) -> None:
    """The join barrier waited long enough: delay the first rebalance once more, or go on without those who did not come."""
    group = draft.group
    if group.extended and group.extra_ms:
        delay = min(draft.limits.initial_rebalance_delay_ms, group.extra_ms)
        draft.emit(e.RebalanceStarted(draft.now.mono_ms + delay, extra_ms=group.extra_ms - delay))
    else:
        start_generation(draft)


def start_generation(draft: Draft) -> None:
    """Open the join barrier. Dynamic members that did not come are out; static ones have until their session ends."""
    group = draft.group
    for member in list(group.members.values()):
        if member.instance_id is None and member.member_id not in group.joining:
            draft.emit(e.MemberRemoved(member.member_id))
    if not group.members:
        empty_group(draft)
    elif not group.joining:
        draft.emit(e.RebalanceStarted(draft.now.mono_ms + group.rebalance_timeout_ms()))
    else:
        _start_generation_of_joined(draft)


def empty_group(draft: Draft) -> None:
    """The last member is gone."""
    draft.emit(e.GroupEmptied(draft.group.generation + 1, draft.group.protocol_type))
    draft.emit(e.GroupIdle(draft.now.mono_ms + draft.limits.idle_group_ms))


def _start_generation_of_joined(draft: Draft) -> None:
    group = draft.group
    leader = group.leader if group.leader in group.joining else next(iter(group.joining))
    tokens = dict(group.joining)
    draft.emit(e.GenerationStarted(group.generation + 1, group.protocol_type, chosen_protocol(group), leader))
    for member_id, token in tokens.items():
        draft.answer(token, joined(group, member_id))
    mono_ms = draft.now.mono_ms
    sessions = ((m.member_id, mono_ms + m.session_timeout_ms) for m in group.members.values() if m.member_id in tokens)
    draft.emit(e.SessionsRenewed(tuple(sessions)))
    draft.emit(e.SyncAwaited(mono_ms + group.rebalance_timeout_ms()))


def sync_time_is_up(draft: Draft) -> None:
    """Members that joined and then did not ask for their assignment are out, and the others join again."""
    for member_id in sorted(draft.group.unsynced):
        draft.emit(e.MemberRemoved(member_id))
    start_rebalance(draft)


def remove_member(draft: Draft, member_id: str) -> None:
    """Take a member out and let its waiting requests know; the caller then sees to the rebalance."""
    draft.answer(draft.group.joining.get(member_id), unknown_member(member_id))
    draft.answer(draft.group.syncing.get(member_id), unknown_member(member_id))
    draft.emit(e.MemberRemoved(member_id))


def expire(draft: Draft) -> None:
    """Everything that is due at ``draft.now``."""
    group, mono_ms = draft.group, draft.now.mono_ms
    forgotten = [member_id for member_id, deadline in group.pending.items() if deadline <= mono_ms]
    silent = [member_id for member_id, deadline in group.expiring_sessions() if deadline <= mono_ms]
    for member_id in forgotten:
        draft.emit(e.MemberIdForgotten(member_id))
    for member_id in silent:
        remove_member(draft, member_id)
    if silent:
        rebalance_or_complete(draft)
    elif forgotten:
        complete_if_everybody_joined(draft)
    if group.barrier_deadline is not None and group.barrier_deadline <= mono_ms:
        if group.state is GroupState.PREPARING_REBALANCE:
            join_time_is_up(draft)
        else:
            sync_time_is_up(draft)


# -- what a group says of itself -----------------------------------------------------------------------------------------


def common_protocols(members: list[e.Member]) -> set[str]:
    """The protocols that all of ``members`` offer."""
    offers = [{offered.name for offered in member.protocols} for member in members]
    return set.intersection(*offers) if offers else set()


def chosen_protocol(group: Membership) -> str:
    """The protocol with the most votes. Each member votes for what it likes best of what all offer.

    Of equals, the one that the first member likes best, so that the choice does not depend on chance.
    """
    members = list(group.members.values())
    common = common_protocols(members)
    ballots = [[offered.name for offered in member.protocols if offered.name in common] for member in members]
    votes = Counter(ballot[0] for ballot in ballots)
    return max(ballots[0], key=lambda name: votes[name])


def joined(group: Membership, member_id: str) -> Joined:
    """The answer to a member of the present generation; the leader's lists all members."""
    assert group.leader is not None  # a generation has a leader from its start to the group's end
    listed = joined_members(group) if member_id == group.leader else ()
    return Joined(member_id, group.generation, group.protocol_type, group.protocol, group.leader, listed)


def joined_members(group: Membership) -> tuple[JoinedMember, ...]:
    """All members as the leader sees them."""
    return tuple(
        JoinedMember(member.member_id, member.instance_id, member.metadata_for(group.protocol))
        for member in group.members.values()
    )


def rebalance_in_progress() -> RebalanceInProgress:
    """The error that makes a member join again."""
    return RebalanceInProgress("the group is rebalancing: join again")
