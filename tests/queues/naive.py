"""A naive model of the lease machine: plain lists, everything looked at each time, virtual time.

It predicts exactly what is delivered, in which order and with which counters, and where every message stands. It knows
nothing of moves, journals or indexes.
"""

from dataclasses import dataclass, field

from logbroker.queues.positions import Position, Receipt, Source
from logbroker.queues.rules import LeaseRules


@dataclass(eq=False)
class Held:
    """One lease."""

    receipt: Receipt
    deadline: int
    acked: bool = False


@dataclass(eq=False)
class Msg:
    """One message, at its one position; ``at`` is None when it is done."""

    value: str
    key: str | None
    at: Position | None
    due: int
    ttl_from: int
    failures: int = 0
    deliveries: int = 0
    held: Held | None = None
    joined: bool = False
    read: bool = False
    """Whether its record is at hand since it came to be deliverable."""
    released: bool = False

    @property
    def fresh(self) -> bool:
        return self.deliveries == 0

    def order(self) -> tuple[int, int, Source]:
        assert self.at is not None
        return self.due, self.at.offset, self.at.source


@dataclass
class Naive:
    """The queue."""

    rules: LeaseRules
    wall: int
    mono: int = 0
    at: int = 0
    ends: dict[Source, int] = field(default_factory=lambda: dict.fromkeys(Source, 0))
    messages: list[Msg] = field(default_factory=list)
    lines: dict[str, list[Msg]] = field(default_factory=dict)
    sent: list[tuple[str, str | None, int, int]] = field(default_factory=list)
    """Value, key, offset and time of what was ever sent to the source."""
    marks: list[tuple[int, int]] = field(default_factory=list)

    def open(self, *sources: Source) -> list[Msg]:
        return [m for m in self.messages if m.at is not None and m.at.source in (sources or Source)]

    def place(self, source: Source) -> Position:
        self.ends[source] += 1
        return Position(source, self.ends[source] - 1)

    # -- lines of keys -----------------------------------------------------------------------------------------------------

    def join(self, m: Msg) -> None:
        m.joined = True
        if self.rules.ordered and m.key is not None and m not in self.lines.setdefault(m.key, []):
            self.lines[m.key].append(m)

    def leave(self, m: Msg) -> None:
        m.joined = False
        if m.key is not None and m in self.lines.get(m.key, []):
            self.lines[m.key].remove(m)

    def is_head(self, m: Msg) -> bool:
        return m.joined and (m.key is None or not self.rules.ordered or self.lines[m.key][0] is m)

    def parked(self) -> int:
        return sum(max(0, len(line) - 1) for line in self.lines.values())

    # -- reading and delivering --------------------------------------------------------------------------------------------

    def fill(self) -> None:
        for m in sorted(self.open(Source.SOURCE), key=lambda m: m.at or (0, 0)):
            if not m.joined:
                self.join(m)
        for m in sorted(self.open(Source.RETRY), key=Msg.order):
            if not m.joined and m.due <= self.wall:
                self.join(m)
        for m in self.ready():
            m.read = True

    def ready(self) -> list[Msg]:
        able = [m for m in self.open(Source.SOURCE, Source.RETRY) if m.held is None and m.due <= self.wall]
        return sorted((m for m in able if self.is_head(m)), key=Msg.order)

    def receive(self, limit: int, fresh: int) -> list[Msg]:
        """Who is to be delivered."""
        self.fill()
        chosen: list[Msg] = []
        for m in self.ready():
            alone = self.rules.max_attempts is not None and m.failures + 1 >= self.rules.max_attempts
            if len(chosen) >= limit or (alone and chosen):
                break
            if m.fresh and fresh <= 0:
                continue
            if self.is_expired(m):
                self.bury(m)
                continue
            fresh -= m.fresh
            chosen.append(m)
            if alone:
                break
        return chosen

    def lease(self, m: Msg, receipt: Receipt, lease_ms: int) -> None:
        self.at = self.mono
        m.deliveries += 1
        m.read = m.released = False
        m.held = Held(receipt, self.mono + lease_ms)

    def is_expired(self, m: Msg) -> bool:
        return self.rules.ttl_ms is not None and m.ttl_from + self.rules.ttl_ms <= self.wall

    # -- ends of leases ----------------------------------------------------------------------------------------------------

    def good(self, m: Msg, held: Held) -> bool:
        return m.held is held and held.deadline > self.mono

    def done(self, m: Msg) -> None:
        self.leave(m)
        m.at = m.held = None

    def release(self, m: Msg) -> None:
        self.at = self.mono
        m.held, m.released = None, True

    def bury(self, m: Msg) -> None:
        self.leave(m)
        m.held, m.at = None, self.place(Source.DEAD)

    def fail(self, m: Msg, delay_ms: int | None = None) -> None:
        m.failures += 1
        if self.rules.max_attempts is not None and m.failures >= self.rules.max_attempts:
            self.bury(m)
        else:
            delay = self.rules.retry.delay_ms(m.failures, 0) if delay_ms is None else delay_ms
            self.put_off(m, self.wall + delay)

    def put_off(self, m: Msg, due: int) -> None:
        """A copy in the retry topic; only a failed message keeps its place in its key's line."""
        if m.failures == 0:
            self.leave(m)
        m.held, m.read, m.released = None, False, False
        m.at, m.due = self.place(Source.RETRY), due
        if m.failures and not m.joined:
            self.join(m)

    def redrive(self, m: Msg) -> None:
        m.failures, m.ttl_from = 0, self.wall
        self.put_off(m, self.wall)

    # -- time, purge, crash ------------------------------------------------------------------------------------------------

    def advance(self, ms: int) -> None:
        self.wall += ms
        self.mono += ms
        ended = [m for m in self.messages if m.held is not None and m.held.deadline <= self.mono]
        for m in sorted(ended, key=lambda m: (m.held.deadline, m.held.receipt.number) if m.held else (0, 0)):
            self.fail(m)
        for m in [m for m in self.ready() if m.fresh and m.read]:
            if not self.is_expired(m):
                break
            self.bury(m)

    def purge(self) -> None:
        for m in self.open(Source.SOURCE, Source.RETRY):
            self.done(m)

    def seek(self, offset: int) -> None:
        for m in self.open(Source.SOURCE, Source.RETRY):
            self.done(m)
        self.lines.clear()
        self.marks.clear()
        again = [one for one in self.sent if one[2] >= offset]
        self.messages += [Msg(value, key, Position(Source.SOURCE, at), ms, ms) for value, key, at, ms in again]

    def age(self, keep_ms: int, frontier: int, step_ms: int) -> int:
        """Drop what nobody took; below which offset."""
        before = max((end for ms, end in self.marks if ms + keep_ms <= self.wall), default=0)
        end = self.ends[Source.SOURCE]
        last_ms, last_end = self.marks[-1] if self.marks else (self.wall - keep_ms, 0)
        if end > max(last_end, frontier) and last_ms + step_ms <= self.wall:
            self.marks.append((self.wall, end))
        for m in [m for m in self.open(Source.SOURCE) if m.held is None and m.at is not None and m.at.offset < before]:
            self.done(m)
        return before

    def crash(self, mono: int) -> None:
        for m in self.messages:
            if m.held is not None:
                m.held.deadline += mono - self.at
        held = any(m.held is not None for m in self.messages)
        self.at, self.mono = mono if held else self.at, mono
        self.lines.clear()
        for m in sorted(self.open(Source.SOURCE, Source.RETRY), key=lambda m: m.at or (0, 0)):
            m.joined = m.read = False
            if m.at is not None and m.at.source is Source.RETRY and (m.failures or m.held is not None or m.released):
                self.join(m)
