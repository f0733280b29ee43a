"""The lease machine against the naive model, step by step, with virtual time and restarts."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from logbroker.errors import LeaseLost
from logbroker.queues import commands as c
from logbroker.queues.aging import MARKS
from logbroker.queues.positions import Position, Source, index_of
from logbroker.queues.redelivery import RetryKind, RetryPolicy
from logbroker.queues.rules import LeaseRules
from tests.queues.naive import Held, Msg, Naive
from tests.queues.world import World, text

pick = st.integers(0, 1_000)
keys = st.sampled_from([None, "a", "b"])
KEEP_MS = 4_000
delays = st.sampled_from([0, 1, 50, 1_000, 7_000])


class Model(RuleBasedStateMachine):
    """One queue, twice."""

    @initialize(ordered=st.booleans(), attempts=st.sampled_from([1, 2, 4, None]), ttl=st.sampled_from([None, None, 4_000]))
    def begin(self, ordered: bool, attempts: int | None, ttl: int | None) -> None:
        rules = LeaseRules(attempts, RetryPolicy(RetryKind.LINEAR, initial_ms=500, jitter=0), ttl, ordered)
        self.world = World(rules)
        self.model = Naive(rules, self.world.clock.now().wall_ms)
        self.leases: list[tuple[Msg, Held]] = []
        self.count = 0
        self.left_out: set[int] = set()
        self.world.takes = lambda record: record.offset not in self.left_out

    def add(self, key: str | None, at: Position, due: int) -> Msg:
        message = Msg(f"m{self.count}", key, at, due, due)
        self.count += 1
        self.model.messages.append(message)
        return message

    # -- messages ----------------------------------------------------------------------------------------------------------

    @rule(key=keys)
    def publish(self, key: str | None) -> None:
        message = self.add(key, self.model.place(Source.SOURCE), self.model.wall)
        self.model.sent.append((message.value, key, self.model.ends[Source.SOURCE] - 1, self.model.wall))
        self.world.publish(message.value, key=key)

    @rule(key=keys, count=st.integers(1, 3))
    def publish_what_the_filter_leaves_out(self, key: str | None, count: int) -> None:
        for _ in range(count):
            self.left_out.add(self.model.place(Source.SOURCE).offset)
            self.world.publish("left out", key=key)

    @rule(key=keys, delay=delays)
    def publish_later(self, key: str | None, delay: int) -> None:
        message = self.add(key, self.model.place(Source.RETRY), self.model.wall + delay)
        assert self.world.later(message.value, delay, key=key) == c.Placed(message.at or Position(Source.RETRY, -1))

    @rule(limit=st.integers(1, 6), fresh=st.sampled_from([0, 1, 20_000]), lease_ms=st.sampled_from([100, 3_000, 30_000]))
    def receive(self, limit: int, fresh: int, lease_ms: int) -> None:
        expected = self.model.receive(limit, fresh)
        received = self.world.receive(limit, lease_ms=lease_ms, fresh=fresh)
        assert [text(d) for d in received] == [m.value for m in expected]
        for message, delivery in zip(expected, received, strict=True):
            self.model.lease(message, delivery.receipt, lease_ms)
            assert (delivery.message.failures, delivery.deliveries) == (message.failures, message.deliveries)
            assert message.held is not None
            self.leases.append((message, message.held))

    # -- leases, stale ones included ---------------------------------------------------------------------------------------

    def lease(self, n: int) -> tuple[Msg, Held, bool]:
        message, held = self.leases[-1 - n % min(len(self.leases), 12)]
        return message, held, self.model.good(message, held)

    @precondition(lambda self: self.leases)
    @rule(n=pick)
    def ack(self, n: int) -> None:
        message, held, good = self.lease(n)
        [result] = self.world.ack(held.receipt)
        assert (result is None) == (good or held.acked)
        if good:
            self.model.at, held.acked = self.model.mono, True
            self.model.done(message)

    @precondition(lambda self: self.leases)
    @rule(n=pick, delay=st.one_of(st.none(), delays))
    def nack(self, n: int, delay: int | None) -> None:
        message, held, good = self.lease(n)
        reply = self.world.nack(held.receipt, delay)
        assert isinstance(reply, LeaseLost) != good
        if good:
            self.model.fail(message, delay)

    @precondition(lambda self: self.leases)
    @rule(n=pick)
    def reject(self, n: int) -> None:
        message, held, good = self.lease(n)
        assert isinstance(self.world.reject(held.receipt, "no"), LeaseLost) != good
        if good:
            message.failures += 1
            self.model.bury(message)

    @precondition(lambda self: self.leases)
    @rule(n=pick)
    def release(self, n: int) -> None:
        message, held, good = self.lease(n)
        [result] = self.world.do(c.Release((held.receipt,)))
        assert (result is None) == good
        if good:
            self.model.release(message)

    @precondition(lambda self: self.leases)
    @rule(n=pick, lease_ms=st.sampled_from([0, 200, 20_000]))
    def extend(self, n: int, lease_ms: int) -> None:
        message, held, good = self.lease(n)
        [result] = self.world.do(c.Extend(((held.receipt, lease_ms),)))
        assert (result == lease_ms) == good
        if good and lease_ms:
            held.deadline, self.model.at = self.model.mono + lease_ms, self.model.mono
        elif good:
            self.model.release(message)

    # -- by hand -----------------------------------------------------------------------------------------------------------

    def identified(self, n: int) -> tuple[Msg, int] | None:
        """A message whose first position can be told: one that was not copied yet."""
        first = [m for m in self.model.messages if m.at is not None and m.at.source is not Source.DEAD and m.failures == 0]
        message = first[n % len(first)] if first else None
        known = None if message is None else self.world.machine.find(index_of(message.at or Position(Source.RETRY, 0)))
        return (message, index_of(known)) if message is not None and known is not None and known == message.at else None

    @rule(n=pick)
    def cancel(self, n: int) -> None:
        found = self.identified(n)
        if found is not None:
            message, first = found
            outcome = self.world.do(c.Cancel(first))
            assert outcome is (c.Outcome.CANCELLED if message.held is None else c.Outcome.ALREADY_DELIVERED)
            if message.held is None:
                self.model.done(message)

    @rule(n=pick, delay=delays)
    def reschedule(self, n: int, delay: int) -> None:
        found = self.identified(n)
        if found is not None:
            message, first = found
            reply = self.world.reschedule(first, self.model.wall + delay)
            if message.held is not None:
                assert reply is c.Outcome.ALREADY_DELIVERED
            elif delay or message.due > self.model.wall:
                self.model.put_off(message, self.model.wall + delay)

    @rule(n=pick, discard=st.booleans())
    def treat_a_dead_letter(self, n: int, discard: bool) -> None:
        letters = self.model.open(Source.DEAD)
        if letters:
            letter = letters[n % len(letters)]
            assert letter.at is not None
            if discard:
                assert self.world.do(c.Discard((letter.at.offset,))) == 1
                self.model.done(letter)
            else:
                self.world.redrive(letter.at.offset)
                self.model.redrive(letter)

    # -- time and accidents ------------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 99, 500, 2_999, 40_000]))
    def advance(self, ms: int) -> None:
        self.model.advance(ms)
        self.world.advance(ms)

    @rule(n=st.integers(0, 9))
    def purge(self, n: int) -> None:
        if n == 0:
            self.model.purge()
            self.world.do(c.Purge(self.model.ends[Source.SOURCE], self.model.ends[Source.RETRY]))

    @rule(n=st.integers(0, 4), back=st.integers(0, 8))
    def seek(self, n: int, back: int) -> None:
        if n == 0:
            offset = max(0, self.model.ends[Source.SOURCE] - back)
            self.model.seek(offset)
            self.world.do(c.Seek(offset))

    @rule()
    def age(self) -> None:
        frontier = self.world.machine.floor(Source.SOURCE)
        before = self.model.age(KEEP_MS, frontier, KEEP_MS // MARKS)
        self.world.do(c.Age(self.model.ends[Source.SOURCE], KEEP_MS))
        assert all(self.world.machine.is_finished(Position(Source.SOURCE, one)) for one in self.left_out if one < before)

    @rule(mono=st.sampled_from([5, 10_000_000]))
    def crash(self, mono: int) -> None:
        before = self.world.machine._state.hard
        self.world.crash()
        self.world.load(mono)
        self.model.crash(5)
        self.model.crash(mono)
        if not before.leases:
            assert self.world.machine._state.hard == before

    @rule()
    def restart_from_a_snapshot(self) -> None:
        world = self.world
        snapshot = list(world.machine.snapshot())
        before = world.machine._state.hard
        world.compact(snapshot)
        assert world.replayed(world.journal)._state.hard == before

    # -- what must be equal ------------------------------------------------------------------------------------------------

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "world"):
            return
        machine, model = self.world.machine, self.model
        expected: dict[str, list[Position]] = {}
        for m in sorted(model.open(), key=lambda m: m.at or (0, 0)):
            expected.setdefault(m.value, []).append(m.at or Position(Source.DEAD, -1))
        found = self.world.open_positions()
        unread = found.pop("left out", [])
        assert found == expected
        assert all(position.offset >= machine.read_next for position in unread)
        assert machine.in_flight == sum(m.held is not None for m in model.messages)
        assert machine.dead == len(model.open(Source.DEAD))
        assert machine.parked == model.parked()


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_thousand_steps_without_divergence() -> None:
    run_state_machine_as_test(Model, settings=settings(max_examples=170, stateful_step_count=120, deadline=None))
