"""The members of one group as they are right now: soft state, and how each event changes it.

What lives here: who is in, who waits behind which barrier, until when. What may not: decisions (``rebalance``,
``joining``, ``sessions``) and what must survive the process (``group.HardState``).
Invariant: ``apply`` is the only mutation; a decision that needs to see the outcome of its own first events applies them
to a ``copy``. After a replay the contents mean nothing until ``MembershipResumed`` rebuilds them from the hard state.
"""

import copy
from collections.abc import Iterator

import msgspec

from logbroker.errors import FencedInstance, IllegalGeneration, LogbrokerError, UnknownMember
from logbroker.groups import consumer_events as ce
from logbroker.groups import events as e
from logbroker.groups.messages import GroupState, MemberClaim


class Membership:
    """A group between its barriers. Members are kept in the order in which they first joined."""

    __slots__ = (
        "barrier_deadline",
        "callers",
        "extended",
        "extra_ms",
        "generation",
        "idle_deadline",
        "instances",
        "joining",
        "leader",
        "members",
        "newcomers",
        "pending",
        "protocol",
        "protocol_type",
        "sessions",
        "state",
        "syncing",
        "unsynced",
    )

    def __init__(self) -> None:
        self.state = GroupState.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol: str | None = None
        self.leader: str | None = None
        self.members: dict[str, e.Member] = {}
        self.instances: dict[str, str] = {}
        """Which member holds a group.instance.id."""
        self.pending: dict[str, int] = {}
        """Member ids given out but not yet used, with their deadlines."""
        self.joining: dict[str, int] = {}
        """Tokens of members behind the join barrier."""
        self.newcomers: set[str] = set()
        """Joining members that never were in a generation: they cannot heartbeat yet, so their join itself expires."""
        self.syncing: dict[str, int] = {}
        """Tokens of members behind the sync barrier."""
        self.unsynced: set[str] = set()
        """Members of this generation that have not yet asked for their assignment."""
        self.sessions: dict[str, int] = {}
        self.callers: dict[str, str] = {}
        self.barrier_deadline: int | None = None
        """When the join barrier (while preparing) or the sync barrier (after it) stops waiting."""
        self.extra_ms: int | None = None
        """How much longer the first rebalance may be delayed; None in a later one."""
        self.extended = False
        """Whether a member came in during the present part of the initial delay."""
        self.idle_deadline: int | None = None

    def copy(self) -> "Membership":
        """An independent copy for a decision to try its events on."""
        twin = Membership.__new__(Membership)
        for name in Membership.__slots__:
            value = getattr(self, name)
            setattr(twin, name, copy.copy(value) if isinstance(value, dict | set) else value)
        return twin

    # -- questions -------------------------------------------------------------------------------------------------------

    def refusal(self, claim: MemberClaim) -> LogbrokerError | None:
        """Why the caller is not the member of the generation it claims to be; None if it is."""
        return self.identity_refusal(claim) or self.generation_refusal(claim)

    def identity_refusal(self, claim: MemberClaim) -> LogbrokerError | None:
        """Why the caller is not the member it claims to be, whatever the generation."""
        if claim.instance_id is not None:
            holder = self.instances.get(claim.instance_id)
            if holder is not None and holder != claim.member_id:
                return FencedInstance(
                    f"group.instance.id {claim.instance_id!r} is held by another member now; "
                    "give each process its own group.instance.id",
                    member_id=claim.member_id,
                )
            if holder is None:
                return unknown_member(claim.member_id)
        return None if claim.member_id in self.members else unknown_member(claim.member_id)

    def generation_refusal(self, claim: MemberClaim) -> LogbrokerError | None:
        """Why the generation is not the present one."""
        if claim.generation == self.generation:
            return None
        return IllegalGeneration(
            f"generation {claim.generation} is over, the group is at {self.generation}: join again",
            generation=self.generation,
        )

    def everybody_joined(self) -> bool:
        """Whether the join barrier has nobody to wait for."""
        return not self.pending and len(self.joining) == len(self.members)

    def rebalance_timeout_ms(self) -> int:
        """How long a barrier waits: as long as the slowest member asks for."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def expiring_sessions(self) -> Iterator[tuple[str, int]]:
        """Members whose silence counts, with their deadlines: one that waits for our answer cannot heartbeat."""
        for member_id, deadline in self.sessions.items():
            waits = member_id in self.joining and member_id not in self.newcomers
            if not waits and member_id not in self.syncing:
                yield member_id, deadline

    def next_deadline(self) -> int | None:
        """The earliest ``mono_ms`` at which something is due."""
        due = [deadline for _, deadline in self.expiring_sessions()]
        due.extend(self.pending.values())
        if self.barrier_deadline is not None:
            due.append(self.barrier_deadline)
        return min(due, default=None)

    # -- changes ---------------------------------------------------------------------------------------------------------

    def apply(self, event: object) -> None:
        """Change the state; events that do not concern membership change nothing."""
        match event:
            case e.SessionsRenewed(deadlines=deadlines):
                self.sessions.update(deadlines)
            case e.MemberSynced():
                self._synced(event)
            case e.MemberIdGiven(member_id=member_id, deadline=deadline):
                self.pending[member_id] = deadline
            case e.MemberIdForgotten(member_id=member_id):
                self.pending.pop(member_id, None)
            case e.MemberJoined():
                self._joined(event)
            case e.CallerKnown(member_id=member_id, caller=caller):
                self.callers[member_id] = caller
            case e.MemberRemoved(member_id=member_id):
                self._removed(member_id)
            case e.StaticMemberReplaced():
                self._replaced(event)
            case _:
                self._apply_turn(event)

    def _apply_turn(self, event: object) -> None:
        """The events that take the whole group from one state to the next."""
        match event:
            case e.RebalanceStarted():
                self._rebalance(event)
            case e.GenerationStarted():
                self._started(event)
            case e.SyncAwaited(deadline=deadline):
                self.barrier_deadline = deadline
            case e.GenerationFormed(members=members):
                self.state = GroupState.STABLE
                self.members = {member.member_id: member for member in members}
                self.syncing.clear()
            case e.GroupEmptied():
                self._emptied(event)
            case e.GroupIdle(deadline=deadline):
                self.idle_deadline = deadline
            case e.GroupDeleted() | ce.ConsumerGroupFounded():
                Membership.__init__(self)
            case ce.ConsumerGroupDissolved(generation=generation):
                Membership.__init__(self)
                self.generation = generation
            case e.MembershipResumed():
                self._resume(event)

    def _joined(self, event: e.MemberJoined) -> None:
        member = event.member
        member_id = member.member_id
        self.pending.pop(member_id, None)
        if not self.members.keys() - {member_id}:
            self.protocol_type = event.protocol_type
        if member_id not in self.members:
            self.newcomers.add(member_id)
            self.extended = True
        self.members[member_id] = member
        if member.instance_id is not None:
            self.instances[member.instance_id] = member_id
        if self.leader is None:
            self.leader = member_id
        self.joining[member_id] = event.token
        self.callers[member_id] = event.caller
        self.sessions[member_id] = event.deadline

    def _removed(self, member_id: str) -> None:
        member = self.members.pop(member_id, None)
        if member is not None and member.instance_id is not None and self.instances.get(member.instance_id) == member_id:
            del self.instances[member.instance_id]
        for waiting in (self.joining, self.syncing, self.sessions, self.callers):
            waiting.pop(member_id, None)
        self.newcomers.discard(member_id)
        self._seen_in_sync(member_id)
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)

    def _replaced(self, event: e.StaticMemberReplaced) -> None:
        """The new process has its predecessor's place and assignment, but none of its waiting requests."""
        old, new = event.old_member_id, event.member
        in_place = (new if member.member_id == old else member for member in self.members.values())
        self.members = {member.member_id: member for member in in_place}
        if new.instance_id is not None:
            self.instances[new.instance_id] = new.member_id
        for waiting in (self.joining, self.syncing, self.sessions, self.callers):
            waiting.pop(old, None)
        self.newcomers.discard(old)
        self._seen_in_sync(old)
        if self.leader == old:
            self.leader = new.member_id

    def _synced(self, event: e.MemberSynced) -> None:
        self._seen_in_sync(event.member_id)
        if event.token is not None:
            self.syncing[event.member_id] = event.token

    def _seen_in_sync(self, member_id: str) -> None:
        if member_id in self.unsynced:
            self.unsynced.discard(member_id)
            if not self.unsynced:
                self.barrier_deadline = None

    def _rebalance(self, event: e.RebalanceStarted) -> None:
        if self.state is GroupState.COMPLETING_REBALANCE:
            self.members = {m: msgspec.structs.replace(member, assignment=b"") for m, member in self.members.items()}
        self.state = GroupState.PREPARING_REBALANCE
        self.syncing.clear()
        self.unsynced.clear()
        self.barrier_deadline = event.deadline
        self.extra_ms = event.extra_ms
        self.extended = False
        self.idle_deadline = None

    def _started(self, event: e.GenerationStarted) -> None:
        self.state = GroupState.COMPLETING_REBALANCE
        self.generation = event.generation
        self.protocol_type = event.protocol_type
        self.protocol = event.protocol
        self.leader = event.leader
        self.unsynced = set(self.joining)
        self.joining.clear()
        self.newcomers.clear()
        self.extra_ms = None

    def _emptied(self, event: e.GroupEmptied) -> None:
        self.state = GroupState.EMPTY
        self.generation = event.generation
        self.protocol_type = event.protocol_type
        self.protocol = None
        self.leader = None
        self.barrier_deadline = None
        self.extra_ms = None

    def _resume(self, event: e.MembershipResumed) -> None:
        Membership.__init__(self)
        self.generation = event.generation
        self.protocol_type = event.protocol_type
        formed = event.formed
        if formed is None:
            return
        self.state = GroupState.STABLE if event.rejoin_deadline is None else GroupState.PREPARING_REBALANCE
        self.barrier_deadline = event.rejoin_deadline
        self.protocol = formed.protocol
        self.leader = formed.leader
        self.members = {member.member_id: member for member in formed.members}
        self.instances = {m.instance_id: m.member_id for m in formed.members if m.instance_id is not None}
        self.sessions = dict(event.sessions)


def unknown_member(member_id: str) -> UnknownMember:
    """The error for a member id that is not, or no longer, in the group."""
    return UnknownMember(f"member {member_id!r} is not in the group: join again", member_id=member_id)
