"""Transactions under any sequence of requests, tellings and crashes: each is whole or gone.

The model is naive: partitions and a group that keep what was written in which transaction, and take every telling at its
word. A crash forgets what was not flushed and everything soft. Held after every step: a transaction is told one outcome
only, everywhere the same; what was acknowledged as committed is committed; nobody writes into a transaction that is
decided; the journal and the snapshot both rebuild the hard state.
"""

from dataclasses import dataclass, field
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from logbroker.errors import LogbrokerError
from logbroker.groups.transactions import messages as m
from logbroker.groups.transactions.machine import Transaction
from logbroker.groups.transactions.messages import PREPARED, Producer, Status
from logbroker.machine import Decision, HardEvent, Park
from logbroker.model import Now, TopicPartition

WALL_MS = 1_700_000_000_000
TIMEOUT_MS = 60_000
LIMITS = m.TransactionLimits()
PARTS: tuple[TopicPartition | str, ...] = (TopicPartition("t", 0), TopicPartition("t", 1), "group")


@dataclass(slots=True)
class Written:
    """Something a producer wrote, in its ``number``-th transaction of all."""

    number: int
    outcome: bool | None = None


@dataclass(slots=True)
class World:
    """What survives a crash, because it is told and written durably."""

    written: dict[TopicPartition | str, list[Written]] = field(default_factory=lambda: {part: [] for part in PARTS})
    journal: list[HardEvent] = field(default_factory=list)


class TransactionModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.machine = Transaction("txn", LIMITS)
        self.now = Now(WALL_MS, 0)
        self.flushed = 0
        self.number = 0
        self.begun = 0
        """The number of the transaction that the machine is in, or was in last."""
        self.granted: list[Producer] = []
        self.told: set[TopicPartition | str] = set()
        self.outcomes: dict[int, bool] = {}
        """What anybody was told of a transaction, by its number."""
        self.acknowledged: dict[int, bool] = {}
        self.waiting: dict[int, tuple[int, bool]] = {}
        self.tokens = count(1)
        self.ids = count(1)

    # -- the shell -------------------------------------------------------------------------------------------------------

    def take(self, decision: Decision[m.TransactionReply]) -> None:
        for event in decision.events:
            if isinstance(event, HardEvent):
                self.world.journal.append(event)
            if isinstance(event, m.TransactionJoined) and self.machine.hard.status is not Status.ONGOING:
                assert self.machine.hard.status not in PREPARED
                self.number += 1
                self.begun = self.number
            if isinstance(event, m.TransactionPrepared):
                self.told = set()
            self.machine.apply(event)
        if decision.answers:
            self.flush()
        for answer in decision.answers:
            number, committed = self.waiting.pop(answer.token)
            assert not isinstance(answer.reply, LogbrokerError)
            self.acknowledged[number] = committed

    @rule()
    def flush(self) -> None:
        self.flushed = len(self.world.journal)

    @rule(after_ms=st.sampled_from([1, 1_000, TIMEOUT_MS, LIMITS.expire_ms]))
    def wait(self, after_ms: int) -> None:
        self.now = Now(self.now.wall_ms + after_ms, self.now.mono_ms + after_ms)
        due = self.machine.next_deadline(self.now)
        if due is not None and due <= self.now.mono_ms:
            self.take(self.machine.expire(self.now))
        assert self.machine.hard.status is not Status.ONGOING or after_ms < TIMEOUT_MS, "it outlived its time-out"

    @rule(part=st.sampled_from(PARTS))
    def tell(self, part: TopicPartition | str) -> None:
        """As the coordinator does: once the outcome is flushed, in any order, perhaps again."""
        outcome = self.machine.outcome
        if outcome is None or self.flushed < len(self.world.journal):
            return
        if part not in outcome.partitions and part not in outcome.groups:
            return
        assert self.outcomes.setdefault(self.begun, outcome.committed) is outcome.committed
        for one in self.world.written[part]:
            if one.outcome is None:
                assert one.number == self.begun, "it was left open by an earlier transaction"
                one.outcome = outcome.committed
        self.told.add(part)
        if self.told >= {*outcome.partitions, *outcome.groups}:
            self.take(self.machine.decide(m.MarkersWritten(), self.now))

    @rule()
    def delay(self) -> None:
        self.take(self.machine.decide(m.MarkersDelayed(), self.now))

    @rule(lost=st.floats(0, 1))
    def crash(self, lost: float) -> None:
        kept = self.flushed + round((len(self.world.journal) - self.flushed) * (1 - lost))
        del self.world.journal[kept:]
        self.machine = Transaction("txn", LIMITS)
        for event in self.world.journal:
            self.machine.apply(event)
        self.flush()
        self.waiting.clear()
        self.told = set()
        joined = [one for one in self.world.journal if isinstance(one, m.TransactionJoined)]
        if self.machine.hard.status is Status.ONGOING or self.machine.outcome is not None:
            assert joined
        self.take(self.machine.resume(self.now))

    # -- producers -------------------------------------------------------------------------------------------------------

    @rule(keeps=st.booleans(), which=st.randoms(use_true_random=False))
    def init(self, keeps: bool, which: "object") -> None:
        current = which.choice(self.granted) if keeps and self.granted else None  # type: ignore[attr-defined]
        command = m.InitProducer(TIMEOUT_MS, next(self.ids), current)
        decision = self.machine.decide(command, self.now)
        self.take(decision)
        if isinstance(decision.reply, m.Granted):
            self.flush()
            assert decision.reply.producer == self.machine.hard.producer
            if current is None:
                assert decision.reply.producer not in self.granted, "two hold the same epoch"
            self.granted.append(decision.reply.producer)

    @precondition(lambda self: self.granted)
    @rule(which=st.integers(-3, -1), parts=st.sets(st.sampled_from(PARTS), min_size=1))
    def add(self, which: int, parts: set[TopicPartition | str]) -> None:
        producer = self.granted[max(which, -len(self.granted))]
        partitions = frozenset(one for one in parts if isinstance(one, TopicPartition))
        groups = frozenset(one for one in parts if isinstance(one, str))
        decision = self.machine.decide(m.AddToTransaction(producer, partitions, groups), self.now)
        self.take(decision)
        if isinstance(decision.reply, m.Done):
            self.flush()

    @precondition(lambda self: self.granted)
    @rule(which=st.integers(-3, -1), part=st.sampled_from(PARTS))
    def write(self, which: int, part: TopicPartition | str) -> None:
        if self.machine.holds(self.granted[max(which, -len(self.granted))], part) is None:
            assert self.begun not in self.outcomes, "it was written to a transaction that is decided"
            self.world.written[part].append(Written(self.begun))

    @precondition(lambda self: self.granted)
    @rule(which=st.integers(-3, -1), committed=st.booleans())
    def end(self, which: int, committed: bool) -> None:
        producer, token = self.granted[max(which, -len(self.granted))], next(self.tokens)
        decision = self.machine.decide(m.EndTransaction(producer, committed, token), self.now)
        self.take(decision)
        if isinstance(decision.reply, Park):
            self.waiting[token] = (self.begun, committed)
        elif isinstance(decision.reply, m.Done):
            assert self.outcomes.get(self.begun, committed) is committed

    @rule()
    def abort(self) -> None:
        token = next(self.tokens)
        decision = self.machine.decide(m.AbortTransaction(token), self.now)
        self.take(decision)
        if isinstance(decision.reply, Park):
            self.waiting[token] = (self.begun, False)

    # -- what always holds -----------------------------------------------------------------------------------------------

    @invariant()
    def a_transaction_is_whole_or_gone(self) -> None:
        for part, written in self.world.written.items():
            for one in written:
                if one.outcome is not None:
                    assert self.outcomes[one.number] is one.outcome, part
                elif one.number in self.outcomes:
                    assert one.number == self.begun, f"{part} was never told"
                    assert self.machine.outcome is not None
        for number, committed in self.acknowledged.items():
            assert self.outcomes.get(number, committed) is committed

    @invariant()
    def the_journal_and_the_snapshot_rebuild_the_state(self) -> None:
        for events in (self.world.journal, list(self.machine.snapshot())):
            rebuilt = Transaction("txn", LIMITS)
            for event in events:
                rebuilt.apply(event)
            hard, again = self.machine.hard, rebuilt.hard
            if hard.status is not Status.ONGOING and hard.status not in PREPARED:
                hard.started_ms = again.started_ms = 0
            assert again == hard


TestTransactionModel = TransactionModel.TestCase
TestTransactionModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
