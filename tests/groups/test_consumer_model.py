"""A consumer group under any sequence of heartbeats, lost answers, silences, crashes and changing topics.

The clients are honest: they read what they are told at once and report what they read. Held after every step: no partition
is read by two members; what a member reads is in the group's books; epochs never fall; an honest commit passes, a
stranger's does not; the journal and the snapshot both rebuild the hard state. Left alone, the group comes to rest with
every partition read by one member, evenly.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from logbroker.groups import messages as m
from logbroker.groups.group import Group
from logbroker.model import TopicPartition
from tests.groups.consumer_driver import NONE, Client, ConsumerDriver

LIMITS = m.GroupLimits(consumer_session_timeout_ms=45_000, max_size=5)
REBALANCE_MS = 20_000
TOPICS = ("orders", "other")
WISHES = [(("orders",), None), (("orders", "other"), None), ((), "o.*"), (("missing", "orders"), "other|new")]
BEGIN_ANEW = {"UNKNOWN_MEMBER_ID", "FENCED_MEMBER_EPOCH"}


class ConsumerModel(RuleBasedStateMachine):
    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.group = ConsumerDriver(LIMITS, orders=6, other=3)
        self.alive: dict[str, Client] = {}
        self.started = 0
        self.epochs: dict[str, int] = {}
        self.group_epoch = 0

    # -- members ---------------------------------------------------------------------------------------------------------

    @initialize(target=clients, size=st.integers(1, 3))
    def start_some(self, size: int) -> MultipleResults[Client]:
        return multiple(*(self._start(Client(f"m{self.started}")) for _ in range(size)))

    @rule(target=clients, wish=st.sampled_from(WISHES), assignor=st.sampled_from([None, "uniform", "range"]))
    def start(self, wish: tuple[tuple[str, ...], str | None], assignor: str | None) -> Client:
        return self._start(Client(f"m{self.started}", *wish, assignor=assignor))

    @rule(target=clients, instance=st.sampled_from(["i1", "i2"]))
    def start_static(self, instance: str) -> Client:
        return self._start(Client(f"m{self.started}", instance_id=instance))

    def _start(self, client: Client) -> Client:
        self.started += 1
        self._beat(client)
        return client

    @rule(client=clients, lost=st.booleans())
    def beat(self, client: Client, lost: bool) -> None:
        self._beat(client, lost=lost)

    def _beat(self, client: Client, *, lost: bool = False) -> None:
        before = client.epoch
        code = self.group.beat_as(client, lost=lost, rebalance_ms=REBALANCE_MS)
        if code in BEGIN_ANEW:
            code = self.group.begin_anew(client)
            before = 0
        if code == "ok":
            assert client.epoch >= before
            assert client.epoch >= self.epochs.get(client.member_id, 0)
            self.epochs[client.member_id] = client.epoch
        self._count_as_alive(client)

    def _count_as_alive(self, client: Client) -> None:
        """A client that is not in, or lost its place to another process, reads nothing that counts."""
        for other in list(self.alive.values()):
            if not self._is_member(other):
                del self.alive[other.member_id]
        if self._is_member(client):
            self.alive[client.member_id] = client

    def _is_member(self, client: Client) -> bool:
        state = self.group.group.hard.consumer
        return state is not None and client.member_id in state.members

    @rule(client=clients)
    def let_go(self, client: Client) -> None:
        client.let_go()

    @rule(client=clients, wish=st.sampled_from(WISHES))
    def subscribe_to_something_else(self, client: Client, wish: tuple[tuple[str, ...], str | None]) -> None:
        client.topics, client.pattern, client.must_say_all = wish[0], wish[1] or "", True

    @rule(client=consumes(clients))
    def leave(self, client: Client) -> None:
        self.alive.pop(client.member_id, None)
        self.group.leave_as(client)
        assert not self._is_member(client) or client.instance_id is not None

    @rule(target=clients, client=consumes(clients))
    def restart_a_static_member(self, client: Client) -> Client:
        if client.instance_id is not None:
            self.group.leave_as(client, -2)
        self.alive.pop(client.member_id, None)
        return self._start(Client(f"m{self.started}", client.topics, client.pattern, client.instance_id))

    @rule(client=consumes(clients))
    def die(self, client: Client) -> None:
        client.reading = client.told = NONE
        self.alive.pop(client.member_id, None)

    @rule(client=clients, number=st.integers(0, 5))
    def commit(self, client: Client, number: int) -> None:
        at = TopicPartition("orders", number)
        code = self.group.commit_as(client, at)
        if self.alive.get(client.member_id) is client and client.epoch > 0 and at in client.reading:
            assert code == "ok"
        if not self._is_member(client):
            assert code != "ok"
        if code == "ok" and at not in client.reading:
            assert client.epoch == self.group.consumers.current[client.member_id].epoch

    # -- the rest of the world -------------------------------------------------------------------------------------------

    @rule(topic=st.sampled_from(TOPICS), more=st.integers(1, 3))
    def grow(self, topic: str, more: int) -> None:
        facts = self.group.topics.facts(topic)
        if facts is None:
            self.group.topics.create(topic, more)
        elif facts.partitions < 12:
            self.group.topics.grow(topic, facts.partitions + more)

    @rule(anew=st.booleans())
    def delete(self, anew: bool) -> None:
        """Nobody can read what is gone; a client's ids of it stand for nothing any more."""
        del self.group.topics.topics["other"]
        for client in self.alive.values():
            client.reading, client.told = (
                frozenset(at for at in some if at.topic != "other") for some in (client.reading, client.told)
            )
        self.group.topics.create("other" if anew else "another", 2)
        if not anew:
            self.group.topics.create("other", 1)

    @rule(ms=st.sampled_from([1, 5_000, 19_000, 30_000]))
    def time_passes(self, ms: int) -> None:
        self.group.advance(ms)
        for client in list(self.alive.values()):
            if not self._is_member(client):
                del self.alive[client.member_id]

    @rule()
    def crash_of_the_broker(self) -> None:
        self.group.restart()

    @rule()
    def everybody_does_as_told(self) -> None:
        for client in list(self.alive.values()):
            if client.member_id in self.alive:
                self._beat(client)
                client.let_go()

    # -- what always holds -----------------------------------------------------------------------------------------------

    @invariant()
    def no_partition_is_read_by_two(self) -> None:
        readers: dict[TopicPartition, str] = {}
        for client in self.alive.values():
            for at in client.reading:
                assert readers.setdefault(at, client.member_id) == client.member_id

    @invariant()
    def what_a_member_reads_is_in_the_books(self) -> None:
        for client in self.alive.values():
            for at in client.reading:
                assert self.group.consumers.owners.get(at) == client.member_id

    @invariant()
    def the_books_agree_with_themselves(self) -> None:
        state = self.group.group.hard.consumer
        if state is None:
            return
        held = [(at, member) for member, now in state.current.items() for at in (*now.owned, *now.revoking)]
        assert dict(held) == state.owners
        assert len(held) == len(state.owners)
        assert state.target_epoch <= state.epoch
        assert all(now.epoch <= state.target_epoch for now in state.current.values())
        assert state.epoch >= self.group_epoch or not state.members
        self.group_epoch = state.epoch
        assert {member.instance_id: name for name, member in state.members.items() if member.instance_id} == state.instances

    @invariant()
    def the_snapshot_and_the_journal_rebuild_the_hard_state(self) -> None:
        for events in (self.group.group.snapshot(), self.group.journal):
            rebuilt = Group(LIMITS)
            for event in events:
                rebuilt.apply(event)
            assert rebuilt.hard == self.group.group.hard

    def teardown(self) -> None:
        """Left alone, members that live get everything, evenly; when all fall silent nobody is left."""
        for _ in range(20):
            self.everybody_does_as_told()
            self.time_passes(5_000)
        live = list(self.alive.values())
        if live:
            assert self.group.consumers.members.keys() == self.alive.keys()
            self._check_rest(live)
        self.group.advance(200_000)
        assert self.group.group.hard.consumer is None or not self.group.consumers.members

    def _check_rest(self, live: list[Client]) -> None:
        state = self.group.consumers
        assert state.state is m.GroupState.STABLE
        wanted = {TopicPartition(name, n) for name, facts in state.topics.items() for n in range(facts.partitions)}
        read = [at for client in live for at in client.reading]
        assert sorted(read) == sorted(wanted)
        if len({(client.topics, client.pattern) for client in live}) == 1 and state.assignor == "uniform":
            loads = [len(client.reading) for client in live]
            assert max(loads) - min(loads) <= 1


ConsumerModel.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestConsumerModel = ConsumerModel.TestCase
