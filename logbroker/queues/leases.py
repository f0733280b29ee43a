"""The lease machine of one partition of a queue or subscription: the heart of the work queue.

What lives here: which decision answers which command, and the questions a dispatcher may ask. What may not: the decisions
themselves (``acquire``, ``settle``, ``moving``, ``admin``, ``aging``, ``expiry``), mutations (``apply``), I/O, clocks.
Invariants, held after every event, crash and restart (``tests/queues/test_move_protocol.py`` walks them):

- a message has exactly one open position until it is done: in the source, the retry or the dead-letter topic;
- once an ack was answered, no position of the message is ever open again;
- a message has at most one lease, and only that lease's receipt can settle it.

How to drive it. At load: replay the journal; read the retry topic from ``floor(RETRY)`` and the dead-letter topic from
``seen(DEAD)`` to their ends into ``TakeOver``; then ``resume``. Then, whenever somebody receives: read the source at
``intake`` into ``TakeIn``, read ``wanted`` positions into ``Supply``, and ``Acquire``. Only durable records are read.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from logbroker.machine import Decision, Event, HardEvent, Moved, MoveFailed
from logbroker.model import Now
from logbroker.queues import acquire, admin, aging, moving, settle
from logbroker.queues import commands as c
from logbroker.queues.apply import apply
from logbroker.queues.draft import Draft
from logbroker.queues.events import Resumed
from logbroker.queues.expiry import expire, next_deadline
from logbroker.queues.positions import Place, Position, Source, first_of
from logbroker.queues.rules import KEY_WINDOW, LeaseRules
from logbroker.queues.schedule import worth_rewriting
from logbroker.queues.snapshot import snapshot
from logbroker.queues.state import Lease, State

_DECIDE: dict[type, Callable[[Draft, Any], Decision[c.LeaseReply]]] = {
    c.TakeIn: acquire.take_in,
    c.Supply: acquire.supply,
    c.Lose: acquire.lose,
    c.Acquire: acquire.acquire,
    c.Ack: settle.ack,
    c.Release: settle.release,
    c.Extend: settle.extend,
    c.Nack: settle.nack,
    c.Reject: settle.reject,
    c.TakeOver: moving.take_over,
    Moved: moving.moved,
    MoveFailed: moving.move_failed,
    c.PublishLater: admin.publish_later,
    c.Reschedule: admin.reschedule,
    c.Cancel: admin.cancel,
    c.Redrive: admin.redrive,
    c.Discard: admin.discard,
    c.DropOldest: admin.drop_oldest,
    c.DeadFull: admin.dead_full,
    c.Purge: admin.purge,
    c.Seek: admin.seek,
    c.Age: aging.age,
    c.Configure: admin.configure,
}


class LeaseMachine:
    """A decide / apply machine (``logbroker.machine.Machine``)."""

    def __init__(self, place: Place, rules: LeaseRules) -> None:
        self._state = State(place, rules)

    def decide(self, command: c.LeaseCommand, now: Now) -> Decision[c.LeaseReply]:
        """What the command leads to."""
        return _DECIDE[type(command)](Draft(self._state, now), command)

    def apply(self, event: Event) -> None:
        """Change the state by one event."""
        apply(self._state, event)

    def expire(self, now: Now) -> Decision[c.LeaseReply]:
        """What the passing of time leads to."""
        return expire(Draft(self._state, now))

    def next_deadline(self, now: Now) -> int | None:
        """When ``expire`` has something to do."""
        return next_deadline(self._state, now)

    def resume(self, now: Now) -> Decision[c.LeaseReply]:
        """Leases run on from where the journal ends: down time does not count against them."""
        hard = self._state.hard
        return Decision((Resumed(now.mono_ms),) if hard.leases else ())

    def snapshot(self) -> Iterator[HardEvent]:
        """Events that lead an empty machine to this hard state."""
        return snapshot(self._state.hard)

    # -- what a dispatcher asks --------------------------------------------------------------------------------------------

    @property
    def place(self) -> Place:
        """What the machine stands on."""
        return self._state.place

    @property
    def ordered(self) -> bool:
        """Whether the messages of a key are delivered one after the other."""
        return self._state.rules.ordered

    @property
    def in_flight(self) -> int:
        """How many messages are leased, moving ones included; what waits for its retry is not in flight."""
        return len(self._state.hard.leases)

    @property
    def generation(self) -> int:
        """How often the source was sought; 0 for a machine that still has to learn where to start."""
        return self._state.hard.generation

    @property
    def retries(self) -> int:
        """How many messages of the retry topic are not done: waiting, eligible, leased or moving."""
        return self._state.progress(Source.RETRY).open

    @property
    def waiting(self) -> int:
        """How many messages of the retry topic are not due or not asked for yet."""
        return len(self._state.soft.schedule.waiting)

    @property
    def dead(self) -> int:
        """How many dead letters are not redriven, discarded or dropped."""
        return self._state.progress(Source.DEAD).open

    @property
    def parked(self) -> int:
        """How many messages wait behind an earlier one of their key."""
        return self._state.soft.lines.parked

    @property
    def fresh(self) -> int:
        """How many messages were read and never delivered: while there are enough, no more need be read."""
        return len(self._state.soft.fresh)

    @property
    def back(self) -> int:
        """How many messages were read that were delivered before, or come from the retry topic."""
        return len(self._state.soft.back)

    def undue(self, now: Now) -> tuple[int, int]:
        """How many messages of the retry topic are not due yet: those that never failed, and those that did."""
        schedule = self._state.soft.schedule
        failed = schedule.failed.count_after(now.wall_ms)
        return schedule.waiting.count_after(now.wall_ms) - failed, failed

    def scheduled(self, due_ms: int, offset: int) -> Iterator[tuple[int, int, bool]]:
        """(due, offset, whether it failed before) of what waits in the retry topic, after that due time and offset.

        Nothing may be decided while this is read.
        """
        schedule = self._state.soft.schedule
        return ((due, at, schedule.failed.holds(due, at)) for due, at in schedule.waiting.after(due_ms, offset))

    def open_offsets(self, source: Source, start: int, end: int) -> Iterator[int]:
        """The offsets in [start, end) whose message is not done, leased and moving ones included, ascending."""
        finished = self._state.progress(source).finished
        return (offset for low, high in finished.open_runs(start, end) for offset in range(low, high))

    def backlog(self, end: int) -> int:
        """How many messages of a source topic that ends at ``end`` are not done, leased ones included."""
        return self._state.progress(Source.SOURCE).finished.open_below(max(end, self._state.read_next))

    @property
    def intake(self) -> int | None:
        """Where the source is to be read on; None while ordered keys have it too far ahead of the first open message."""
        read_next = self._state.read_next
        frontier = self._state.progress(Source.SOURCE).finished.frontier
        return None if self._state.rules.ordered and read_next - frontier >= KEY_WINDOW else read_next

    @property
    def read_next(self) -> int:
        """Where the source is to be read on, however far that is ahead."""
        return self._state.read_next

    @property
    def known_to(self) -> int:
        """One past the last offset of the source of which anything was decided, also in earlier runs.

        A start reads on from the first offset that is not done, so what lies between was read before.
        """
        hard = self._state.hard
        finished = hard.logs[Source.SOURCE].finished
        held = (one.offset + 1 for one in (*hard.leased, *hard.returned) if one.source is Source.SOURCE)
        return max(self._state.read_next, finished.last_end, *held)

    def done_above(self, source: Source) -> Iterator[tuple[int, int]]:
        """What is done above the lowest offset that is not, as ascending spans. Nothing may be decided while it is read."""
        return iter(self._state.progress(source).finished)

    def retried_from_source(self) -> Iterator[int]:
        """The offsets in the source of messages that stand in the retry topic now."""
        firsts = map(first_of, self._state.soft.schedule)
        return (first.offset for first in firsts if first.source is Source.SOURCE)

    def wanted(self, now: Now, limit: int) -> list[Position]:
        """Messages that may be delivered once their records are read, in the order of delivery."""
        soft = self._state.soft
        due = ((due, offset, Source.RETRY) for due, offset in soft.schedule.waiting.due(now.wall_ms))
        again = ((due, position.offset, position.source) for due, position in soft.again.in_order())
        first = sorted([*islice(due, limit), *islice(again, limit)])[:limit]
        return [Position(source, offset) for _, offset, source in first]

    def next_due_ms(self) -> int | None:
        """The wall-clock time at which the next waiting message is due."""
        return self._state.soft.schedule.waiting.first_due()

    def available(self, now: Now) -> bool:
        """Whether an ``Acquire`` may find something, once wanted records are supplied: when to wake a long poll."""
        soft = self._state.soft
        due = soft.schedule.waiting.first_due()
        return bool(soft.fresh) or bool(soft.back) or bool(soft.again) or (due is not None and due <= now.wall_ms)

    def expiring(self, now: Now) -> bool:
        """Whether messages whose time to live is over are about to be moved, or on their way to the dead letters."""
        return acquire.expiring(self._state, now)

    def find(self, first: int) -> Position | None:
        """Where the message with this id index stands in the source or retry topic, or None when it is done there."""
        return admin.find(self._state, first)

    def is_finished(self, position: Position) -> bool:
        """Whether the message at a position is done there."""
        return self._state.hard.is_finished(position)

    def lease(self, number: int) -> Lease | None:
        """The present lease of that number."""
        return self._state.hard.leases.get(number)

    def lease_at(self, position: Position) -> Lease | None:
        """The present lease on the message at a position."""
        return self._state.hard.leased.get(position)

    def leases(self) -> Iterable[Lease]:
        """The present leases, for peeking; those whose message moves are among them."""
        return self._state.hard.leases.values()

    def is_busy(self, position: Position) -> bool:
        """Whether the message at a position is leased or moving."""
        return self._state.is_busy(position)

    def floor(self, source: Source) -> int:
        """The lowest offset still needed. Nothing at or above the floor of the *flushed* journal may be deleted."""
        progress = self._state.progress(source)
        return progress.finished.frontier if source is Source.SOURCE else progress.floor

    def seen(self, source: Source) -> int:
        """Up to where a copy topic was taken over: where to read on."""
        return self._state.progress(source).seen

    def worth_rewriting(self, bytes_per_record: float, limit: int) -> list[int]:
        """Offsets of waiting retries that pin much that is done: each is worth a ``Reschedule`` at its own due time."""
        retry = self._state.progress(Source.RETRY)
        return worth_rewriting(retry.finished, retry.seen, bytes_per_record, limit)
