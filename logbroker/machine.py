"""The vocabulary of every decide / apply machine: consumer groups, leases, transactions.

What lives here: the words a machine and its shell (``journal.py``) exchange, all of them data. What may not: I/O, clocks,
futures, randomness; whatever a decision depends on comes in with the command or as ``now``.

A machine keeps three promises:

- ``decide``, ``expire`` and ``resume`` only read; ``apply`` is the only mutation, live and on replay;
- its state is *hard* (what applying its ``HardEvent``s leaves, and what ``snapshot`` rebuilds) or *soft* (what only
  ``SoftEvent``s touch: sessions, waiting callers). A restart keeps the hard state and loses the soft state;
- every token it parks is answered exactly once, by a later decision.

What the shell does with a ``Decision``, in this order: write the hard events, apply all events in order (none if the write
failed), run the moves, and give reply and answers once all the machine has written so far is durable.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from logbroker.errors import LogbrokerError
from logbroker.model import Now, Record, StoredRecord, TopicPartition


class HardEvent(msgspec.Struct, frozen=True, array_like=True):
    """An event that is journalled. Subclasses set a short ``tag`` that never changes.

    Stored as a msgpack array in the order of the fields, so a field is only ever added at the end and with a default.
    """


class SoftEvent:
    """An event that is applied live only and forgotten at a restart. Subclasses are frozen slotted dataclasses."""

    __slots__ = ()


Event: TypeAlias = HardEvent | SoftEvent


@dataclass(frozen=True, slots=True)
class Park:
    """As a reply: the caller waits until a later decision answers ``token``, which came with its command."""

    token: int


Reply_co = TypeVar("Reply_co", covariant=True)
Command = TypeVar("Command", contravariant=True)


@dataclass(frozen=True, slots=True)
class Answer(Generic[Reply_co]):
    """The reply to a token parked earlier; an error is raised at the waiting caller."""

    token: int
    reply: Reply_co | LogbrokerError


class Recipe(Protocol):
    """A record that is made from one which stands in a log, so that no machine has to hold payloads."""

    @property
    def original(self) -> tuple[TopicPartition, int]:
        """Where the record stands that the shell reads and hands to ``make``."""
        ...

    def make(self, original: StoredRecord) -> Record:
        """The record to be appended."""
        ...


@dataclass(frozen=True, slots=True)
class Move:
    """An append to another topic that must be durable before the machine goes on.

    The shell appends ``record`` to ``where`` (having read the original of a recipe and made it), waits for the flush, and
    feeds back ``Moved`` or ``MoveFailed``. After AppendUnknown it reads ``where`` on before it says ``MoveFailed``.
    """

    token: int
    where: TopicPartition
    record: Record | Recipe


@dataclass(frozen=True, slots=True)
class Moved:
    """Command: the record of a ``Move`` is durable at ``offset``."""

    token: int
    offset: int


@dataclass(frozen=True, slots=True)
class MoveFailed:
    """Command: the record of a ``Move`` was not written (or, for AppendUnknown, perhaps)."""

    token: int
    error: LogbrokerError


@dataclass(frozen=True, slots=True)
class Decision(Generic[Reply_co]):
    """What a command, a deadline or a restart leads to. ``reply`` is None where nobody asked or nothing is to be said."""

    events: tuple[Event, ...] = ()
    reply: Reply_co | LogbrokerError | Park | None = None
    answers: tuple[Answer[Reply_co], ...] = ()
    moves: tuple[Move, ...] = ()
    wait_for_flush: bool = True
    """False lets reply and answers go before the events are durable: only for what a power cut may take back."""


class Machine(Protocol[Command, Reply_co]):
    """One state machine. Its constructor gives the empty machine; ``apply`` alone leads away from it."""

    def decide(self, command: Command, now: Now) -> Decision[Reply_co]:
        """What the command leads to. Refuses by an error as the reply; never raises one."""
        ...

    def apply(self, event: Any) -> None:
        """Change the state. Never fails on an event that this state decided, or that its journal holds."""
        ...

    def expire(self, now: Now) -> Decision[Reply_co]:
        """What the passing of time leads to; nothing when called early."""
        ...

    def next_deadline(self, now: Now) -> int | None:
        """The ``mono_ms`` at which ``expire`` has something to do, or None. Too early is allowed, too late is not."""
        ...

    def resume(self, now: Now) -> Decision[Reply_co]:
        """What starts once the journal is replayed: sessions and leases run again from ``now``. There is no reply."""
        ...

    def snapshot(self) -> Iterable[HardEvent]:
        """Events that lead an empty machine to this hard state; none when there is nothing worth keeping."""
        ...
