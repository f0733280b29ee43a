"""How the transactions of a stretch of the log ended.

What lives here: the outcome of each, from its marker. What may not: reading; indexes of aborted transactions. Invariant:
the first marker of a producer at or behind a batch decides that batch; all below the last stable offset is decided.
"""

from bisect import bisect_left


class Outcomes:
    """The markers of a stretch."""

    def __init__(self) -> None:
        self._markers: dict[int, list[int]] = {}
        self._aborted: dict[int, list[bool]] = {}

    def ended(self, producer_id: int, offset: int, *, aborted: bool) -> None:
        """A marker stands at ``offset``; told in the order of the log."""
        self._markers.setdefault(producer_id, []).append(offset)
        self._aborted.setdefault(producer_id, []).append(aborted)

    def is_aborted(self, producer_id: int, offset: int) -> bool:
        """Whether what the producer wrote at ``offset`` in a transaction was taken back."""
        markers = self._markers.get(producer_id, [])
        at = bisect_left(markers, offset)
        return at < len(markers) and self._aborted[producer_id][at]
