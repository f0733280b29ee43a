"""Which transactions of a partition are not decided yet, and so how far a committed reader may go (KIP-98).

What lives here: the first offsets of open transactions, and of those whose marker a crash could still take back. What may
not: producers' epochs and sequences (``producers``), I/O.
Invariant: transactions are told in the order of the log, so the oldest one comes first.
"""

from collections import deque
from collections.abc import Mapping
from operator import itemgetter

from logbroker.log.aborted import Aborted


class OpenTransactions:
    """The transactions of one partition that are open at the end of the log."""

    def __init__(self, first_offsets: Mapping[int, int] | None = None) -> None:
        self._first = dict(sorted((first_offsets or {}).items(), key=itemgetter(1)))
        self._ending: deque[tuple[int, int]] = deque()
        """First offset and marker of those ended lately, ascending by marker."""

    def __len__(self) -> int:
        return len(self._first)

    def first_offset(self, producer_id: int) -> int | None:
        """Where the open transaction of a producer begins; None if it has none."""
        return self._first.get(producer_id)

    def first_undecided(self, high_watermark: int) -> int | None:
        """The first offset of the oldest transaction without a marker below ``high_watermark``, which never falls."""
        ending = self._ending
        while ending and ending[0][1] < high_watermark:
            ending.popleft()
        oldest = next(iter(self._first.values()), None)
        if not ending:
            return oldest
        first = min(ending)[0]
        return first if oldest is None else min(first, oldest)

    def wrote(self, producer_id: int, base_offset: int) -> None:
        """A producer began its transaction at ``base_offset``, or appended to it."""
        self._first.setdefault(producer_id, base_offset)

    def aborting(self, producer_id: int, marker_offset: int) -> Aborted | None:
        """How its transaction is indexed if an abort marker is put at ``marker_offset``; None if none is open."""
        first = self._first.get(producer_id)
        if first is None:
            return None
        oldest = next((offset for other, offset in self._first.items() if other != producer_id), marker_offset + 1)
        return Aborted(producer_id, first, marker_offset, oldest)

    def ended(self, producer_id: int, marker_offset: int) -> None:
        """A marker stands at ``marker_offset``."""
        first = self._first.pop(producer_id, None)
        if first is not None:
            self._ending.append((first, marker_offset))
