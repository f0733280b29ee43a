"""What happens to the messages of one partition, as data: the only things that change a lease machine.

What lives here: hard events (journalled) and soft events (gone with the process). What may not: decisions.
Invariants: hard events are msgpack arrays whose fields are only added to at the end, with a default; a lease is named by
its number. ``at`` is monotonic time and means something only against other ``at`` of the same run: ``Resumed`` carries all
deadlines over to the next run's clock, so that down time does not run against a lease.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from logbroker.machine import HardEvent, SoftEvent
from logbroker.queues.messages import Message
from logbroker.queues.moves import Moving
from logbroker.queues.positions import Position, Source
from logbroker.queues.rules import LeaseRules

Span: TypeAlias = tuple[int, int]
"""[start, end) of offsets."""


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """One message of a ``Leased``: its counters include this delivery but not its outcome."""

    position: Position
    first: int
    failures: int
    deliveries: int
    key: bytes | None = None
    """Only where keys are ordered: a lease may end after a restart before its record was read again."""


class Leased(HardEvent, frozen=True, tag="L"):
    """``grants`` are leased to ``consumer`` until ``at + lease_ms`` under the numbers from ``number`` on."""

    at: int
    run: int
    number: int
    lease_ms: int
    consumer: str
    grants: tuple[Grant, ...]


class Acked(HardEvent, frozen=True, tag="A"):
    """These leases' messages are done."""

    at: int
    numbers: tuple[int, ...]


class Released(HardEvent, frozen=True, tag="R"):
    """These leases end without counting; their messages may be delivered again at once."""

    at: int
    numbers: tuple[int, ...]


class Extended(HardEvent, frozen=True, tag="E"):
    """These leases end at the deadlines beside them."""

    at: int
    deadlines: tuple[tuple[int, int], ...]


class Copied(HardEvent, frozen=True, tag="C"):
    """A durable copy at ``to`` took over ``replaces`` (or nothing); copies below ``seen`` are now all taken over."""

    to: Position
    replaces: Position | None
    seen: int


class Voided(HardEvent, frozen=True, tag="V"):
    """The copy at ``to`` counts for nothing: what it would take over was purged, sought away or never ours."""

    to: Position
    seen: int


class Seen(HardEvent, frozen=True, tag="N"):
    """Everything below ``seen`` of a copy topic was read; what is not known by now does not exist."""

    source: Source
    seen: int


class Finished(HardEvent, frozen=True, tag="F"):
    """These offsets are done without an ack: cancelled, discarded, dropped, lost, or never were a message.

    A span of more than one offset holds nothing that is leased, eligible, waiting or moving.
    """

    source: Source
    spans: tuple[Span, ...]


class Skipped(HardEvent, frozen=True, tag="K"):
    """Of the source from ``start`` on, these are no messages of this view: none of them was ever read.

    ``runs`` are lengths, in turn of what stays open and of what is done: a byte or two for each, since a filter may leave
    out every other record.
    """

    start: int
    runs: tuple[int, ...]

    @classmethod
    def over(cls, start: int, spans: Iterable[Span]) -> "Skipped":
        """The event for ascending spans, none of which starts below ``start``."""
        runs: list[int] = []
        at = start
        for low, end in spans:
            runs += (low - at, end - low)
            at = end
        return cls(start, tuple(runs))

    def spans(self) -> Iterator[Span]:
        """What is done."""
        at = self.start
        for index in range(0, len(self.runs), 2):
            low = at + self.runs[index]
            at = low + self.runs[index + 1]
            yield low, at


class Marked(HardEvent, frozen=True, tag="M"):
    """At ``at_ms`` (wall clock) the source ended at ``offset``: what lies below is at least as old."""

    at_ms: int
    offset: int


class Aged(HardEvent, frozen=True, tag="G"):
    """What nobody holds of the source below ``before`` was kept for as long as was promised, and is done."""

    before: int


class Purged(HardEvent, frozen=True, tag="P"):
    """Everything below these offsets is done, leases, moves and waiting messages included."""

    source_before: int
    retry_before: int


