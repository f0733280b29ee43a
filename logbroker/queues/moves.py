"""Messages that are being copied elsewhere: handed to the shell and not yet known to be durable.

What lives here: the table of moves, and how far a copy topic may be noted as read. What may not: what a copy looks like.
Invariants: one position has at most one move; no ack, expiry, extension or lease touches a position that has one; a move is
*under way* (the shell has it) or *held* until its retry time.

Copies may become durable out of order, so a topic counts as read only up to where the oldest move under way may still land:
the end of the topic as known when that move was handed out (its ``floor``).
"""

from dataclasses import dataclass, field

from logbroker.model import Record
from logbroker.queues.copies import CopyPlan
from logbroker.queues.positions import Position, Source
from logbroker.queues.schedule import DueIndex

FIRST_RETRY_MS = 1_000
LAST_RETRY_MS = 60_000


@dataclass(slots=True)
class Moving:
    """One move. ``position`` and ``first`` are None for a delayed publish, which takes over nothing."""

    token: int
    position: Position | None
    first: int | None
    target: Source
    record: CopyPlan | Record
    due_ms: int
    failures: int
    caller: int | None = None
    """The parked token that is answered with the outcome of the first try."""
    wanted: bool = False
    """Whether somebody asked for it: then a failure is told to him, and the message stays where it is."""
    due_before_ms: int = 0
    tries: int = 0
    retry_at: int | None = None
    """When a held move starts over (monotonic); None while it is under way."""
    void: bool = False
    """Whether what it takes over was purged or sought away meanwhile."""


def backoff_ms(tries: int) -> int:
    """How long a move is held after it failed for the ``tries``-th time."""
    return min(LAST_RETRY_MS, FIRST_RETRY_MS << min(tries - 1, 16))


@dataclass(slots=True)
class Moves:
    """All moves of one machine."""

    next_token: int = 0
    by_token: dict[int, Moving] = field(default_factory=dict)
    by_position: dict[Position, Moving] = field(default_factory=dict)
    held: DueIndex = field(default_factory=DueIndex)
    """The moves that start over, by time and token."""
    _floors: dict[Source, dict[int, int]] = field(default_factory=lambda: {Source.RETRY: {}, Source.DEAD: {}})

    def __len__(self) -> int:
        return len(self.by_token)

    def start(self, moving: Moving, floor: int) -> None:
        """A move begins: under way, or held from the start."""
        self.next_token = max(self.next_token, moving.token + 1)
        self.by_token[moving.token] = moving
        if moving.position is not None and not moving.void:
            self.by_position[moving.position] = moving
        if moving.retry_at is None:
            self._floors[moving.target][moving.token] = floor
        else:
            self.held.add(moving.retry_at, moving.token)

    def restart(self, token: int, floor: int) -> None:
        """A held move begins again."""
        moving = self.by_token[token]
        self._let_go(moving)
        self._floors[moving.target][token] = floor

    def hold(self, token: int, retry_at: int) -> None:
        """A move failed."""
        moving = self.by_token[token]
        self._let_go(moving)
        moving.tries += 1
        moving.retry_at = retry_at
        self.held.add(retry_at, token)

    def _let_go(self, moving: Moving) -> None:
        """It is neither under way nor held."""
        self._floors[moving.target].pop(moving.token, None)
        if moving.retry_at is not None:
            self.held.discard(moving.retry_at, moving.token)
            moving.retry_at = None

    def end(self, token: int) -> Moving:
        """A move is over."""
        moving = self.by_token.pop(token)
        self._let_go(moving)
        if moving.position is not None and self.by_position.get(moving.position) is moving:
            del self.by_position[moving.position]
        return moving

    def void(self, moving: Moving) -> None:
        """What this move takes over is gone; when its copy turns up, it is void."""
        moving.void = True
        if moving.position is not None:
            self.by_position.pop(moving.position, None)

    def seen_without(self, token: int, target: Source, end: int) -> int:
        """Up to where ``target``, known to end at ``end``, is read once the move ``token`` is over."""
        return next((floor for other, floor in self._floors[target].items() if other != token), end)
