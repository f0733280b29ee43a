"""One transactional id as a decide / apply machine.

What lives here: who holds the id, its open transaction, how it ends. What may not: markers (the coordinator reads
``outcome`` and reports back), I/O, clocks.
Invariants: an outcome once prepared never changes; a producer of an older epoch changes nothing; the epoch of a commit is
its producer's, that of an abort by time-out, administrator or take-over is higher, so that the producer is fenced in
every partition; no transaction begins before the last one is completed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

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
from logbroker.groups.transactions.messages import PREPARED, Producer, Status
from logbroker.machine import Answer, Decision, Event, HardEvent, Park
from logbroker.model import Now, TopicPartition

_LAST_EPOCH = 32_766
"""The highest epoch a producer is granted; one more is left for fencing it (epochs are i16)."""
_NOBODY = Producer(m.NO_PRODUCER, m.NO_EPOCH)


@dataclass(slots=True)
class HardState:
    """What a restart keeps. Times are wall clock."""

    status: Status = Status.DEAD
    producer: Producer = _NOBODY
    last: Producer = _NOBODY
    timeout_ms: int = 0
    started_ms: int = 0
    updated_ms: int = 0
    partitions: set[TopicPartition] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)


class Transaction:
    """A transactional id: its hard state (what the journal holds), the deadline of its transaction, and who waits."""

    def __init__(self, name: str, limits: m.TransactionLimits) -> None:
        self.name = name
        self.limits = limits
        self.hard = HardState()
        self.deadline: int | None = None
        self.waiting: tuple[int, ...] = ()

    # -- what can be seen ------------------------------------------------------------------------------------------------

    @property
    def is_vacant(self) -> bool:
        """Whether there is no such id."""
        return self.hard.status is Status.DEAD

    @property
    def outcome(self) -> m.Outcome | None:
        """What everybody has to be told, if something is decided and not everybody knows."""
        hard = self.hard
        if hard.status not in PREPARED:
            return None
        committed = hard.status is Status.PREPARE_COMMIT
        return m.Outcome(hard.producer, committed, frozenset(hard.partitions), frozenset(hard.groups))

    def view(self) -> m.TransactionView:
        """The id as administrators see it."""
        hard = self.hard
        is_open = hard.status is Status.ONGOING or hard.status in PREPARED
        return m.TransactionView(
            self.name,
            hard.status,
            hard.producer,
            hard.timeout_ms,
            hard.started_ms if is_open else None,
            hard.updated_ms,
            tuple(sorted(hard.partitions)),
            tuple(sorted(hard.groups)),
        )

    def refusal(self, producer: Producer) -> LogbrokerError | None:
        """Why ``producer`` may do nothing here, if it may not."""
        hard = self.hard
        if hard.status is Status.DEAD or producer.id != hard.producer.id:
            return InvalidProducerIdMapping(
                f"producer {producer.id} does not hold the transactional id {self.name!r}: call InitProducerId"
            )
        if producer.epoch != hard.producer.epoch:
            return ProducerFenced(
                f"epoch {producer.epoch} of producer {producer.id} is over: {self.name!r} is at {hard.producer.epoch}"
            )
        return None

    def holds(self, producer: Producer, part: TopicPartition | str) -> LogbrokerError | None:
        """Why nothing may be written to ``part``, a partition or a group, in the producer's transaction; None if it may."""
        refusal = self.refusal(producer)
        if refusal is not None:
            return refusal
        hard = self.hard
        if hard.status is Status.ONGOING and (part in hard.partitions or part in hard.groups):
            return None
        return InvalidTransactionState(f"{part} is not in the open transaction of {self.name!r}: it was not added")

    # -- deciding --------------------------------------------------------------------------------------------------------

    def decide(self, command: m.TransactionCommand, now: Now) -> Decision[m.TransactionReply]:
        """What the command leads to."""
        match command:
            case m.InitProducer():
                return self._init(command, now)
            case m.AddToTransaction():
                return self._add(command, now)
            case m.EndTransaction():
                return self._end(command, now)
            case m.AbortTransaction(token):
                return self._abort(token, now)
            case m.MarkersWritten():
                if self.hard.status not in PREPARED:
                    return Decision()
                return self._told(m.TransactionCompleted(now.wall_ms))
            case m.MarkersDelayed():
                return self._told()

    def _init(self, command: m.InitProducer, now: Now) -> Decision[m.TransactionReply]:
        hard, limit = self.hard, self.limits.max_timeout_ms
        if not 0 < command.timeout_ms <= limit:
            detail = (
                f"transaction.timeout.ms = {command.timeout_ms} is not between 1 and transaction.max.timeout.ms = {limit}"
            )
            return Decision(reply=InvalidTransactionTimeout(detail))
        if hard.status in PREPARED:
            return Decision(reply=ConcurrentTransactions())
        if command.current is not None and hard.status is not Status.DEAD:
            refused_or_repeated = self._take_on(command.current)
            if refused_or_repeated is not None:
                return Decision(reply=refused_or_repeated)
        if hard.status is Status.ONGOING:
            return Decision((self._fencing_abort(now),), reply=ConcurrentTransactions())
        granted = Producer(hard.producer.id, hard.producer.epoch + 1)
        if hard.status is Status.DEAD or hard.producer.epoch >= _LAST_EPOCH:
            granted = Producer(command.unused_producer_id, 0)
        last = hard.producer if command.current is not None else _NOBODY
        return Decision((m.ProducerGranted(granted, last, command.timeout_ms, now.wall_ms),), reply=m.Granted(granted))

    def _take_on(self, current: Producer) -> m.Granted | LogbrokerError | None:
        """A producer asks for the epoch after its own: it is refused, told again what it has, or (None) gets one."""
        hard = self.hard
        if current == hard.producer:
            return None
        if current == hard.last and hard.status is Status.EMPTY:
            return m.Granted(hard.producer)
        return self.refusal(current) if current.id == hard.producer.id else ProducerFenced()

    def _add(self, command: m.AddToTransaction, now: Now) -> Decision[m.TransactionReply]:
        hard = self.hard
        refusal = self.refusal(command.producer)
        if refusal is not None:
            return Decision(reply=refusal)
        if hard.status in PREPARED:
            return Decision(reply=ConcurrentTransactions())
        is_open = hard.status is Status.ONGOING
        if is_open and command.partitions <= hard.partitions and command.groups <= hard.groups:
            return Decision(reply=m.Done())
        partitions, groups = command.partitions - hard.partitions, command.groups - hard.groups
        events: list[Event] = [m.TransactionJoined(tuple(sorted(partitions)), tuple(sorted(groups)), now.wall_ms)]
        if not is_open:
            events.append(m.DeadlineSet(now.mono_ms + hard.timeout_ms))
        return Decision(tuple(events), reply=m.Done())

    def _end(self, command: m.EndTransaction, now: Now) -> Decision[m.TransactionReply]:
        hard, committed = self.hard, command.committed
        refusal = self.refusal(command.producer)
        if refusal is not None:
            return Decision(reply=refusal)
        if hard.status is Status.ONGOING:
            prepared = m.TransactionPrepared(committed, hard.producer.epoch, now.wall_ms)
            return Decision((prepared, m.CallerWaits(command.token)), reply=Park(command.token))
        if hard.status is (Status.PREPARE_COMMIT if committed else Status.PREPARE_ABORT):
            return Decision((m.CallerWaits(command.token),), reply=Park(command.token))
        if hard.status is (Status.COMPLETE_COMMIT if committed else Status.COMPLETE_ABORT):
            return Decision(reply=m.Done())  # a retry whose first answer was lost
        what = "committed" if committed else "aborted"
        return Decision(reply=InvalidTransactionState(f"{self.name!r} is {hard.status.value}: nothing can be {what}"))

    def _abort(self, token: int, now: Now) -> Decision[m.TransactionReply]:
        hard = self.hard
        if hard.status is Status.DEAD:
            return Decision(reply=TransactionNotFound(f"there is no transactional id {self.name!r}"))
        if hard.status is Status.ONGOING:
            return Decision((self._fencing_abort(now), m.CallerWaits(token)), reply=Park(token))
        if hard.status is Status.PREPARE_ABORT:
            return Decision((m.CallerWaits(token),), reply=Park(token))
        return Decision(reply=InvalidTransactionState(f"{self.name!r} is {hard.status.value}: it has no open transaction"))

    def _fencing_abort(self, now: Now) -> m.TransactionPrepared:
        return m.TransactionPrepared(False, self.hard.producer.epoch + 1, now.wall_ms)

    def _told(self, *events: HardEvent) -> Decision[m.TransactionReply]:
        answers: tuple[Answer[m.TransactionReply], ...] = tuple(Answer(token, m.Done()) for token in self.waiting)
        return Decision((*events, m.CallersAnswered()), answers=answers)

    # -- time ------------------------------------------------------------------------------------------------------------

    def next_deadline(self, now: Now) -> int | None:
        """The ``mono_ms`` at which ``expire`` has something to do."""
        hard = self.hard
        if hard.status is Status.ONGOING:
            return self.deadline
        if hard.status is Status.DEAD or hard.status in PREPARED:
            return None
        return now.mono_ms + max(0, hard.updated_ms + self.limits.expire_ms - now.wall_ms)

    def expire(self, now: Now) -> Decision[m.TransactionReply]:
        """Abort a transaction that takes too long; forget an id that is not used."""
        deadline = self.next_deadline(now)
        if deadline is None or deadline > now.mono_ms:
            return Decision()
        return Decision((self._fencing_abort(now) if self.hard.status is Status.ONGOING else m.TransactionalIdForgotten(),))

    def resume(self, now: Now) -> Decision[m.TransactionReply]:
        """An open transaction has the time left that it had, by the wall clock, and never more than its time-out."""
        hard = self.hard
        if hard.status is not Status.ONGOING:
            return Decision()
        left = min(max(hard.started_ms + hard.timeout_ms - now.wall_ms, 0), hard.timeout_ms)
        return Decision((m.DeadlineSet(now.mono_ms + left),))

    # -- applying --------------------------------------------------------------------------------------------------------

    def apply(self, event: object) -> None:
        """Change the state, live and on replay."""
        hard = self.hard
        match event:
            case m.ProducerGranted(producer, last, timeout_ms, at_ms):
                self.hard = HardState(Status.EMPTY, producer, last, timeout_ms, 0, at_ms)
            case m.TransactionJoined(partitions, groups, at_ms):
                if hard.status is not Status.ONGOING:
                    hard.status, hard.started_ms = Status.ONGOING, at_ms
                hard.partitions.update(partitions)
                hard.groups.update(groups)
                hard.updated_ms = at_ms
            case m.TransactionPrepared(committed, epoch, at_ms):
                hard.status = Status.PREPARE_COMMIT if committed else Status.PREPARE_ABORT
                hard.producer = hard.producer._replace(epoch=epoch)
                hard.updated_ms = at_ms
            case m.TransactionCompleted(at_ms):
                is_commit = hard.status is Status.PREPARE_COMMIT
                hard.status = Status.COMPLETE_COMMIT if is_commit else Status.COMPLETE_ABORT
                hard.partitions, hard.groups, hard.updated_ms = set(), set(), at_ms
            case m.TransactionalIdForgotten():
                self.hard = HardState()
            case m.DeadlineSet(deadline):
                self.deadline = deadline
            case m.CallerWaits(token):
                self.waiting = (*self.waiting, token)
            case m.CallersAnswered():
                self.waiting = ()

    def snapshot(self) -> Iterator[HardEvent]:
        """Events that rebuild the hard state."""
        hard = self.hard
        if hard.status is Status.DEAD:
            return
        at_ms = hard.updated_ms
        yield m.ProducerGranted(hard.producer, hard.last, hard.timeout_ms, at_ms)
        if hard.status is Status.EMPTY:
            return
        yield m.TransactionJoined(tuple(sorted(hard.partitions)), tuple(sorted(hard.groups)), hard.started_ms)
        yield m.TransactionJoined((), (), at_ms)
        if hard.status is Status.ONGOING:
            return
        committed = hard.status in (Status.PREPARE_COMMIT, Status.COMPLETE_COMMIT)
        yield m.TransactionPrepared(committed, hard.producer.epoch, at_ms)
        if hard.status not in PREPARED:
            yield m.TransactionCompleted(at_ms)
