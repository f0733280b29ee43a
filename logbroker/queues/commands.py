"""What is asked of a lease machine, and what it replies.

What lives here: commands and replies as data. What may not: decisions.
Commands with a ``token`` are parked until a copy is durable; the others are answered at once (or when what they changed is
durable). Replies about several receipts hold, for each, None or the error that stands for it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from logbroker.errors import LogbrokerError
from logbroker.machine import Moved, MoveFailed
from logbroker.model import Record
from logbroker.queues.copies import Edit
from logbroker.queues.events import Span
from logbroker.queues.messages import FoundCopy, Message
from logbroker.queues.positions import Position, Receipt, Source
from logbroker.queues.rules import LeaseRules

# -- reading -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TakeIn:
    """The source topic, read from ``offset`` to ``next_offset``, holds these messages and no others.

    ``offset`` must be the machine's ``read_next``, else nothing happens. Only records that a crash cannot take back.
    """

    offset: int
    messages: tuple[Message, ...]
    next_offset: int


@dataclass(frozen=True, slots=True)
class Supply:
    """The records at ``wanted`` positions."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Lose:
    """The records at these positions are gone or unreadable: never hand out an empty body."""

    positions: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The retry or dead-letter topic, read up to ``next_offset``, holds these copies: at load, and after AppendUnknown.

    The retry topic is read from its frontier at load, else both are read from where they were seen.
    """

    source: Source
    copies: tuple[FoundCopy, ...]
    next_offset: int


# -- leases --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Acquire:
    """Lease up to ``limit`` messages, at most ``fresh`` of them delivered for the first time.

    ``in_company``: the same answer holds messages of other partitions, so that none on its last attempt may come along.
    """

    consumer: str
    lease_ms: int
    limit: int
    fresh: int
    in_company: bool = False


@dataclass(frozen=True, slots=True)
class Ack:
    """The messages are done. Saying it again is fine."""

    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Give the messages back; that counts as no failure."""

    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class Extend:
    """Let leases end ``lease_ms`` after this call, or at once if that is 0."""

    entries: tuple[tuple[Receipt, int], ...]


@dataclass(frozen=True, slots=True)
class Nack:
    """The message failed; it comes back by the queue's policy, or after ``delay_ms`` if that is given."""

    token: int
    receipt: Receipt
    delay_ms: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """The message will never succeed: straight to the dead letters."""

    token: int
    receipt: Receipt
    reason: str


# -- by hand -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PublishLater:
    """A message that is not to be delivered before ``due_ms``."""

    token: int
    record: Record
    due_ms: int


@dataclass(frozen=True, slots=True)
class Reschedule:
    """Deliver a message that waits, as it was read from where ``find`` says, at ``due_ms`` (promote: now)."""

    token: int
    message: Message
    due_ms: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take back a message that was not delivered, by the index of its id."""

    first: int


@dataclass(frozen=True, slots=True)
class Redrive:
    """Send a dead letter to the retry topic: failures 0, due now, time to live anew."""

    token: int
    letter: FoundCopy
    edit: Edit | None = None


@dataclass(frozen=True, slots=True)
class Discard:
    """Dead letters at these offsets are not wanted any more. Those that are gone or moving are left alone."""

    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DropOldest:
    """The dead-letter topic overflows: finish its oldest ``count`` letters."""

    count: int


@dataclass(frozen=True, slots=True)
class DeadFull:
    """Whether the dead-letter topic takes no more (overflow = reject): messages bound for it are held."""

    full: bool


@dataclass(frozen=True, slots=True)
class Purge:
    """Everything of the source topic below ``source_before`` and of the retry topic below ``retry_before`` is done."""

    source_before: int
    retry_before: int


@dataclass(frozen=True, slots=True)
class Seek:
    """Read the source from ``offset`` on, but for ``done``; also how a new machine learns where to start.

    ``generation`` is at least that of the machine after it; 0 for the next one.
    """

    offset: int
    generation: int = 0
    done: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Age:
    """Drop what was not taken from the source for ``keep_ms``; ``end`` is where it ends now."""

    end: int
    keep_ms: int


@dataclass(frozen=True, slots=True)
class Configure:
    """The rules are different from now on. ``ordered`` never changes."""

    rules: LeaseRules


LeaseCommand: TypeAlias = (
    TakeIn
    | Supply
    | Lose
    | TakeOver
    | Acquire
    | Ack
    | Release
    | Extend
    | Nack
    | Reject
    | PublishLater
    | Reschedule
    | Cancel
    | Redrive
    | Discard
    | DropOldest
    | DeadFull
    | Purge
    | Seek
    | Age
    | Configure
    | Moved
    | MoveFailed
)

# -- replies -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivery:
    """One leased message. The counters include this delivery, not its outcome; ``expires_ms`` is wall-clock time."""

    message: Message
    receipt: Receipt
    deliveries: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A copy is durable there."""

    position: Position


class Outcome(StrEnum):
    """What became of a wish about a message that waits."""

    CANCELLED = "cancelled"
    ALREADY_DELIVERED = "already_delivered"


Settled: TypeAlias = tuple[LogbrokerError | None, ...]
Extended: TypeAlias = tuple[int | LogbrokerError, ...]
"""For each entry how long the lease lasts from now, in ms; 0 when it was released."""
LeaseReply: TypeAlias = tuple[Delivery, ...] | Settled | Extended | Placed | Outcome | int
