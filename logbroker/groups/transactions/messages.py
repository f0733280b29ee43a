"""What is asked of a transactional id, what it answers, and what happens to it, as data.

What lives here: commands, replies, events. What may not: decisions.
Refusals are errors of ``logbroker.errors``. Hard events are msgpack arrays; fields are added at the end, with a default.
"""

import enum
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from logbroker.machine import HardEvent, SoftEvent
from logbroker.model import TopicPartition

NO_PRODUCER = -1
NO_EPOCH = -1


class Status(enum.Enum):
    """The states of a transactional id, as Kafka's tools spell them."""

    EMPTY = "Empty"
    """Its producer has not begun a transaction."""
    ONGOING = "Ongoing"
    PREPARE_COMMIT = "PrepareCommit"
    """It is committed; not everybody has been told."""
    PREPARE_ABORT = "PrepareAbort"
    COMPLETE_COMMIT = "CompleteCommit"
    COMPLETE_ABORT = "CompleteAbort"
    DEAD = "Dead"
    """There is no such id."""


PREPARED = (Status.PREPARE_COMMIT, Status.PREPARE_ABORT)


class Producer(NamedTuple):
    """Who a caller says it is."""

    id: int
    epoch: int


# -- commands ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InitProducer:
    """A producer starts and takes the id over from whoever had it; a transaction that is open is aborted first.

    ``current`` is what it was granted before, if it asks for a new epoch of that (KIP-360). ``unused_producer_id`` is given
    to it where it needs one.
    """

    timeout_ms: int
    unused_producer_id: int
    current: Producer | None = None


@dataclass(frozen=True, slots=True)
class AddToTransaction:
    """Begin a transaction, or go on with it, in these partitions and with the offsets of these groups."""

    producer: Producer
    partitions: frozenset[TopicPartition] = frozenset()
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class EndTransaction:
    """Commit or abort. Answered when everybody has been told, or cannot be told for now. ``token`` is the coordinator's."""

    producer: Producer
    committed: bool
    token: int


@dataclass(frozen=True, slots=True)
class AbortTransaction:
    """Abort as an administrator, fencing the producer. Answered as ``EndTransaction``."""

    token: int


@dataclass(frozen=True, slots=True)
class MarkersWritten:
    """Everybody has been told of the outcome."""


@dataclass(frozen=True, slots=True)
class MarkersDelayed:
    """Somebody could not be told of the outcome yet; it is being tried again."""


TransactionCommand: TypeAlias = (
    InitProducer | AddToTransaction | EndTransaction | AbortTransaction | MarkersWritten | MarkersDelayed
)


# -- replies -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Granted:
    """The producer id and epoch of the new holder."""

    producer: Producer


@dataclass(frozen=True, slots=True)
class Done:
    """It is done; there is no more to say."""


TransactionReply: TypeAlias = Granted | Done


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision that everybody has to be told of."""

    producer: Producer
    committed: bool
    partitions: frozenset[TopicPartition]
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class TransactionView:
    """A transactional id as administrators see it. Times are wall clock."""

    transactional_id: str
    status: Status
    producer: Producer
    timeout_ms: int
    started_ms: int | None
    updated_ms: int
    partitions: tuple[TopicPartition, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionLimits:
    """What the broker allows all transactional ids (Kafka's transaction.max.timeout.ms, transactional.id.expiration.ms)."""

    max_timeout_ms: int = 900_000
    expire_ms: int = 604_800_000


# -- hard events: tags never change --------------------------------------------------------------------------------------


class ProducerGranted(HardEvent, frozen=True, tag="granted"):
    """A producer holds the id. ``last`` is what its holder had before, for a retry of the same request to be recognised."""

    producer: Producer
    last: Producer
    timeout_ms: int
    at_ms: int


class TransactionJoined(HardEvent, frozen=True, tag="joined"):
    """Partitions and groups are part of the transaction, which begins with the first of them."""

    partitions: tuple[TopicPartition, ...]
    groups: tuple[str, ...]
    at_ms: int


class TransactionPrepared(HardEvent, frozen=True, tag="prepared"):
    """The outcome is fixed. ``epoch`` is that of the markers: a higher one than the producer's fences it."""

    committed: bool
    epoch: int
    at_ms: int


class TransactionCompleted(HardEvent, frozen=True, tag="completed"):
    """Everybody has been told."""

    at_ms: int


class TransactionalIdForgotten(HardEvent, frozen=True, tag="forgotten"):
    """The id was not used for long."""


TransactionEvent: TypeAlias = (
    ProducerGranted | TransactionJoined | TransactionPrepared | TransactionCompleted | TransactionalIdForgotten
)
"""What the journal of transactions holds."""


# -- soft events: deadlines are mono_ms ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeadlineSet(SoftEvent):
    """An open transaction is aborted at ``deadline``."""

    deadline: int


@dataclass(frozen=True, slots=True)
class CallerWaits(SoftEvent):
    """A caller waits until everybody has been told."""

    token: int


@dataclass(frozen=True, slots=True)
class CallersAnswered(SoftEvent):
    """Nobody waits any more."""
