"""Drives a group machine by hand: no clock, no loop, no thread. Time is a number that the test moves."""

from itertools import count

from logbroker.errors import LogbrokerError
from logbroker.groups import messages as m
from logbroker.groups.consumer_messages import Catalogue
from logbroker.groups.consumer_protocol import Subscription, encode_subscription
from logbroker.groups.events import GroupProtocol
from logbroker.groups.group import Group
from logbroker.machine import Decision, Event, HardEvent, Park
from logbroker.model import Now, TopicPartition

WALL_MS = 1_700_000_000_000


def protocols(*names: str, topics: tuple[str, ...] = ("orders",)) -> tuple[GroupProtocol, ...]:
    """Protocols by name, each with a subscription to ``topics``."""
    metadata = encode_subscription(Subscription(topics))
    return tuple(GroupProtocol(name, metadata) for name in names)


class GroupDriver:
    """A group whose replies are remembered by token."""

    def __init__(self, limits: m.GroupLimits | None = None) -> None:
        self.limits = limits or m.GroupLimits()
        self.catalogue: Catalogue | None = None
        self.group = Group(self.limits)
        self.mono_ms = 0
        self.replies: dict[int, m.GroupReply | LogbrokerError] = {}
        self.parked: set[int] = set()
        self.journal: list[HardEvent] = []
        self._numbers = count(1)

    @property
    def now(self) -> Now:
        return Now(WALL_MS + self.mono_ms, self.mono_ms)

    def state(self) -> m.GroupState:
        return self.group.view().state

    def send(self, command: m.GroupCommand) -> m.GroupReply | LogbrokerError | None:
        """Decide and apply; the reply, or None if it has to wait."""
        decision = self.group.decide(command, self.now)
        self.take(decision)
        if isinstance(decision.reply, Park):
            assert decision.reply.token not in self.parked, "a token is parked twice"
            self.parked.add(decision.reply.token)
            return None
        if isinstance(command, m.JoinGroup | m.SyncGroup) and decision.reply is not None:
            self.replies[command.token] = decision.reply
        return decision.reply

    def take(self, decision: Decision[m.GroupReply]) -> tuple[Event, ...]:
        """Apply a decision and keep its answers."""
        for event in decision.events:
            if isinstance(event, HardEvent):
                self.journal.append(event)
            self.group.apply(event)
        for answer in decision.answers:
            assert answer.token in self.parked, "an answer to nobody"
            self.parked.discard(answer.token)
            self.replies[answer.token] = answer.reply
        return decision.events

    def advance(self, ms: int) -> None:
        """Let time pass, stopping at each deadline on the way."""
        end = self.mono_ms + ms
        while (due := self.group.next_deadline(self.now)) is not None and due <= end:
            self.mono_ms = max(self.mono_ms, due)
            events = self.take(self.group.expire(self.now))
            assert events, "a deadline was due but nothing happened"
        self.mono_ms = end

    def restart(self) -> None:
        """A new process: replay the journal and go on."""
        hard = self.group.hard
        self.group = Group(self.limits)
        self.parked.clear()
        for event in self.journal:
            self.group.apply(event)
        assert self.group.hard == hard
        self.take(self.group.resume(self.now))

    # -- what members do -------------------------------------------------------------------------------------------------

    def start_join(
        self,
        member_id: str = "",
        *,
        instance: str | None = None,
        offers: tuple[GroupProtocol, ...] = protocols("range"),
        protocol_type: str = "consumer",
        session_ms: int = 10_000,
        rebalance_ms: int = 60_000,
        caller: str = "",
        id_required: bool = False,
        can_skip: bool = False,
    ) -> tuple[int, m.GroupReply | LogbrokerError | None]:
        """Send a join; its token, and the reply if there is one at once. New members are called m1, m2, ..."""
        token = next(self._numbers)
        command = m.JoinGroup(
            token=token,
            member_id=member_id,
            new_member_id=f"m{token}",
            instance_id=instance,
            client_id="client",
            client_host="host",
            caller=caller,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms,
            protocol_type=protocol_type,
            protocols=offers,
            member_id_required=id_required,
            can_skip_assignment=can_skip,
            catalogue=self.catalogue,
        )
        return token, self.send(command)

    def joined(self, token: int) -> m.Joined:
        """The answer to a join that waited."""
        reply = self.replies[token]
        assert isinstance(reply, m.Joined), reply
        return reply

    def claim(self, member_id: str, generation: int | None = None, instance: str | None = None) -> m.MemberClaim:
        return m.MemberClaim(member_id, self.group.soft.generation if generation is None else generation, instance)

    def start_sync(
        self, member_id: str, assignments: dict[str, bytes] | None = None, instance: str | None = None
    ) -> tuple[int, m.GroupReply | LogbrokerError | None]:
        return self.start_sync_at(member_id, self.group.soft.generation, instance, assignments)

    def start_sync_at(
        self, member_id: str, generation: int, instance: str | None = None, assignments: dict[str, bytes] | None = None
    ) -> tuple[int, m.GroupReply | LogbrokerError | None]:
        token = next(self._numbers)
        claim = m.MemberClaim(member_id, generation, instance)
        command = m.SyncGroup(token=token, claim=claim, assignments=tuple((assignments or {}).items()))
        return token, self.send(command)

    def beat(self, member_id: str, generation: int | None = None, instance: str | None = None) -> str:
        """Heartbeat; 'ok' or the error code."""
        return code_of(self.send(m.Heartbeat(self.claim(member_id, generation, instance))))

    def leave(self, *leavers: m.Leaver) -> list[str]:
        reply = self.send(m.LeaveGroup(leavers))
        assert isinstance(reply, m.Left)
        return [code_of(error) for _, error in reply.results]

    def commit(
        self, member_id: str, offset: int, generation: int | None = None, *, may_go_back: bool = False, metadata: str = ""
    ) -> str:
        """Commit one position of orders-0; 'ok' or the error code."""
        claim = self.claim(member_id, generation)
        wanted = m.OffsetToCommit(TopicPartition("orders", 0), offset, metadata=metadata)
        return first_code(self.send(m.CommitOffsets(claim, (wanted,), may_go_back)))

    def committed(self) -> int | None:
        """The committed offset of orders-0."""
        reply = self.send(m.FetchOffsets())
        assert isinstance(reply, m.Offsets)
        found = reply.offsets.get(TopicPartition("orders", 0))
        return None if found is None else found.offset

    def settle(self, *members: str, assignments: dict[str, bytes] | None = None) -> None:
        """Let members sync, the leader first."""
        leader = self.group.soft.leader
        for member_id in sorted(members, key=lambda member: member != leader):
            given = assignments or {member: member.encode() for member in members}
            self.start_sync(member_id, given if member_id == leader else None)

    def form(self, size: int, **join: object) -> list[str]:
        """A stable group of new members; their ids, the leader first."""
        tokens = [self.start_join(**join)[0] for _ in range(size)]  # type: ignore[arg-type]  # keywords of start_join
        self.advance(self.limits.initial_rebalance_delay_ms * 2)
        members = [self.joined(token).member_id for token in tokens]
        self.settle(*members)
        assert self.state() is m.GroupState.STABLE
        return members


def code_of(reply: m.GroupReply | LogbrokerError | None) -> str:
    """'ok', or the code of an error."""
    return reply.code if isinstance(reply, LogbrokerError) else "ok"


def first_code(reply: m.GroupReply | LogbrokerError | None) -> str:
    """The outcome for the first partition of a reply."""
    if isinstance(reply, m.OffsetResults):
        return code_of(reply.results[0][1])
    return code_of(reply)
