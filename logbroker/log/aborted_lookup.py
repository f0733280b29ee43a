"""Which transactions were aborted in a stretch of the log: the indexes of all segments together.

What lives here: the look-up, and building an index again that is not whole. What may not: the form of an index
(``aborted``).
"""

from logbroker.log.aborted import Aborted
from logbroker.log.open_transactions import OpenTransactions
from logbroker.log.segment import Segment
from logbroker.log.segments import Segments
from logbroker.log.walk import BatchWalk
from logbroker.records.markers import is_commit


class AbortedLookup:
    """The aborted transactions of one partition."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._sealed: list[Segment] = []
        """Those sealed segments that have any."""
        self._seen_changes = -1

    def between(self, offset: int, upto: int, most: int) -> list[Aborted] | None:
        """Those that have records in ``[offset, upto)``, maybe some more, by the offsets of their markers.

        None where they are more than ``most``. ``upto`` is at most the last stable offset. Raises PartitionDamaged,
        StorageError.
        """
        found: list[Aborted] = []
        for segment in (*self._sealed_with_aborts(), self._segments.active):
            if segment.next_offset <= offset or not segment.aborted.entries:
                continue
            self.make_whole(segment)
            for one in segment.aborted.ending_at_or_after(offset):
                if one.first_offset < upto:
                    found.append(one)
                    if len(found) > most:
                        return None
                if one.last_stable_offset >= upto:
                    return found
        return found

    def _sealed_with_aborts(self) -> list[Segment]:
        if self._seen_changes != self._segments.changes:
            self._sealed = []
            for segment in self._segments:
                segment.state()
                if not segment.active and segment.aborted.entries:
                    self._sealed.append(segment)
            self._seen_changes = self._segments.changes
        return self._sealed

    def make_whole(self, segment: Segment) -> None:
        """See that the index of ``segment`` can be read and added to. Raises PartitionDamaged, StorageError."""
        if not segment.aborted.is_whole():
            segment.store_aborted(aborted_in(list(self._segments), segment))


def aborted_in(segments: list[Segment], segment: Segment) -> list[Aborted]:
    """The transactions whose abort markers stand in ``segment``, found by reading all before it in ``segments``.

    Raises PartitionDamaged, StorageError.
    """
    open_ones = OpenTransactions()
    found: list[Aborted] = []
    for one in segments:
        walk = BatchWalk(one.log.get(), 0, one.size)
        for batch in walk:
            header = batch.header
            if not header.is_transactional:
                continue
            if not header.is_control:
                open_ones.wrote(header.producer_id, header.base_offset)
                continue
            committed = is_commit(batch.buffer, batch.at)
            if committed is None:
                continue
            aborted = None if committed else open_ones.aborting(header.producer_id, header.base_offset)
            if aborted is not None and one is segment:
                found.append(aborted)
            open_ones.ended(header.producer_id, header.base_offset)
        if walk.stopped is not None:
            raise one.damaged(walk.position, one.base_offset, walk.stopped.detail)
        if one is segment:
            break
    return found