class Sought(HardEvent, frozen=True, tag="S"):
    """The source is read from ``offset`` on; leases, moves and waiting messages are void."""

    offset: int
    generation: int


class Resumed(HardEvent, frozen=True, tag="B"):
    """A new run began at ``at`` on its own monotonic clock."""

    at: int


class LeaseState(msgspec.Struct, frozen=True, array_like=True):
    """One lease in a snapshot."""

    number: int
    run: int
    consumer: str
    grant: Grant
    deadline: int
    received: int


class Base(HardEvent, frozen=True, tag="b"):
    """Snapshot: the counters."""

    at: int
    generation: int
    next_number: int


class Log(HardEvent, frozen=True, tag="l"):
    """Snapshot: how far one topic is done; what is done above its frontier follows as ``Done``."""

    source: Source
    frontier: int
    seen: int
    ahead: tuple[int, ...]


class Done(HardEvent, frozen=True, tag="d"):
    """Snapshot: some of the offsets that are done above the frontier."""

    source: Source
    spans: tuple[Span, ...]


class Leases(HardEvent, frozen=True, tag="h"):
    """Snapshot: some of the leases."""

    leases: tuple[LeaseState, ...]


class Returned(HardEvent, frozen=True, tag="r"):
    """Snapshot: released messages with the number of their deliveries so far."""

    deliveries: tuple[tuple[Position, int], ...]


class Remembered(HardEvent, frozen=True, tag="a"):
    """Snapshot: acked leases of one run, oldest first."""

    run: int
    numbers: tuple[int, ...]


LeaseEvent: TypeAlias = (
    Leased
    | Acked
    | Released
    | Extended
    | Copied
    | Voided
    | Seen
    | Finished
    | Skipped
    | Marked
    | Aged
    | Purged
    | Sought
    | Resumed
    | Base
    | Log
    | Done
    | Leases
    | Returned
    | Remembered
)


@dataclass(frozen=True, slots=True)
class TakenIn(SoftEvent):
    """The source was read to ``next_offset`` and held these messages."""

    messages: tuple[Message, ...]
    next_offset: int


@dataclass(frozen=True, slots=True)
class Supplied(SoftEvent):
    """The records of eligible messages were read again."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Waiting(SoftEvent):
    """A copy waits in the retry topic. ``replaces`` is the position whose place in its key's line it keeps."""

    offset: int
    first: int
    due_ms: int
    failures: int
    key: bytes | None
    replaces: Position | None


@dataclass(frozen=True, slots=True)
class MoveStarted(SoftEvent):
    """A message began to move: handed to the shell, or held back until there is room."""

    moving: Moving


@dataclass(frozen=True, slots=True)
class MoveRestarted(SoftEvent):
    """A held move was handed to the shell again."""

    token: int


@dataclass(frozen=True, slots=True)
class MoveHeld(SoftEvent):
    """A move failed and starts over at ``retry_at`` (monotonic)."""

    token: int
    retry_at: int
    lean: bool


@dataclass(frozen=True, slots=True)
class Withdrawn(SoftEvent):
    """The message with this id index is about to be finished at ``offset`` of the retry topic."""

    first: int
    offset: int


@dataclass(frozen=True, slots=True)
class MoveDone(SoftEvent):
    """A move ended."""

    token: int


@dataclass(frozen=True, slots=True)
class MoveDropped(SoftEvent):
    """A move that somebody asked for failed and is given up: the message stays where it is."""

    token: int


@dataclass(frozen=True, slots=True)
class DeadTopicFull(SoftEvent):
    """Whether the dead-letter topic takes no more."""

    full: bool


@dataclass(frozen=True, slots=True)
class RulesChanged(SoftEvent):
    """The queue was configured."""

    rules: LeaseRules


SoftLeaseEvent: TypeAlias = (
    TakenIn
    | Supplied
    | Waiting
    | Withdrawn
    | MoveStarted
    | MoveRestarted
    | MoveHeld
    | MoveDone
    | MoveDropped
    | DeadTopicFull
    | RulesChanged
)
