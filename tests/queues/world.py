"""A shell in miniature: three logs, a journal and one lease machine, with flushes and crashes under the test's control.

It does what the dispatcher and the journal shell promise: hard events are written (as bytes) before events are applied,
answers wait for the flush they ask for, moves are appended in order and reported once flushed, and only flushed records
are read. ``auto`` flushes everything at once; without it nothing is flushed until the test says so.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from logbroker.clock import ManualClock
from logbroker.errors import LogbrokerError, StorageError
from logbroker.machine import Answer, Decision, HardEvent, Move, Moved, MoveFailed, Park
from logbroker.model import Header, Record, StoredRecord, TopicPartition
from logbroker.queues import commands as c
from logbroker.queues import events as e
from logbroker.queues.headers import decoded
from logbroker.queues.leases import LeaseMachine
from logbroker.queues.messages import FoundCopy, arrived, came_back
from logbroker.queues.positions import MessageId, Place, Position, Receipt, Source
from logbroker.queues.redelivery import RetryKind, RetryPolicy
from logbroker.queues.rules import LeaseRules

LEASE_MS = 30_000
NO_DELAY = RetryPolicy(RetryKind.NONE)
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(e.LeaseEvent)


@dataclass
class Log:
    """One topic partition. ``records`` may hold None where nothing is (trimmed, or no record)."""

    records: list[StoredRecord | None] = field(default_factory=list)
    flushed: int = 0

    def append(self, record: Record, at_ms: int) -> int:
        offset = len(self.records)
        at = at_ms if record.timestamp_ms is None else record.timestamp_ms
        self.records.append(StoredRecord(offset, at, record.key, record.value, record.headers))
        return offset

    def read(self, start: int) -> list[StoredRecord]:
        return [record for record in self.records[start : self.flushed] if record is not None]


class World:
    """One partition of a queue and its broker."""

    def __init__(self, rules: LeaseRules | None = None, *, auto: bool = True, incarnation: int = 7) -> None:
        self.rules = LeaseRules(retry=NO_DELAY) if rules is None else rules
        self.auto = auto
        self.clock = ManualClock()
        self.logs = {source: Log() for source in Source}
        self.journal: list[bytes] = []
        self.journal_flushed = 0
        self.answers: dict[int, Any] = {}
        self.appended: list[tuple[Move, int]] = []
        self.fail_moves: LogbrokerError | None = None
        self.takes: Callable[[StoredRecord], bool] = lambda record: True
        """The filter of the view."""
        self.incarnation = incarnation
        self.runs = 0
        self._token = 0
        self._after_flush: list[tuple[int, list[Answer[Any]]]] = []
        self.machine = self._new_machine()

    def _new_machine(self) -> LeaseMachine:
        self.runs += 1
        topics = (TopicPartition(topic, 0) for topic in ("orders", "orders.retry", "orders.dlq"))
        return LeaseMachine(Place("orders", self.incarnation, 0, self.runs, *topics), self.rules)

    # -- the shell ---------------------------------------------------------------------------------------------------------

    def do(self, command: c.LeaseCommand) -> Any:
        """Decide, write, apply, move, answer. The reply, or the parked token."""
        return self._run(self.machine.decide(command, self.clock.now()))

    def _run(self, decision: Decision[Any]) -> Any:
        self.journal.extend(_ENCODER.encode(event) for event in decision.events if isinstance(event, HardEvent))
        for event in decision.events:
            self.machine.apply(event)
        if decision.answers:
            wait = len(self.journal) if decision.wait_for_flush else 0
            self._after_flush.append((wait, list(decision.answers)))
        for move in decision.moves:
            self._append(move)
        if self.auto:
            self.flush()
        else:
            self._answer()
        return decision.reply.token if isinstance(decision.reply, Park) else decision.reply

    def machine_run(self, command: c.LeaseCommand) -> Any:
        """Decide and apply, without a shell around it."""
        decision = self.machine.decide(command, self.clock.now())
        for event in decision.events:
            self.machine.apply(event)
        return decision.reply

    def _append(self, move: Move) -> None:
        if self.fail_moves is not None:
            self.do(MoveFailed(move.token, self.fail_moves))
            return
        record = move.record
        if not isinstance(record, Record):
            where, offset = record.original
            original = self.logs[self.source(where)].records[offset]
            assert original is not None, "a copy is made of a record that is there"
            record = record.make(original)
        self.appended.append((move, self.logs[self.source(move.where)].append(record, self.clock.now().wall_ms)))

    def source(self, where: TopicPartition) -> Source:
        return next(source for source in Source if self.machine.place.topic(source) == where)

    def flush_log(self, source: Source) -> None:
        """Flush one log; moves into it are reported."""
        log = self.logs[source]
        log.flushed = len(log.records)
        done = [(move, offset) for move, offset in self.appended if self.source(move.where) is source]
        self.appended = [entry for entry in self.appended if entry not in done]
        for move, offset in done:
            self.do(Moved(move.token, offset))

    def flush_journal(self) -> None:
        self.journal_flushed = len(self.journal)
        self._answer()

    def _answer(self) -> None:
        due = [entry for entry in self._after_flush if entry[0] <= self.journal_flushed]
        self._after_flush = [entry for entry in self._after_flush if entry not in due]
        for _, answers in due:
            for answer in answers:
                assert answer.token not in self.answers, "every token is answered once"
                self.answers[answer.token] = answer.reply

    def flush(self) -> None:
        self.logs[Source.SOURCE].flushed = len(self.logs[Source.SOURCE].records)
        while self.appended:
            self.flush_log(Source.RETRY)
            self.flush_log(Source.DEAD)
        self.flush_journal()

    def tick(self) -> None:
        """Let the clock decide until it has nothing to say."""
        while True:
            deadline = self.machine.next_deadline(self.clock.now())
            if deadline is None or deadline > self.clock.now().mono_ms:
                return
            self._run(self.machine.expire(self.clock.now()))

    def advance(self, ms: int) -> None:
        self.clock.advance(ms)
        self.tick()

    def trim_retry(self) -> None:
        """Delete what the flushed journal allows."""
        known = self.replayed(self.journal[: self.journal_flushed])
        log = self.logs[Source.RETRY]
        for offset in range(min(known.floor(Source.RETRY), log.flushed)):
            log.records[offset] = None

    def compact(self, snapshot: Iterable[HardEvent]) -> None:
        """Let the journal begin anew with a snapshot."""
        self.journal = [_ENCODER.encode(event) for event in snapshot]
        self.journal_flushed = len(self.journal)

    def replayed(self, journal: Iterable[bytes]) -> LeaseMachine:
        machine = self._new_machine()
        for event in journal:
            machine.apply(_DECODER.decode(event))
        return machine

    def crash(self, *, retry: int | None = None, dead: int | None = None, journal: int | None = None) -> None:
        """Die and load again; of each file that many entries are kept (None: all that was written)."""
        for source, keep in ((Source.SOURCE, None), (Source.RETRY, retry), (Source.DEAD, dead)):
            log = self.logs[source]
            kept = len(log.records) if keep is None else keep
            assert kept >= log.flushed
            del log.records[kept:]
            log.flushed = len(log.records)
        del self.journal[len(self.journal) if journal is None else journal :]
        self.journal_flushed = len(self.journal)
        self.appended, self._after_flush = [], []
        self.load()

    def load(self, mono_ms: int = 5) -> None:
        """Start a new run, on a monotonic clock of its own."""
        self.machine = self.replayed(self.journal)
        self.clock = ManualClock(self.clock.now().wall_ms, mono_ms)
        for source in (Source.RETRY, Source.DEAD):
            start = self.machine.floor(source) if source is Source.RETRY else self.machine.seen(source)
            log = self.logs[source]
            copies = tuple(FoundCopy(r.offset, decoded(r.headers), r.key) for r in log.read(start))
            self.do(c.TakeOver(source, copies, log.flushed))
        self._run(self.machine.resume(self.clock.now()))

    # -- what people do ----------------------------------------------------------------------------------------------------

    def token(self) -> int:
        self._token += 1
        return self._token

    def publish(self, *values: str, key: str | None = None, headers: tuple[Header, ...] = ()) -> None:
        """Messages, as any producer appends them."""
        for value in values:
            record = Record(value.encode(), None if key is None else key.encode(), headers)
            self.logs[Source.SOURCE].append(record, self.clock.now().wall_ms)
        self.logs[Source.SOURCE].flushed = len(self.logs[Source.SOURCE].records)

    def fill(self) -> None:
        """Read what is there and what is wanted."""
        start = self.machine.intake
        source = self.logs[Source.SOURCE]
        if start is not None and start < source.flushed:
            chosen = filter(self.takes, source.read(start))
            self.do(c.TakeIn(start, tuple(map(arrived, chosen)), source.flushed))
        while positions := self.machine.wanted(self.clock.now(), 100):
            found = [(at, self.logs[at.source].records[at.offset]) for at in positions]
            self.do(c.Lose(tuple(at for at, record in found if record is None)))
            read = [(at, record) for at, record in found if record is not None]
            messages = [arrived(record) if at.source is Source.SOURCE else came_back(record) for at, record in read]
            self.do(c.Supply(tuple(messages)))

    def receive(
        self, limit: int = 1, *, lease_ms: int = LEASE_MS, fresh: int = 20_000, consumer: str = "c"
    ) -> list[c.Delivery]:
        self.fill()
        return list(self.do(c.Acquire(consumer, lease_ms, limit, fresh)))

    def one(self, **options: Any) -> c.Delivery:
        """The one message that is to be received."""
        [delivery] = self.receive(1, **options)
        return delivery

    def ack(self, *receipts: Receipt) -> list[LogbrokerError | None]:
        return list(self.do(c.Ack(receipts)))

    def nack(self, receipt: Receipt, delay_ms: int | None = None, error: str | None = None) -> Any:
        """The answer, or None while there is none."""
        return self._asked(c.Nack(self.token(), receipt, delay_ms, error))

    def reject(self, receipt: Receipt, reason: str) -> Any:
        return self._asked(c.Reject(self.token(), receipt, reason))

    def later(self, value: str, delay_ms: int, *, key: str | None = None, headers: tuple[Header, ...] = ()) -> Any:
        record = Record(value.encode(), None if key is None else key.encode(), headers)
        return self._asked(c.PublishLater(self.token(), record, self.clock.now().wall_ms + delay_ms))

    def reschedule(self, first: int, due_ms: int) -> Any:
        position = self.machine.find(first)
        record = None if position is None else self.logs[position.source].records[position.offset]
        if record is None or position is None:
            return c.Outcome.ALREADY_DELIVERED
        message = arrived(record) if position.source is Source.SOURCE else came_back(record)
        return self._asked(c.Reschedule(self.token(), message, due_ms))

    def redrive(self, offset: int, edit: Any = None) -> Any:
        record = self.logs[Source.DEAD].records[offset]
        assert record is not None
        return self._asked(c.Redrive(self.token(), FoundCopy(offset, decoded(record.headers)), edit))

    def _asked(self, command: Any) -> Any:
        reply = self.do(command)
        return self.answers.get(reply) if isinstance(reply, int) else reply

    # -- what can be seen --------------------------------------------------------------------------------------------------

    def ready(self) -> list[str]:
        """The values of everything that a receive would give now, in order; given back at once."""
        taken = self.receive(10_000)
        self.do(c.Release(tuple(delivery.receipt for delivery in taken)))
        return [text(delivery) for delivery in taken]

    def open_positions(self) -> dict[str, list[Position]]:
        """Every open position by the value of the message, in the flushed part of all logs."""
        found: dict[str, list[Position]] = {}
        for source, log in self.logs.items():
            for record in log.read(0):
                position = Position(source, record.offset)
                if not self.machine.is_finished(position):
                    assert record.value is not None
                    found.setdefault(record.value.decode(), []).append(position)
        return found

    def dead(self) -> list[StoredRecord]:
        """The open dead letters."""
        records = self.logs[Source.DEAD].read(0)
        return [r for r in records if not self.machine.is_finished(Position(Source.DEAD, r.offset))]


def text(delivery: c.Delivery) -> str:
    """The value of a delivered message."""
    value = delivery.message.record.value
    assert value is not None
    return value.decode()


def message_id(world: World, delivery: c.Delivery) -> str:
    """The id of a delivered message."""
    copy_id = None if delivery.message.position.source is Source.SOURCE else decoded(delivery.message.record.headers).id
    return str(copy_id or MessageId(world.incarnation, 0, delivery.message.position))


DISK_FULL = StorageError("no room")
