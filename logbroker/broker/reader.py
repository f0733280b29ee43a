"""Where one member of a group reads: its positions, what it was given, what it paused.

What lives here: this state and how it changes. What may not: the engine, the coordinator, waiting.
Invariants: positions hold for one assignment, which is more than a generation where the broker assigns (KIP-848), and a
new one starts at what is committed; a record is given once in a generation unless the member seeks back; what was read
from a position that has moved meanwhile is not given.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from logbroker.broker.fetch import Fetched, Start
from logbroker.groups.messages import NO_GENERATION
from logbroker.model import TopicPartition

AutoOffsetReset = Literal["earliest", "latest", "error"]
"""Where to start without a committed offset, and where to go when the position is outside the log (auto.offset.reset)."""


@dataclass(slots=True)
class Reader:
    """One member as it reads. ``auto_offset_reset`` is None for a member from before a restart: nobody knows it."""

    auto_offset_reset: AutoOffsetReset | None
    session_timeout_ms: int
    heard_mono_ms: int
    generation: int = NO_GENERATION
    assignment: frozenset[TopicPartition] = frozenset()
    rebalanced: bool = False
    """Whether generation or assignment are news since the last answer."""
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    """Where to read on, of every partition it is assigned."""
    given: dict[TopicPartition, int] = field(default_factory=dict)
    """Positions that were given to the member and that it has not committed."""
    sought: set[TopicPartition] = field(default_factory=set)
    """Partitions where a commit may move back, because the member has sought there since the last one."""
    paused: set[TopicPartition] = field(default_factory=set)
    polling: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Polls of one member take turns."""
    turn: int = 0

    def stands_in(self, generation: int, assignment: Iterable[TopicPartition]) -> bool:
        """Whether the positions are those of this assignment."""
        return generation == self.generation and self.assignment == set(assignment)

    def begin(self, generation: int, committed: Mapping[TopicPartition, int], fresh: Mapping[TopicPartition, int]) -> None:
        """Start an assignment: at what is ``committed``, and at ``fresh`` positions where nothing is.

        Fresh ones count as given, so that they are committed: who reads on after this member misses nothing.
        """
        assignment = frozenset((*committed, *fresh))
        if self.stands_in(generation, assignment):
            return
        self.generation, self.assignment, self.rebalanced = generation, assignment, True
        self.positions = {**committed, **fresh}
        self.given = dict(fresh)
        self.sought.clear()
        self.paused &= self.positions.keys()

    def starts(self) -> list[Start]:
        """Where to read now. Partitions take turns at the front, where the limits of a read do not cut."""
        wanted = [Start(where, self.positions[where]) for where in sorted(self.positions) if where not in self.paused]
        first = self.turn % len(wanted) if wanted else 0
        self.turn += 1
        return wanted[first:] + wanted[:first]

    def give(self, starts: Sequence[Start], answers: Iterable[Fetched]) -> list[Fetched]:
        """Move on past what was read; what is left out was read from where the member no longer stands."""
        asked = {start.where: start.offset for start in starts}
        valid = [
            answer
            for answer in answers
            if self.positions.get(answer.where) == asked[answer.where] and answer.where not in self.paused
        ]
        for answer in valid:
            self.positions[answer.where] = answer.next_offset
            if answer.records:
                self.given[answer.where] = answer.next_offset
        return [answer for answer in valid if answer.records]

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read on elsewhere; this is what the member commits next, even if it is further back."""
        self.positions.update(offsets)
        self.given.update(offsets)
        self.sought.update(offsets)

    def committed(self, where: TopicPartition, offset: int) -> None:
        """A position was committed."""
        self.sought.discard(where)
        if self.given.get(where, offset + 1) <= offset:
            del self.given[where]
