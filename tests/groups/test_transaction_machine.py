"""What a transactional id answers to whom, in Kafka's order of checks."""

import pytest

from logbroker.errors import (
    ConcurrentTransactions,
    InvalidProducerIdMapping,
    InvalidTransactionState,
    InvalidTransactionTimeout,
    LogbrokerError,
    ProducerFenced,
    TransactionNotFound,
)
from logbroker.groups.transactions import messages as m
from logbroker.groups.transactions.machine import Transaction
from logbroker.groups.transactions.messages import Producer, Status
from logbroker.machine import Park
from logbroker.model import Now, TopicPartition

WALL_MS = 1_700_000_000_000
LIMITS = m.TransactionLimits()
HERE = TopicPartition("t", 0)
THERE = TopicPartition("t", 1)


class Driver:
    """A transactional id in the hands of a test."""

    def __init__(self) -> None:
        self.machine = Transaction("txn", LIMITS)
        self.now = Now(WALL_MS, 0)

    def ask(self, command: m.TransactionCommand) -> object:
        decision = self.machine.decide(command, self.now)
        for event in decision.events:
            self.machine.apply(event)
        self.answers = decision.answers
        return decision.reply

    def pass_time(self, ms: int) -> None:
        self.now = Now(self.now.wall_ms + ms, self.now.mono_ms + ms)
        for event in self.machine.expire(self.now).events:
            self.machine.apply(event)

    def init(self, current: Producer | None = None, unused: int = 77) -> Producer:
        reply = self.ask(m.InitProducer(60_000, unused, current))
        assert isinstance(reply, m.Granted), reply
        return reply.producer

    def refused(self, command: m.TransactionCommand) -> type[LogbrokerError]:
        reply = self.ask(command)
        assert isinstance(reply, LogbrokerError), reply
        return type(reply)

    def open(self) -> Producer:
        producer = self.init()
        assert self.ask(m.AddToTransaction(producer, frozenset([HERE]))) == m.Done()
        return producer

    def finish(self) -> None:
        self.ask(m.MarkersWritten())

    @property
    def status(self) -> Status:
        return self.machine.hard.status


def test_each_holder_gets_the_next_epoch_of_one_producer_id() -> None:
    txn = Driver()
    assert [txn.init(unused=number) for number in (77, 78, 79)] == [Producer(77, 0), Producer(77, 1), Producer(77, 2)]


@pytest.mark.parametrize("timeout_ms", [0, -1, LIMITS.max_timeout_ms + 1])
def test_a_time_out_that_is_not_allowed_is_refused(timeout_ms: int) -> None:
    assert Driver().refused(m.InitProducer(timeout_ms, 77)) is InvalidTransactionTimeout


def test_a_producer_that_takes_over_has_the_open_transaction_aborted_first() -> None:
    txn = Driver()
    old = txn.open()
    assert txn.refused(m.InitProducer(60_000, 78)) is ConcurrentTransactions
    outcome = txn.machine.outcome
    assert outcome == m.Outcome(Producer(77, 1), False, frozenset([HERE]), frozenset())
    assert txn.refused(m.InitProducer(60_000, 78)) is ConcurrentTransactions
    assert txn.refused(m.EndTransaction(old, True, 1)) is ProducerFenced
    txn.finish()
    assert txn.init() == Producer(77, 2)


def test_a_request_by_the_wrong_producer_is_refused_as_kafka_does() -> None:
    txn = Driver()
    assert txn.refused(m.AddToTransaction(Producer(1, 0), frozenset([HERE]))) is InvalidProducerIdMapping
    producer = txn.open()
    for refused, error in (
        (Producer(producer.id + 1, 0), InvalidProducerIdMapping),
        (Producer(producer.id, producer.epoch + 1), ProducerFenced),
        (Producer(producer.id, producer.epoch - 1), ProducerFenced),
    ):
        assert txn.refused(m.AddToTransaction(refused, frozenset([HERE]))) is error
        assert txn.refused(m.EndTransaction(refused, True, 1)) is error
        assert type(txn.machine.holds(refused, HERE)) is error


def test_only_what_was_added_to_an_open_transaction_may_be_written() -> None:
    txn = Driver()
    producer = txn.open()
    assert txn.machine.holds(producer, HERE) is None
    assert type(txn.machine.holds(producer, THERE)) is InvalidTransactionState
    assert type(txn.machine.holds(producer, "group")) is InvalidTransactionState
    txn.ask(m.AddToTransaction(producer, groups=frozenset(["group"])))
    assert txn.machine.holds(producer, "group") is None
    txn.ask(m.EndTransaction(producer, True, 1))
    assert type(txn.machine.holds(producer, HERE)) is InvalidTransactionState


