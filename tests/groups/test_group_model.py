"""A group under any sequence of requests, silences, crashes and clock moves, against what must always hold.

Held after every step: one leader and it is a member; no two generations share a number; no commit moves back within a
generation unless asked; a member not heard of is out in time; every token is answered exactly once; the journal and the
snapshot both rebuild the hard state.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from logbroker.errors import LogbrokerError, MemberIdRequired
from logbroker.groups import messages as m
from logbroker.groups.events import GenerationStarted
from logbroker.groups.group import Group
from tests.groups.driver import GroupDriver, protocols

SESSION_MS = 10_000
REBALANCE_MS = 30_000
LIMITS = m.GroupLimits(new_member_join_timeout_ms=60_000, max_size=4)
OFFERS = [protocols("range"), protocols("range", "sticky"), protocols("sticky", "range")]


class GroupModel(RuleBasedStateMachine):
    members = Bundle("members")

    def __init__(self) -> None:
        super().__init__()
        self.group = GroupDriver(LIMITS)
        self.heard: dict[str, int] = {}
        self.asked: set[int] = set()
        self.answered: set[int] = set()
        self.committed: tuple[int, int] = (-1, 0)
        self.lost: set[int] = set()

    # -- requests --------------------------------------------------------------------------------------------------------

    @rule(
        target=members,
        instance=st.none() | st.sampled_from(["i1", "i2"]),
        offers=st.sampled_from(OFFERS),
        id_required=st.booleans(),
        caller=st.sampled_from(["c1", "c2"]),
    )
    def join_anew(self, instance: str | None, offers: tuple[object, ...], id_required: bool, caller: str) -> object:
        return self._join("", instance, offers, id_required, caller)

    @rule(target=members, member=members, offers=st.sampled_from(OFFERS))
    def join_again(self, member: tuple[str, str | None], offers: tuple[object, ...]) -> object:
        self._join(member[0], member[1], offers, False, "")
        return multiple()

    def _join(self, member_id: str, instance: str | None, offers: object, id_required: bool, caller: str) -> object:
        token, reply = self.group.start_join(
            member_id,
            instance=instance,
            offers=offers,  # type: ignore[arg-type]  # one of OFFERS
            session_ms=SESSION_MS,
            rebalance_ms=REBALANCE_MS,
            id_required=id_required,
            caller=caller,
        )
        self.asked.add(token)
        if isinstance(reply, MemberIdRequired):
            return (reply.fields["member_id"], None)
        if isinstance(reply, LogbrokerError):
            return multiple()
        entered = reply.member_id if isinstance(reply, m.Joined) else member_id or f"m{token}"
        self._hear(entered)
        return (entered, instance)

    @rule(member=members, gives_all=st.booleans())
    def sync(self, member: tuple[str, str | None], gives_all: bool) -> None:
        shares = {other: other.encode() for other in self.group.group.soft.members} if gives_all else {}
        token, reply = self.group.start_sync(member[0], shares, instance=member[1])
        self.asked.add(token)
        if not isinstance(reply, LogbrokerError):
            self._hear(member[0])
        if isinstance(reply, m.Synced) and gives_all:
            assert reply.assignment in (member[0].encode(), b"") or member[1] is not None

    @rule()
    def everybody_joins_and_syncs(self) -> None:
        """What well-behaved clients do by themselves."""
        soft = self.group.group.soft
        for member in list(soft.members.values()):
            if member.member_id not in soft.joining:
                self._join(member.member_id, member.instance_id, member.protocols, False, "")
        self.group.advance(2 * LIMITS.initial_rebalance_delay_ms)
        for member_id in sorted(soft.unsynced, key=lambda unsynced: unsynced != soft.leader):
            self.sync((member_id, soft.members[member_id].instance_id), True)

    @rule(member=members)
    def beat(self, member: tuple[str, str | None]) -> None:
        if self.group.beat(member[0], instance=member[1]) in ("ok", "REBALANCE_IN_PROGRESS"):
            self._hear(member[0])

    @rule(member=consumes(members))
    def leave(self, member: tuple[str, str | None]) -> None:
        if self.group.leave(m.Leaver(*member)) == ["ok"]:
            assert member[0] not in self.group.group.soft.members

    @rule(member=members, offset=st.integers(0, 20), back=st.booleans(), behind=st.integers(0, 1))
    def commit(self, member: tuple[str, str | None], offset: int, back: bool, behind: int) -> None:
        soft = self.group.group.soft
        generation = soft.generation - behind
        if generation < 0:
            return  # that would be a commit without membership
        outcome = self.group.commit(member[0], offset, generation, may_go_back=back)
        if outcome != "ok":
            return
        assert behind == 0
        assert member[0] in soft.members
        self._hear(member[0])
        of_generation, before = self.committed
        after = self.group.committed()
        assert after == (offset if back or of_generation != generation else max(before, offset))
        self.committed = (generation, after)

    def _hear(self, member_id: str) -> None:
        if member_id in self.group.group.soft.members:
            self.heard[member_id] = self.group.mono_ms

    # -- time and crashes ------------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 1_000, 3_000, 9_000, 15_000, 40_000]))
    def time_passes(self, ms: int) -> None:
        self.group.advance(ms)

    @rule()
    def crash(self) -> None:
        self.lost |= self.group.parked
        self.group.restart()
        self.heard = dict.fromkeys(self.group.group.soft.members, self.group.mono_ms)

    # -- what always holds -----------------------------------------------------------------------------------------------

    @invariant()
    def one_leader_who_is_a_member(self) -> None:
        soft = self.group.group.soft
        if soft.state in (m.GroupState.STABLE, m.GroupState.COMPLETING_REBALANCE):
            assert soft.leader in soft.members
        if soft.state is m.GroupState.EMPTY:
            assert not soft.members

    @invariant()
    def generations_only_grow(self) -> None:
        numbers = [event.generation for event in self.group.journal if isinstance(event, GenerationStarted)]
        assert len(numbers) == len(set(numbers)) or self._was_deleted()

    def _was_deleted(self) -> bool:
        return any(type(event).__name__ == "GroupDeleted" for event in self.group.journal)

    @invariant()
    def the_silent_are_out_in_time(self) -> None:
        soft, now = self.group.group.soft, self.group.mono_ms
        for member_id in soft.members:
            waits = member_id in soft.joining or member_id in soft.syncing
            if not waits:
                # A barrier that opens counts as having been heard of, and no barrier stays shut for longer than this.
                limit = SESSION_MS + REBALANCE_MS + LIMITS.initial_rebalance_delay_ms
                assert now - self.heard.get(member_id, now) <= limit + REBALANCE_MS

    @invariant()
    def every_token_is_answered_once(self) -> None:
        waiting = set(self.group.group.soft.joining.values()) | set(self.group.group.soft.syncing.values())
        assert waiting == self.group.parked
        for token in self.asked - self.lost:
            assert (token in self.group.parked) != (token in self.group.replies)

    @invariant()
    def static_places_have_one_holder(self) -> None:
        soft = self.group.group.soft
        holders = {
            member.instance_id: member.member_id for member in soft.members.values() if member.instance_id is not None
        }
        assert holders == soft.instances

    @invariant()
    def the_snapshot_and_the_journal_rebuild_the_hard_state(self) -> None:
        for events in (self.group.group.snapshot(), self.group.journal):
            rebuilt = Group(LIMITS)
            for event in events:
                rebuilt.apply(event)
            assert rebuilt.hard == self.group.group.hard

    @invariant()
    def something_is_due_while_anybody_waits(self) -> None:
        if self.group.parked or self.group.group.soft.members:
            assert self.group.group.next_deadline(self.group.now) is not None

    def teardown(self) -> None:
        """Left alone, every group comes to rest and answers everybody."""
        self.group.advance(10 * (SESSION_MS + REBALANCE_MS))
        assert not self.group.parked
        assert not self.group.group.soft.members


GroupModel.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestGroupModel = GroupModel.TestCase
