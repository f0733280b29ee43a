"""How many records stand where.

What lives here: counting in a partition whose offsets may have gaps. What may not: what follows from the count.
A segment without gaps, as nearly all are, is counted by its offsets alone; one with gaps is read, where a count ends in it.
"""

from collections.abc import Iterable

from logbroker.log.segment import Segment
from logbroker.log.segments import Segments
from logbroker.log.walk import BatchWalk
from logbroker.records.codec import decode


def last_from(segments: Segments, log_start: int, count: int) -> int:
    """Where a log of the last ``count`` records starts; ``log_start`` if it holds no more.

    Transaction markers count as records. Raises PartitionDamaged, StorageError.
    """
    surplus = records_from(segments, log_start) - count
    return _behind(segments, log_start, surplus) if surplus > 0 else log_start


def records_from(segments: Segments, offset: int) -> int:
    """How many records stand at and above ``offset``. Raises PartitionDamaged, StorageError."""
    return sum(_records_from(segment, offset) for segment in segments.starting_at_or_after(offset))


def _records_from(segment: Segment, offset: int) -> int:
    records = segment.state().records
    if offset <= segment.base_offset:
        return records
    if records == segment.next_offset - segment.base_offset:
        return max(segment.next_offset - offset, 0)
    return sum(1 for one in _offsets(segment, offset) if one >= offset)


def _behind(segments: Segments, offset: int, count: int) -> int:
    """One past the ``count``-th record at or above ``offset``. There are so many."""
    for segment in segments.starting_at_or_after(offset):
        there = _records_from(segment, offset)
        if count > there:
            count -= there
        elif segment.state().records == segment.next_offset - segment.base_offset:
            return max(offset, segment.base_offset) + count
        else:
            wanted = (one for one in _offsets(segment, offset) if one >= offset)
            return next(one for number, one in enumerate(wanted, 1) if number == count) + 1
    raise AssertionError("asked for more records than there are")


def _offsets(segment: Segment, offset: int) -> Iterable[int]:
    """The offsets of the records in a segment with gaps, from the batch that reaches up to ``offset`` on."""
    floor = segment.floor(offset)
    walk = BatchWalk(segment.log.get(), floor.position if floor else 0, segment.size)
    for _, header, buffer, at in walk:
        if header.next_offset <= offset:
            continue
        if header.record_count == header.last_offset_delta + 1:
            yield from range(header.base_offset, header.next_offset)
        elif header.record_count:
            yield from (record.offset for record in decode(buffer, at, control=True))
    if walk.stopped is not None:
        raise segment.damaged(walk.position, offset, walk.stopped.detail)
