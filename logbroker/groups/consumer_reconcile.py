"""How a consumer group gets its members from what they own to what they are to own (KIP-848).

What lives here: the steps that heartbeats, departures and the passing of time share. What may not: requests
(``consumer_heartbeat``), commits (``consumer_offsets``).
Invariants: nothing here changes a group; a draft tries its events on a copy, so that a later step of a decision sees what
an earlier one did. A partition is handed on only when its old owner has said that it gave it up, or is out; a member goes
on reading what it keeps all the while.

The target is made by the first heartbeat that finds the group epoch ahead of it, for only commands bring the catalogue.
"""

from collections import Counter
from collections.abc import Callable

from logbroker.errors import LogbrokerError
from logbroker.groups import consumer_events as ce
from logbroker.groups.assignors import SERVER_ASSIGNORS
from logbroker.groups.consumer_messages import Catalogue
from logbroker.groups.consumer_protocol import Subscription
from logbroker.groups.consumer_state import ConsumerSessions, ConsumerState, Current, current_assigned
from logbroker.groups.messages import GroupLimits, GroupReply
from logbroker.machine import Decision, Event, HardEvent
from logbroker.model import Now, TopicPartition

DEFAULT_ASSIGNOR = next(iter(SERVER_ASSIGNORS))


class ConsumerDraft:
    """A decision in the making: its events, tried on a copy of the state that the first hard one makes."""

    __slots__ = ("_events", "_is_copy", "group", "limits", "now", "sessions")

    def __init__(self, group: ConsumerState, sessions: ConsumerSessions, limits: GroupLimits, now: Now) -> None:
        self.group = group
        self.sessions = sessions
        self.limits = limits
        self.now = now
        self._events: list[Event] = []
        self._is_copy = False

    def emit(self, event: Event) -> None:
        """Make ``event`` part of the decision."""
        self._events.append(event)
        if isinstance(event, HardEvent):
            if not self._is_copy:
                self.group, self._is_copy = self.group.copy(), True
            self.group.apply(event)

    def decision(self, reply: GroupReply | LogbrokerError | None = None) -> Decision[GroupReply]:
        """The decision."""
        return Decision(tuple(self._events), reply)


# -- targets -------------------------------------------------------------------------------------------------------------


def retarget(draft: ConsumerDraft, catalogue: Catalogue, *, changed: bool) -> None:
    """Raise the group epoch if members or topics have ``changed``, and make the target that is due."""
    group = draft.group
    wanted = {member_id: _topics_of(member, catalogue) for member_id, member in group.members.items()}
    topics: dict[str, ce.TopicFacts] = {}
    for name in sorted(set().union(*wanted.values())):
        facts = catalogue.facts(name)
        if facts is not None:
            topics[name] = facts
    changed = changed or topics != group.topics
    gone = tuple(name for name, facts in group.topics.items() if _is_gone(name, facts, catalogue))
    if gone:
        draft.emit(ce.TopicsGone(gone))
    if changed:
        draft.emit(ce.GroupEpochRaised(group.epoch + 1, topics))
    if draft.group.target_epoch < draft.group.epoch:
        _make_target(draft, wanted)


def _topics_of(member: ce.ConsumerMember, catalogue: Catalogue) -> set[str]:
    matched = catalogue.matching(member.pattern) if member.pattern is not None else ()
    return {*member.topics, *matched}


def _is_gone(name: str, facts: ce.TopicFacts, catalogue: Catalogue) -> bool:
    found = catalogue.facts(name)
    return found is None or found.id != facts.id


def _make_target(draft: ConsumerDraft, wanted: dict[str, set[str]]) -> None:
    group = draft.group
    votes = Counter(member.assignor for member in group.members.values() if member.assignor is not None)
    assignor = max(votes, key=lambda name: votes[name], default=DEFAULT_ASSIGNOR)
    subscriptions = {
        member_id: Subscription(tuple(topics), tuple(group.target_of(member_id))) for member_id, topics in wanted.items()
    }
    counts = {name: facts.partitions for name, facts in group.topics.items()}
    targets = SERVER_ASSIGNORS[assignor](subscriptions, counts)
    moved = {
        member_id: tuple(sorted(target)) for member_id, target in targets.items() if target != group.target_of(member_id)
    }
    draft.emit(ce.TargetAssigned(group.epoch, assignor, moved))


# -- from what is owned to the target ------------------------------------------------------------------------------------


def reconcile(draft: ConsumerDraft, member_id: str, said: frozenset[TopicPartition] | None) -> None:
    """Take the member as far towards its target as it can go, by what it ``said`` that it owns (None: as before)."""
    group = draft.group
    before = group.current[member_id]

    def is_free(at: TopicPartition) -> bool:
        return group.owners.get(at, member_id) == member_id

    after = next_step(before, group.target_of(member_id), group.target_epoch, is_free, said)
    if after != before:
        draft.emit(current_assigned(member_id, after))
    is_awaited = member_id in draft.sessions.revocations
    if after.revoking and not (is_awaited and after == before):
        patience_ms = group.members[member_id].rebalance_timeout_ms
        draft.emit(ce.RevocationAwaited(member_id, draft.now.mono_ms + patience_ms))
    elif is_awaited and not after.revoking:
        draft.emit(ce.RevocationAwaited(member_id, None))


def next_step(
    now: Current,
    target: frozenset[TopicPartition],
    target_epoch: int,
    is_free: Callable[[TopicPartition], bool],
    said: frozenset[TopicPartition] | None,
) -> Current:
    """What the member owns next. It stays in its epoch until it has given up everything that is not in the target.

    Then it reaches the target's epoch and gets what is free; the rest follows as others give it up.
    """
    epoch = now.epoch
    if now.revoking:
        if _still_owns(now.revoking, said):
            return now
        epoch = min(epoch + 1, target_epoch)
    kept = {at: since for at, since in now.owned.items() if at in target}
    revoking = {at: since for at, since in now.owned.items() if at not in target}
    if revoking and _still_owns(revoking, said):
        return Current(epoch, _previous(now, epoch), kept, revoking)
    added = {at: target_epoch for at in target if at not in kept and is_free(at)}
    return Current(target_epoch, _previous(now, target_epoch), {**kept, **added})


def _still_owns(revoking: dict[TopicPartition, int], said: frozenset[TopicPartition] | None) -> bool:
    return said is None or not said.isdisjoint(revoking)


def _previous(now: Current, epoch: int) -> int:
    return now.previous_epoch if epoch == now.epoch else now.epoch


def renew_session(draft: ConsumerDraft, member_id: str) -> None:
    """The member was heard of."""
    member = draft.group.members[member_id]
    timeout_ms = draft.limits.consumer_session_timeout_ms
    if member.classic is not None:
        timeout_ms = member.classic.session_timeout_ms
    draft.emit(ce.ConsumerSessionRenewed(member_id, draft.now.mono_ms + timeout_ms))
