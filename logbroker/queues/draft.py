"""What a decision gathers while it is made: events, moves, answers.

What lives here: the gathering, and how a move is begun. What may not: changing the state (events do that later).
"""

from dataclasses import dataclass, field

from logbroker.errors import LogbrokerError
from logbroker.machine import Answer, Decision, Event, Move, Park
from logbroker.model import Now, Record
from logbroker.queues import events as e
from logbroker.queues.commands import LeaseReply, Placed
from logbroker.queues.copies import CopyPlan, Edit
from logbroker.queues.headers import Reason
from logbroker.queues.moves import FIRST_RETRY_MS, Moving
from logbroker.queues.positions import Position, Source, first_of
from logbroker.queues.state import State


@dataclass(slots=True, kw_only=True)
class Wish:
    """What is to become of the message at ``position``; the counters are those its copy will carry."""

    position: Position
    first: int
    target: Source
    failures: int
    deliveries: int
    due_ms: int
    cause: Reason
    reason: Reason
    error: str | None = None
    edit: Edit | None = None
    caller: int | None = None
    wanted: bool = False


@dataclass(slots=True)
class Draft:
    """One decision in the making."""

    state: State
    now: Now
    events: list[Event] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    answers: list[Answer[LeaseReply]] = field(default_factory=list)
    _tokens: int = 0

    def decision(
        self, reply: LeaseReply | LogbrokerError | Park | None = None, *, wait_for_flush: bool = True
    ) -> Decision[LeaseReply]:
        """The decision."""
        return Decision(tuple(self.events), reply, tuple(self.answers), tuple(self.moves), wait_for_flush)

    def move(self, wish: Wish) -> bool:
        """Begin a move; False if it is held at once, because the dead-letter topic takes no more."""
        plan = CopyPlan(
            self.state.place,
            self.state.hard.generation,
            wish.position,
            first_of(wish.first),
            wish.failures,
            wish.deliveries,
            wish.due_ms,
            self.now.wall_ms,
            wish.cause,
            wish.reason,
            wish.error,
            wish.edit,
        )
        moving = Moving(
            self._next_token(),
            wish.position,
            wish.first,
            wish.target,
            plan,
            wish.due_ms,
            wish.failures,
            wish.caller,
            wish.wanted,
        )
        known = self.state.soft.schedule.find(wish.first)
        moving.due_before_ms = known[0] if known is not None else 0
        if wish.target is Source.DEAD and self.state.soft.dead_full:
            moving.caller, moving.tries, moving.retry_at = None, 1, self.now.mono_ms + FIRST_RETRY_MS
        return self._begin(moving)

    def publish(self, record: Record, due_ms: int, caller: int) -> None:
        """Begin the append of a message that takes over nothing."""
        moving = Moving(self._next_token(), None, None, Source.RETRY, record, due_ms, 0, caller, wanted=True)
        self._begin(moving)

    def _next_token(self) -> int:
        self._tokens += 1
        return self.state.soft.moves.next_token + self._tokens - 1

    def _begin(self, moving: Moving) -> bool:
        self.events.append(e.MoveStarted(moving))
        if moving.retry_at is None:
            self.hand_out(moving)
        return moving.retry_at is None

    def hand_out(self, moving: Moving) -> None:
        """Let the shell make the copy."""
        self.moves.append(Move(moving.token, self.state.place.topic(moving.target), moving.record))

    def answer(self, moving: Moving, reply: Placed | LogbrokerError) -> None:
        """Answer whoever waits for a move, once."""
        if moving.caller is not None:
            self.answers.append(Answer(moving.caller, reply))
