"""Both protocols in one group: members of the classic protocol in a consumer group, and the way there and back."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from logbroker.errors import LogbrokerError
from logbroker.groups import messages as m
from logbroker.groups.consumer_protocol import (
    Assignment,
    Subscription,
    decode_assignment,
    encode_assignment,
    encode_subscription,
)
from logbroker.groups.events import GroupProtocol
from logbroker.groups.group import Group
from tests.groups.consumer_driver import NONE, Client, ConsumerDriver, Partitions, orders
from tests.groups.driver import code_of, protocols

SESSION_MS = 10_000
REBALANCE_MS = 30_000


class ClassicClient:
    """A member of the classic protocol as its client behaves; ``cooperative`` ones keep reading while they join."""

    def __init__(self, group: ConsumerDriver, *, cooperative: bool, instance: str | None = None) -> None:
        self.group = group
        self.cooperative = cooperative
        self.instance = instance
        self.member_id = ""
        self.generation = -1
        self.reading: Partitions = NONE
        self.must_join = True

    def join(self) -> str:
        """Join, and sync if the answer is there at once; 'ok', 'parked' or the code of an error."""
        if not self.cooperative:
            self.reading = NONE
        name = "cooperative-sticky" if self.cooperative else "range"
        metadata = encode_subscription(Subscription(("orders",), tuple(self.reading), self.generation))
        _, reply = self.group.start_join(
            self.member_id,
            instance=self.instance,
            offers=(GroupProtocol(name, metadata),),
            session_ms=SESSION_MS,
            rebalance_ms=REBALANCE_MS,
        )
        if reply is None:
            return "parked"
        if isinstance(reply, LogbrokerError):
            if reply.code == "UNKNOWN_MEMBER_ID":
                self.forget()
            return reply.code
        assert isinstance(reply, m.Joined)
        return self.sync(reply)

    def sync(self, joined: m.Joined) -> str:
        self.member_id, self.generation = joined.member_id, joined.generation
        _, reply = self.group.start_sync_at(self.member_id, self.generation, self.instance)
        if isinstance(reply, LogbrokerError):
            return reply.code
        assert isinstance(reply, m.Synced)
        told = frozenset(decode_assignment(reply.assignment).partitions)
        gave_up = self.reading - told
        self.reading, self.must_join = told, bool(gave_up)
        return "ok"

    def beat(self) -> str:
        code = self.group.beat(self.member_id, self.generation, self.instance)
        if code in ("REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION"):
            self.must_join = True
        elif code != "ok":
            self.forget()
        return code

    def forget(self) -> None:
        self.member_id, self.generation, self.reading, self.must_join = "", -1, NONE, True

    def turn(self) -> None:
        """What a client does by itself."""
        if self.must_join or self.beat() != "ok":
            self.join()


def classic_group(group: ConsumerDriver, size: int = 2) -> list[str]:
    """A stable group of the classic protocol that shares the six partitions of orders."""
    tokens = [group.start_join()[0] for _ in range(size)]
    group.advance(10_000)
    members = [group.joined(token).member_id for token in tokens]
    shares = {
        member: encode_assignment(Assignment(tuple(sorted(orders(*range(number, 6, size))))))
        for number, member in enumerate(members)
    }
    group.settle(*members, assignments=shares)
    return members


# -- up ------------------------------------------------------------------------------------------------------------------


def test_the_first_member_of_the_consumer_protocol_takes_the_others_along() -> None:
    group = ConsumerDriver(orders=6)
    members = classic_group(group)
    generation = group.group.soft.generation
    a = group.join_as("a")
    assert a.epoch > generation
    assert a.reading == NONE
    state = group.consumers
    assert [len(state.current[member].owned) for member in members] == [3, 3]
    assert all(len(state.target_of(member)) == 2 for member in members)
    assert [group.beat(member, generation) for member in members] == ["REBALANCE_IN_PROGRESS"] * 2
    view = group.group.view()
    assert [one.consumer.is_classic for one in view.members if one.consumer is not None] == [True, True, False]


def test_commits_of_the_others_pass_until_they_join_again() -> None:
    group = ConsumerDriver(orders=6)
    first, _ = classic_group(group)
    generation = group.group.soft.generation
    group.join_as("a")
    assert group.commit(first, 7, generation) == "ok"
    group.restart()
    assert group.commit(first, 8, generation) == "ok"
    assert group.commit(first, 8, generation + 5) == "ILLEGAL_GENERATION"


def test_who_waits_behind_a_barrier_is_sent_to_join_again() -> None:
    group = ConsumerDriver(orders=6)
    classic_group(group)
    token, reply = group.start_join()
    assert reply is None
    group.join_as("a")
    assert code_of(group.replies[token]) == "REBALANCE_IN_PROGRESS"
    assert not group.parked


def test_a_group_whose_subscriptions_cannot_be_read_stays_as_it_is() -> None:
    for offers, kind in [((GroupProtocol("range", b"?"),), "consumer"), (protocols("v0"), "connect")]:
        group = ConsumerDriver()
        group.form(1, offers=offers, protocol_type=kind)
        assert group.beat_as(Client("a")) == "GROUP_ID_NOT_FOUND"
        assert group.group.hard.consumer is None


def test_a_join_that_is_refused_takes_nobody_along() -> None:
    group = ConsumerDriver()
    classic_group(group)
    assert code_of(group.say("a", 0, topics=("orders",))) == "INVALID_REQUEST"
    assert code_of(group.say("a", 4)) == "UNKNOWN_MEMBER_ID"
    assert group.group.hard.consumer is None
    assert group.state() is m.GroupState.STABLE


# -- in the group --------------------------------------------------------------------------------------------------------


def both(group: ConsumerDriver, *, cooperative: bool) -> tuple[Client, ClassicClient]:
    a = group.join_as("a")
    b = ClassicClient(group, cooperative=cooperative)
    assert b.join() == "ok"
    for _ in range(4):
        group.beat_as(a)
        a.let_go()
        b.turn()
    return a, b


def test_members_of_both_protocols_share_the_partitions() -> None:
    for cooperative in (False, True):
        group = ConsumerDriver(orders=6)
        a, b = both(group, cooperative=cooperative)
        assert a.reading | b.reading == orders(*range(6))
        assert len(a.reading) == len(b.reading) == 3
        assert b.beat() == "ok"
        assert group.consumers.state is m.GroupState.STABLE
        assert group.commit(b.member_id, 3, b.generation) == "ok"


def test_a_cooperative_member_keeps_what_stays() -> None:
    group = ConsumerDriver(orders=6)
    a, b = both(group, cooperative=True)
    before = b.reading
    c = group.join_as("c")
    for _ in range(4):
        for client in (a, c):
            group.beat_as(client)
            client.let_go()
        b.turn()
        assert len(b.reading & before) >= 2
    assert [len(one.reading) for one in (a, b, c)] == [2, 2, 2]


def test_a_classic_member_may_change_its_mind() -> None:
    group = ConsumerDriver(orders=2, other=2)
    group.join_as("a", topics=("orders", "other"))
    _, reply = group.start_join(offers=protocols("range", topics=("orders",)))
    assert isinstance(reply, m.Joined)
    epoch = group.consumers.epoch
    group.start_join(reply.member_id, offers=protocols("range", topics=("other",)))
    assert group.consumers.epoch == epoch + 1
    assert {at.topic for at in group.consumers.target_of(reply.member_id)} == {"other"}


def test_a_new_classic_member_is_told_its_id_first() -> None:
    group = ConsumerDriver()
    group.join_as("a")
    _, refusal = group.start_join(id_required=True)
    assert code_of(refusal) == "MEMBER_ID_REQUIRED"
    assert isinstance(refusal, LogbrokerError)
    member_id = str(refusal.fields["member_id"])
    _, reply = group.start_join(member_id, id_required=True)
    assert isinstance(reply, m.Joined)
    assert (reply.leader, reply.members, reply.protocol) == ("", (), "range")
    group.leave(m.Leaver(member_id))
    for stranger in ("who", member_id):
        assert code_of(group.start_join(stranger, id_required=True)[1]) == "UNKNOWN_MEMBER_ID"


def test_an_id_that_is_not_used_is_forgotten() -> None:
    group = ConsumerDriver()
    group.join_as("a")
    _, refusal = group.start_join(id_required=True, session_ms=10_000)
    assert isinstance(refusal, LogbrokerError)
    group.advance(10_000)
    assert code_of(group.start_join(str(refusal.fields["member_id"]))[1]) == "UNKNOWN_MEMBER_ID"


def test_classic_members_must_speak_protocol_type_consumer() -> None:
    group = ConsumerDriver()
    group.join_as("a")
    for offers, kind in [((GroupProtocol("range", b"?"),), "consumer"), (protocols("v0"), "connect"), ((), "consumer")]:
        assert code_of(group.start_join(offers=offers, protocol_type=kind)[1]) == "INCONSISTENT_GROUP_PROTOCOL"


def test_a_classic_member_that_does_not_join_again_in_time_is_out() -> None:
    group = ConsumerDriver(orders=6)
    a, b = both(group, cooperative=False)
    group.join_as("c")
    group.beat_as(a)
    for _ in range(10):
        b.beat()
        group.advance(4_000)
        group.beat_as(a)
        a.let_go()
    assert b.beat() == "UNKNOWN_MEMBER_ID"


def test_a_silent_classic_member_is_out_after_the_session_it_asked_for() -> None:
    group = ConsumerDriver(orders=6)
    a, b = both(group, cooperative=False)
    group.advance(SESSION_MS)
    group.beat_as(a)
    assert a.reading == orders(*range(6))
    assert b.beat() != "ok"


def test_a_static_member_may_change_its_protocol_without_having_left() -> None:
    group = ConsumerDriver(orders=6)
    group.join_as("a")
    b = ClassicClient(group, cooperative=False, instance="i")
    assert b.join() == "ok"
    successor = group.join_as("b2", instance_id="i")
    assert b.beat() == "FENCED_INSTANCE_ID"
    assert group.beat_as(successor) == "ok"


# -- down ----------------------------------------------------------------------------------------------------------------


def test_when_the_last_member_of_the_consumer_protocol_leaves_the_others_go_on_as_a_classic_group() -> None:
    group = ConsumerDriver(orders=6)
    a, b = both(group, cooperative=True)
    epoch = group.consumers.epoch
    group.leave_as(a)
    assert group.group.hard.consumer is None
    assert group.group.soft.generation > epoch
    assert group.state() is m.GroupState.PREPARING_REBALANCE
    assert set(group.group.soft.members) == {b.member_id}
    group.restart()
    token, reply = group.start_join(b.member_id)
    assert reply is not None or group.joined(token).generation > epoch


def test_the_same_when_it_falls_silent() -> None:
    group = ConsumerDriver(m.GroupLimits(consumer_session_timeout_ms=20_000), orders=6)
    _, b = both(group, cooperative=False)
    for _ in range(5):
        group.advance(5_000)
        if group.group.hard.consumer is not None:
            assert b.beat() == "ok"
    assert group.group.hard.consumer is None
    assert set(group.group.soft.members) == {b.member_id}


def test_the_same_when_a_static_member_comes_back_with_the_classic_protocol() -> None:
    group = ConsumerDriver(orders=6)
    a = group.join_as("a", instance_id="i")
    b = ClassicClient(group, cooperative=False, instance="i")
    group.leave_as(a, -2)
    assert b.join() == "REBALANCE_IN_PROGRESS", "that is what its SyncGroup is told"
    assert group.group.hard.consumer is None
    assert group.group.soft.instances == {"i": b.member_id}
    b.join()
    assert group.state() is m.GroupState.STABLE


# -- anything ------------------------------------------------------------------------------------------------------------


class MixedModel(RuleBasedStateMachine):
    """Honest members of both protocols, restarts and silences. Nothing is read twice; the journal rebuilds the state."""

    consumers = Bundle("consumers")
    classics = Bundle("classics")

    def __init__(self) -> None:
        super().__init__()
        self.group = ConsumerDriver(m.GroupLimits(initial_rebalance_delay_ms=0), orders=6)
        self.group.join_as("anchor")
        self.anchor = Client("anchor")
        assert self.group.begin_anew(self.anchor) == "ok"
        self.all: list[Client | ClassicClient] = [self.anchor]
        self.started = 0

    @rule(target=consumers)
    def start_consumer(self) -> Client:
        self.started += 1
        client = Client(f"c{self.started}")
        self.group.beat_as(client)
        self.all.append(client)
        return client

    @rule(target=classics, cooperative=st.booleans())
    def start_classic(self, cooperative: bool) -> ClassicClient:
        client = ClassicClient(self.group, cooperative=cooperative)
        client.join()
        self.all.append(client)
        return client

    @rule(client=consumers, lets_go=st.booleans())
    def beat(self, client: Client, lets_go: bool) -> None:
        self._beat(client)
        if lets_go:
            client.let_go()

    def _beat(self, client: Client) -> None:
        if self.group.beat_as(client) != "ok":
            assert self.group.begin_anew(client) == "ok"

    @rule(client=classics)
    def turn(self, client: ClassicClient) -> None:
        client.turn()

    @rule(client=consumes(consumers))
    def leave(self, client: Client) -> None:
        self.group.leave_as(client)
        self.all.remove(client)

    @rule(client=consumes(classics))
    def leave_classic(self, client: ClassicClient) -> None:
        self.group.leave(m.Leaver(client.member_id))
        self.all.remove(client)

    @rule(ms=st.sampled_from([1_000, 6_000]))
    def time_passes(self, ms: int) -> None:
        self.group.advance(ms)
        self._beat(self.anchor)
        self.anchor.let_go()
        for client in self.all:
            if isinstance(client, ClassicClient) and client.member_id not in self.group.consumers.members:
                client.forget()
            elif isinstance(client, Client) and client.member_id not in self.group.consumers.members:
                client.reading = client.told = NONE

    @rule()
    def crash(self) -> None:
        self.group.restart()

    @invariant()
    def nothing_is_read_twice(self) -> None:
        read = [at for client in self.all for at in client.reading]
        assert len(read) == len(set(read))

    @invariant()
    def snapshot_and_journal_rebuild_the_state(self) -> None:
        for events in (self.group.group.snapshot(), self.group.journal):
            rebuilt = Group(self.group.limits)
            for event in events:
                rebuilt.apply(event)
            assert rebuilt.hard == self.group.group.hard

    def teardown(self) -> None:
        """Left alone, everything is read, evenly."""
        for _ in range(3 * len(self.all) + 3):
            for client in self.all:
                if isinstance(client, ClassicClient):
                    client.turn()
                else:
                    self._beat(client)
                    client.let_go()
        loads = [len(client.reading) for client in self.all]
        assert (sum(loads), max(loads) - min(loads) <= 1) == (6, True)


MixedModel.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestMixedModel = MixedModel.TestCase
