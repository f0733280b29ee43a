"""One consumer group as a decide / apply machine.

What lives here: the hard state of a group, and which decision answers which command. What may not: the decisions themselves
(``joining``, ``sessions``, ``offsets``), I/O, clocks.
Invariant: replaying the hard events of a group, or its snapshot, gives an equal ``HardState``; ``resume`` then rebuilds the
membership from it. As in Kafka a restarted broker goes on with the same generation and the same members, whose sessions
begin anew; a rebalance that was under way begins anew too.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeAlias, TypeVar

import msgspec

from logbroker.errors import GroupNotFound, NonEmptyGroup
from logbroker.groups import consumer_departures, consumer_group, offsets
from logbroker.groups import consumer_events as ce
from logbroker.groups import events as e
from logbroker.groups import messages as m
from logbroker.groups.consumer_messages import ConsumerHeartbeat
from logbroker.groups.consumer_reconcile import ConsumerDraft
from logbroker.groups.consumer_state import ConsumerSessions, ConsumerState
from logbroker.groups.joining import join
from logbroker.groups.membership import Membership
from logbroker.groups.rebalance import Draft, expire
from logbroker.groups.sessions import heartbeat, leave, sync
from logbroker.machine import Decision, HardEvent
from logbroker.model import Now, TopicPartition

JournalEvent: TypeAlias = e.GroupEvent | ce.ConsumerEvent
"""What the journal of groups holds."""
OFFSETS_PER_SNAPSHOT_EVENT = 500


@dataclass(slots=True)
class HardState:
    """What a restart keeps. ``generation`` is the last number used; ``formed`` the last generation with an assignment.

    ``consumer`` is there while the group speaks the consumer protocol.
    """

    generation: int = 0
    protocol_type: str = ""
    formed: e.GenerationFormed | None = None
    offsets: dict[TopicPartition, e.CommittedOffset] = field(default_factory=dict)
    pending: dict[int, dict[TopicPartition, e.CommittedOffset]] = field(default_factory=dict)
    """Positions that wait for the end of a transaction, by its producer."""
    consumer: ConsumerState | None = None

    def knows(self, topic: str) -> bool:
        """Whether any position is of that topic."""
        return any(at.topic == topic for positions in (self.offsets, *self.pending.values()) for at in positions)

    def drop_pending(self, partitions: Iterable[TopicPartition]) -> None:
        """What was committed for them in open transactions is overtaken by something newer."""
        for at in partitions if self.pending else ():
            for positions in self.pending.values():
                positions.pop(at, None)


class Group:
    """A consumer group: its hard state (what the journal holds) and its soft state (who is in and waits right now)."""

    def __init__(self, limits: m.GroupLimits) -> None:
        self.limits = limits
        """What the broker allows; replaced when its settings change."""
        self.hard = HardState()
        self.soft = Membership()
        self.sessions = ConsumerSessions()
        """The soft state of the consumer protocol; ``soft`` is that of the classic one."""

    # -- deciding --------------------------------------------------------------------------------------------------------

    def decide(self, command: m.GroupCommand, now: Now) -> Decision[m.GroupReply]:
        """What the command leads to."""
        draft = Draft(self.soft, self.limits, now)
        if isinstance(command, m.EndTransaction):
            return offsets.end_transaction(draft, command, self.hard.pending)
        if isinstance(command, m.ForgetTopic):
            return offsets.forget_topic(draft, command, self.hard.offsets, *self.hard.pending.values())
        decision = self._decide(command, draft, now)
        if isinstance(decision.reply, m.Offsets) and self.hard.pending:
            unstable = frozenset(at for positions in self.hard.pending.values() for at in positions)
            return replace(decision, reply=replace(decision.reply, unstable=unstable))
        return decision

    def _decide(self, command: m.ProtocolCommand, draft: Draft, now: Now) -> Decision[m.GroupReply]:
        if self.hard.consumer is not None:
            return consumer_group.decide(self._consumer_draft(self.hard.consumer, now), draft, command, self.hard.offsets)
        match command:
            case ConsumerHeartbeat():
                consumers = self._consumer_draft(ConsumerState(epoch=self.hard.generation), now)
                return consumer_group.found(consumers, command, draft)
            case m.Heartbeat():
                return heartbeat(draft, command)
            case m.CommitOffsets():
                return offsets.commit(draft, command, self.hard.offsets)
            case m.FetchOffsets():
                return offsets.fetch(draft, command, self.hard.offsets)
            case m.JoinGroup():
                return join(draft, command)
            case m.SyncGroup():
                return sync(draft, command)
            case m.LeaveGroup():
                return leave(draft, command)
            case _:
                return self._administer(draft, command)

    def _administer(
        self, draft: Draft, command: m.ResetOffsets | m.DeleteOffsets | m.DescribeGroup | m.DeleteGroup
    ) -> Decision[m.GroupReply]:
        match command:
            case m.ResetOffsets():
                return offsets.reset(draft, command)
            case m.DeleteOffsets():
                return offsets.delete_classic(draft, command, self.hard.offsets)
            case m.DescribeGroup():
                return draft.decision(self.view())
            case m.DeleteGroup():
                return self._delete(draft)

    def _consumer_draft(self, group: ConsumerState, now: Now) -> ConsumerDraft:
        return ConsumerDraft(group, self.sessions, self.limits, now)

    def _delete(self, draft: Draft) -> Decision[m.GroupReply]:
        if self.is_vacant:
            return draft.decision(GroupNotFound())
        if self.soft.members:
            return draft.decision(NonEmptyGroup(f"the group has {len(self.soft.members)} members: stop them first"))
        draft.emit(e.GroupDeleted())
        return draft.decision(m.Done())

    def expire(self, now: Now) -> Decision[m.GroupReply]:
        """What the passing of time leads to: members silent for too long are out, barriers open, idle groups go."""
        draft = Draft(self.soft, self.limits, now)
        idle_deadline = self._idle_deadline()
        if idle_deadline is not None and idle_deadline <= now.mono_ms:
            draft.emit(e.GroupDeleted())
        elif self.hard.consumer is not None:
            consumers = self._consumer_draft(self.hard.consumer, now)
            consumer_departures.expire(consumers, self.soft.pending)
            return consumers.decision()
        else:
            expire(draft)
        return draft.decision()

    def next_deadline(self, now: Now) -> int | None:
        """The ``mono_ms`` at which ``expire`` has something to do."""
        idle_deadline = self._idle_deadline()
        if idle_deadline is not None:
            return idle_deadline
        return min(
            (due for due in (self.soft.next_deadline(), self.sessions.next_deadline()) if due is not None), default=None
        )

    def resume(self, now: Now) -> Decision[m.GroupReply]:
        """Go on where the journal ends."""
        if self.hard.consumer is not None:
            consumers = self._consumer_draft(self.hard.consumer, now)
            consumer_departures.resume(consumers)
            return consumers.decision()
        draft = Draft(self.soft, self.limits, now)
        formed, hard = self.hard.formed, self.hard
        members = formed.members if formed is not None else ()
        sessions = tuple((member.member_id, now.mono_ms + member.session_timeout_ms) for member in members)
        rejoin_deadline = None
        if formed is not None and formed.generation != hard.generation:
            rejoin_deadline = now.mono_ms + max((member.rebalance_timeout_ms for member in members), default=0)
        draft.emit(e.MembershipResumed(sessions, rejoin_deadline, formed, hard.generation, hard.protocol_type))
        if formed is None:
            draft.emit(e.GroupIdle(now.mono_ms + self.limits.idle_group_ms))
        return draft.decision()

    def _idle_deadline(self) -> int | None:
        """When the group is deleted because nobody is there and nothing was committed; None while there is."""
        group, consumers = self.soft, self.hard.consumer
        members = group.members if consumers is None else consumers.members
        kept = self.hard.offsets or self.hard.pending
        in_use = members or group.pending or kept or group.state is not m.GroupState.EMPTY
        return None if in_use or self.is_vacant else group.idle_deadline

    # -- applying --------------------------------------------------------------------------------------------------------

    def apply(self, event: object) -> None:
        """Change the state, live and on replay."""
        hard = self.hard
        match event:
            case e.OffsetsCommitted(offsets=committed):
                hard.offsets.update((offset.where, offset) for offset in committed)
                hard.drop_pending(offset.where for offset in committed)
            case e.OffsetsDeleted(partitions=partitions):
                for at in partitions:
                    hard.offsets.pop(at, None)
                hard.drop_pending(partitions)
            case e.OffsetsPending(producer_id, committed):
                hard.pending.setdefault(producer_id, {}).update((offset.where, offset) for offset in committed)
            case e.TransactionDecided(producer_id, is_committed):
                decided = hard.pending.pop(producer_id, {})
                if is_committed:
                    hard.offsets.update(decided)
            case e.GenerationStarted(generation=generation, protocol_type=protocol_type):
                hard.generation, hard.protocol_type = generation, protocol_type
            case e.GenerationFormed():
                hard.formed = event
            case e.GroupEmptied(generation=generation, protocol_type=protocol_type):
                hard.generation, hard.protocol_type, hard.formed = generation, protocol_type, None
            case e.StaticMemberReplaced():
                hard.formed = _with_replaced(hard.formed, event)
            case e.GroupDeleted():
                self.hard = HardState()
            case ce.ConsumerGroupFounded(epoch=epoch):
                hard.consumer, hard.formed, hard.protocol_type = ConsumerState(epoch), None, m.CONSUMER_PROTOCOL_TYPE
            case ce.ConsumerGroupDissolved(generation=generation):
                hard.consumer, hard.generation = None, generation
            case _ if hard.consumer is not None:
                hard.consumer.apply(event)
        self.soft.apply(event)
        self.sessions.apply(event)

    def snapshot(self) -> Iterator[HardEvent]:
        """Events that rebuild the hard state."""
        hard = self.hard
        if hard.generation or hard.protocol_type:
            yield e.GroupEmptied(hard.generation, hard.protocol_type)
        if hard.formed is not None:
            yield hard.formed
        if hard.consumer is not None:
            yield from hard.consumer.snapshot()
        for committed in _batches(iter(hard.offsets.values()), OFFSETS_PER_SNAPSHOT_EVENT):
            yield e.OffsetsCommitted(committed)
        for producer_id, positions in hard.pending.items():
            yield e.OffsetsPending(producer_id, tuple(positions.values()))

    # -- what can be seen ------------------------------------------------------------------------------------------------

    @property
    def is_vacant(self) -> bool:
        """Whether nothing was ever kept under this name, or it was deleted: to the outside there is no such group."""
        return self.hard == _NOTHING and not self.soft.members

    @property
    def listing(self) -> m.GroupListing:
        """A line of the list of groups, without a name."""
        consumers = self.hard.consumer
        if consumers is not None:
            return m.GroupListing("", consumers.state, m.CONSUMER_PROTOCOL_TYPE, m.GroupKind.CONSUMER)
        state = m.GroupState.DEAD if self.is_vacant else self.soft.state
        return m.GroupListing("", state, self.soft.protocol_type)

    def view(self) -> m.GroupView:
        """The group as administrators see it."""
        if self.hard.consumer is not None:
            return consumer_group.view(self.hard.consumer, self.limits)
        group = self.soft
        is_stable = group.state is m.GroupState.STABLE
        members = tuple(
            m.MemberView(
                member.member_id,
                member.instance_id,
                member.client_id,
                member.client_host,
                member.metadata_for(group.protocol) if is_stable else b"",
                member.assignment if is_stable else b"",
                member.session_timeout_ms,
                member.rebalance_timeout_ms,
            )
            for member in group.members.values()
        )
        state = m.GroupState.DEAD if self.is_vacant else group.state
        protocol = (group.protocol or "") if is_stable else ""
        return m.GroupView(state, group.generation, group.protocol_type, protocol, group.leader, members)


_NOTHING = HardState()

Item = TypeVar("Item")


def _batches(items: Iterator[Item], size: int) -> Iterator[tuple[Item, ...]]:
    while batch := tuple(islice(items, size)):
        yield batch


def _with_replaced(formed: e.GenerationFormed | None, event: e.StaticMemberReplaced) -> e.GenerationFormed | None:
    """The formed generation with the new process in the old one's place, which keeps its assignment."""
    if formed is None:
        return None
    old, new = event.old_member_id, event.member
    members = tuple(
        msgspec.structs.replace(new, assignment=member.assignment) if member.member_id == old else member
        for member in formed.members
    )
    leader = new.member_id if formed.leader == old else formed.leader
    return msgspec.structs.replace(formed, members=members, leader=leader)
