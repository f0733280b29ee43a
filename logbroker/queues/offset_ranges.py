"""A set of finished offsets: a frontier, and disjoint ranges above it.

What lives here: the set and its arithmetic. What may not: what an offset means.
Invariant: the frontier is the lowest offset that is not in the set; every range starts above it, none touches another.
Cost: one step for the usual case (the frontier itself is finished), else the logarithm of the number of ranges.
"""

from collections.abc import Iterator

from sortedcontainers import SortedDict


class OffsetRanges:
    """Finished offsets of one log."""

    __slots__ = ("_above", "_ends", "_frontier")

    def __init__(self, frontier: int = 0) -> None:
        self._frontier = frontier
        self._ends: SortedDict[int, int] = SortedDict()  # start -> end of each range above the frontier
        self._above = 0

    @property
    def frontier(self) -> int:
        """The lowest offset that is not finished."""
        return self._frontier

    @property
    def last_end(self) -> int:
        """One past the highest offset in the set."""
        last: int = self._ends.peekitem()[1] if self._ends else self._frontier
        return last

    @property
    def above(self) -> int:
        """How many offsets above the frontier are finished."""
        return self._above

    def __contains__(self, offset: int) -> bool:
        if offset < self._frontier:
            return True
        at = self._ends.bisect_right(offset) - 1
        return at >= 0 and offset < self._ends.peekitem(at)[1]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges above the frontier, as (start, end), ascending."""
        return iter(self._ends.items())

    def __len__(self) -> int:
        """The number of ranges above the frontier."""
        return len(self._ends)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OffsetRanges) and (self._frontier, self._ends) == (other._frontier, other._ends)

    __hash__ = None  # type: ignore[assignment]  # a set that changes is no key

    def open_below(self, end: int) -> int:
        """How many offsets below ``end`` are not finished; ``end`` is at or above everything finished."""
        return max(0, end - self._frontier) - self._above

    def open_runs(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The runs of unfinished offsets within [start, end), ascending."""
        start = max(start, self._frontier)
        at = self._ends.bisect_right(start) - 1
        for low in self._ends.irange(self._ends.peekitem(at)[0] if at >= 0 else None, end, (True, False)):
            if start < low:
                yield start, low
            start = max(start, self._ends[low])
        if start < end:
            yield start, end

    def add(self, start: int, end: int) -> None:
        """Finish [start, end)."""
        if start <= self._frontier:
            self._frontier = max(self._frontier, end)
            self._absorb()
        elif start < end:
            self._insert(start, end)

    def _absorb(self) -> None:
        while self._ends and self._ends.peekitem(0)[0] <= self._frontier:
            low, high = self._ends.popitem(0)
            self._above -= high - low
            self._frontier = max(self._frontier, high)

    def _insert(self, start: int, end: int) -> None:
        at = self._ends.bisect_right(start) - 1
        if at >= 0 and self._ends.peekitem(at)[1] >= start:
            start, end = self._take(at, start, end)
        at = self._ends.bisect_left(start)
        while at < len(self._ends) and self._ends.peekitem(at)[0] <= end:
            start, end = self._take(at, start, end)
        self._ends[start] = end
        self._above += end - start

    def _take(self, at: int, start: int, end: int) -> tuple[int, int]:
        low, high = self._ends.popitem(at)
        self._above -= high - low
        return min(low, start), max(high, end)
