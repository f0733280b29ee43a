"""The state of the lease machine of one partition.

What lives here: what a restart keeps (``Hard``) apart from what it rebuilds (``Soft``), and small questions to both. What
may not: decisions, and mutations beyond a structure's own (``apply`` alone changes the state).
Invariant: an open position of source or retry topic is in exactly one place: not yet read, eligible, waiting in the
schedule, waiting behind its key, leased, or moving (a leased one that moves stays in the lease table until its copy is
durable).
"""

from dataclasses import dataclass, field

from logbroker.queues.eligible import Eligible
from logbroker.queues.events import Grant, Span
from logbroker.queues.key_lines import KeyLines
from logbroker.queues.messages import Message
from logbroker.queues.moves import Moves
from logbroker.queues.offset_ranges import OffsetRanges
from logbroker.queues.positions import Place, Position, Source
from logbroker.queues.rules import LeaseRules
from logbroker.queues.schedule import DueIndex, Schedule


@dataclass(slots=True)
class Lease:
    """One delivery. ``deadline`` and ``received`` are monotonic times of the present run."""

    number: int
    run: int
    consumer: str
    grant: Grant
    deadline: int
    received: int


@dataclass(slots=True)
class Progress:
    """How far one topic is done.

    ``seen`` and ``ahead`` are of copy topics: every copy below ``seen``, and those in ``ahead`` above it, were taken over.
    """

    finished: OffsetRanges = field(default_factory=OffsetRanges)
    seen: int = 0
    ahead: set[int] = field(default_factory=set)

    @property
    def end(self) -> int:
        """One past the last copy that was taken over."""
        return max(self.seen, max(self.ahead, default=-1) + 1)

    @property
    def floor(self) -> int:
        """The lowest offset that is still needed."""
        return min(self.finished.frontier, self.seen)

    @property
    def open(self) -> int:
        """How many copies are not done."""
        finished = self.finished
        done_ahead = [offset for offset in self.ahead if offset in finished]
        above_seen = sum(offset >= finished.frontier for offset in done_ahead)
        below_seen = max(0, self.seen - finished.frontier) - (finished.above - above_seen)
        return below_seen + len(self.ahead) - len(done_ahead)

    def took(self, offset: int) -> bool:
        """Whether the copy at ``offset`` was taken over."""
        return offset < self.seen or offset in self.ahead

    def take(self, offset: int, seen: int) -> None:
        """Take over the copy at ``offset``; everything below ``seen`` is known by that."""
        self.ahead.add(offset)
        self.read_to(seen)

    def read_to(self, seen: int) -> None:
        """Everything below ``seen`` is known: what was not taken over does not exist, so it counts as finished."""
        if seen <= self.seen:
            return
        low = self.seen
        for offset in sorted(offset for offset in self.ahead if offset < seen):
            self.finished.add(low, offset)
            low = offset + 1
        self.finished.add(low, seen)
        self.ahead = {offset for offset in self.ahead if offset >= seen}
        self.seen = seen


@dataclass(slots=True)
class Hard:
    """What applying the journal leaves."""

    at: int = 0
    """The latest monotonic time of the present run that is known; deadlines are told against it."""
    generation: int = 0
    next_number: int = 0
    logs: tuple[Progress, Progress, Progress] = field(default_factory=lambda: (Progress(), Progress(), Progress()))
    leases: dict[int, Lease] = field(default_factory=dict)
    leased: dict[Position, Lease] = field(default_factory=dict)
    returned: dict[Position, int] = field(default_factory=dict)
    """Deliveries so far of messages that were released and not leased since."""
    acked: dict[int, int] = field(default_factory=dict)
    """Run by lease number, of the leases acked last."""
    marks: list[tuple[int, int]] = field(default_factory=list)
    """(wall-clock time, end of the source by then), ascending; kept where what is not taken is dropped some day."""

    def is_finished(self, position: Position) -> bool:
        """Whether the message at a position is done."""
        return position.offset in self.logs[position.source].finished


@dataclass(slots=True)
class Soft:
    """What the process rebuilds from the topics when it loads."""

    read_to: int = 0
    """How far the source topic was read; see ``State.read_next``."""
    last_due_ms: int = 0
    deadlines: DueIndex = field(default_factory=DueIndex)
    """The leases that end by themselves, by deadline and number: all but those that move."""
    fresh: Eligible[Message] = field(default_factory=Eligible)
    """Messages that were never delivered, with their records."""
    back: Eligible[Message] = field(default_factory=Eligible)
    """Messages that were delivered before, with their records."""
    again: Eligible[None] = field(default_factory=Eligible)
    """Messages that were released or come to the head of their key: their records must be read again first."""
    schedule: Schedule = field(default_factory=Schedule)
    lines: KeyLines = field(default_factory=KeyLines)
    moves: Moves = field(default_factory=Moves)
    dead_full: bool = False


@dataclass(slots=True)
class State:
    """The whole machine."""

    place: Place
    rules: LeaseRules
    hard: Hard = field(default_factory=Hard)
    soft: Soft = field(default_factory=Soft)

    @property
    def read_next(self) -> int:
        """Where the source is to be read on."""
        return max(self.soft.read_to, self.hard.logs[Source.SOURCE].finished.frontier)

    def progress(self, source: Source) -> Progress:
        """How far a topic is done."""
        return self.hard.logs[source]

    def unheld(self, before: int) -> list[Span]:
        """What is open of the source below an offset and not leased."""
        leased = sorted(one.offset for one in self.hard.leased if one.source is Source.SOURCE and one.offset < before)
        finished = self.progress(Source.SOURCE).finished
        spans: list[Span] = []
        low = finished.frontier
        for offset in [*leased, before]:
            spans.extend(finished.open_runs(low, offset))
            low = offset + 1
        return spans

    def is_busy(self, position: Position) -> bool:
        """Whether the message at a position is leased or moving."""
        return position in self.hard.leased or position in self.soft.moves.by_position

    def first_at(self, position: Position) -> int | None:
        """The id index of a retry message, if it is leased, moving or eligible with its record."""
        lease = self.hard.leased.get(position)
        if lease is not None:
            return lease.grant.first
        moving = self.soft.moves.by_position.get(position)
        if moving is not None:
            return moving.first
        ready = next((one for one in (self.soft.fresh, self.soft.back) if position in one), None)
        return None if ready is None else ready.get(position).first