def test_the_end_is_answered_when_everybody_has_been_told() -> None:
    txn = Driver()
    producer = txn.open()
    assert txn.ask(m.EndTransaction(producer, True, 1)) == Park(1)
    assert txn.ask(m.EndTransaction(producer, True, 2)) == Park(2)
    assert txn.refused(m.EndTransaction(producer, False, 3)) is InvalidTransactionState
    assert txn.refused(m.AddToTransaction(producer, frozenset([HERE]))) is ConcurrentTransactions
    txn.finish()
    assert [(one.token, one.reply) for one in txn.answers] == [(1, m.Done()), (2, m.Done())]
    assert txn.status is Status.COMPLETE_COMMIT


def test_the_end_is_answered_when_somebody_cannot_be_told_for_now() -> None:
    txn = Driver()
    producer = txn.open()
    txn.ask(m.EndTransaction(producer, True, 1))
    txn.ask(m.MarkersDelayed())
    assert [one.token for one in txn.answers] == [1]
    assert txn.status is Status.PREPARE_COMMIT


@pytest.mark.parametrize("committed", [True, False])
def test_ending_again_what_has_ended_is_no_error(committed: bool) -> None:
    txn = Driver()
    producer = txn.open()
    txn.ask(m.EndTransaction(producer, committed, 1))
    txn.finish()
    assert txn.ask(m.EndTransaction(producer, committed, 2)) == m.Done()
    assert txn.refused(m.EndTransaction(producer, not committed, 3)) is InvalidTransactionState


def test_ending_what_has_not_begun_is_refused() -> None:
    txn = Driver()
    assert txn.refused(m.EndTransaction(txn.init(), True, 1)) is InvalidTransactionState


def test_a_transaction_past_its_time_out_is_aborted_and_its_producer_fenced() -> None:
    txn = Driver()
    producer = txn.open()
    txn.pass_time(59_999)
    assert txn.status is Status.ONGOING
    txn.pass_time(1)
    assert txn.machine.outcome == m.Outcome(Producer(77, 1), False, frozenset([HERE]), frozenset())
    assert txn.refused(m.EndTransaction(producer, True, 1)) is ProducerFenced


def test_after_a_restart_a_transaction_has_the_time_left_that_it_had() -> None:
    txn = Driver()
    txn.open()
    again = Driver()
    for event in txn.machine.snapshot():
        again.machine.apply(event)
    again.now = Now(WALL_MS + 50_000, 5)
    for soft in again.machine.resume(again.now).events:
        again.machine.apply(soft)
    assert again.machine.next_deadline(again.now) == 10_005


def test_an_id_that_is_not_used_for_a_week_is_forgotten() -> None:
    txn = Driver()
    txn.init()
    txn.pass_time(LIMITS.expire_ms - 1)
    assert txn.status is Status.EMPTY
    txn.pass_time(1)
    assert txn.machine.is_vacant


def test_a_producer_may_ask_for_the_next_epoch_and_ask_again() -> None:  # KIP-360
    txn = Driver()
    first = txn.init()
    second = txn.init(current=first)
    assert second == Producer(77, 1)
    assert txn.init(current=first) == second
    assert txn.init(current=second) == Producer(77, 2)
    assert txn.refused(m.InitProducer(60_000, 78, first)) is ProducerFenced
    assert txn.refused(m.InitProducer(60_000, 78, Producer(99, 0))) is ProducerFenced


def test_an_id_whose_epochs_are_used_up_gets_another_producer() -> None:
    txn = Driver()
    txn.machine.apply(m.ProducerGranted(Producer(77, 32_766), Producer(-1, -1), 60_000, WALL_MS))
    assert txn.init(unused=78) == Producer(78, 0)


def test_an_administrator_aborts_what_is_open_and_nothing_else() -> None:
    txn = Driver()
    assert txn.refused(m.AbortTransaction(1)) is TransactionNotFound
    producer = txn.init()
    assert txn.refused(m.AbortTransaction(1)) is InvalidTransactionState
    txn.ask(m.AddToTransaction(producer, frozenset([HERE])))
    assert txn.ask(m.AbortTransaction(2)) == Park(2)
    assert txn.status is Status.PREPARE_ABORT
    assert txn.refused(m.EndTransaction(producer, True, 3)) is ProducerFenced
