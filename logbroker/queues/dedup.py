"""Deduplication of queue sends by an id of the sender, within a window of time.

What lives here: the set of ids of one queue. What may not: clocks, and the log that keeps the ids (they are a header of the
record; the window is rebuilt from there).
Invariants: the window of an id begins when it is first accepted, and duplicates do not extend it; ids may come in any
order; an id is remembered whether or not its message still exists. An id whose send is under way is neither new nor a
duplicate: a duplicate is answered only when its original is durable.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

Place = TypeVar("Place")


@dataclass(frozen=True, slots=True)
class Accepted(Generic[Place]):
    """The first send of an id: where its message was put, and when (wall clock)."""

    place: Place
    at_ms: int


@dataclass(slots=True)
class DedupWindow(Generic[Place]):
    """The ids of one queue."""

    window_ms: int
    _accepted: dict[str, Accepted[Place]] = field(default_factory=dict)
    _under_way: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self._accepted)

    def original(self, dedup_id: str, now_ms: int) -> Accepted[Place] | None:
        """The send this one would repeat, or None."""
        self._forget(now_ms)
        found = self._accepted.get(dedup_id)
        return found if found is not None and self._is_open(found, now_ms) else None

    def is_under_way(self, dedup_id: str) -> bool:
        """Whether a send of this id has begun: wait for its outcome before asking again."""
        return dedup_id in self._under_way

    def begin(self, dedup_id: str) -> None:
        """A send of this id begins."""
        self._under_way.add(dedup_id)

    def end(self, dedup_id: str, accepted: Accepted[Place] | None) -> None:
        """It was accepted, or failed and may be tried again."""
        self._under_way.discard(dedup_id)
        if accepted is not None:
            self.remember(dedup_id, accepted)

    def remember(self, dedup_id: str, accepted: Accepted[Place]) -> None:
        """An id found in the log; the earliest within a window counts."""
        known = self._accepted.get(dedup_id)
        if known is None or not self._is_open(known, accepted.at_ms):
            self._accepted.pop(dedup_id, None)
            self._accepted[dedup_id] = accepted

    def _is_open(self, accepted: Accepted[Place], now_ms: int) -> bool:
        return now_ms < accepted.at_ms + self.window_ms

    def _forget(self, now_ms: int) -> None:
        while self._accepted:
            oldest, accepted = next(iter(self._accepted.items()))
            if self._is_open(accepted, now_ms):
                return
            del self._accepted[oldest]
