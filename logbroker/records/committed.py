"""Which batches a committed reader drops, as Kafka's own consumer decides it (KIP-98).

What lives here: telling batches of aborted transactions from the others, given the list that comes with a read. What may
not: where the list comes from.
Invariant: a producer has one transaction after the other, so its next marker ends the one that was aborted.
"""

from collections.abc import Iterable

from logbroker.records.batch import BatchHeader


class AbortedBatches:
    """Tells batches of aborted transactions; it is shown all batches in the order of the log, markers too."""

    def __init__(self, aborted: Iterable[tuple[int, int]]) -> None:
        """``aborted``: producer id and first offset of each transaction."""
        self._to_come = sorted(aborted, key=lambda one: one[1], reverse=True)
        self._open: set[int] = set()

    def drops(self, header: BatchHeader) -> bool:
        """Whether the next batch is to be dropped. A marker is not."""
        while self._to_come and self._to_come[-1][1] <= header.last_offset:
            self._open.add(self._to_come.pop()[0])
        if header.is_control:
            self._open.discard(header.producer_id)
            return False
        return header.is_transactional and header.producer_id in self._open
