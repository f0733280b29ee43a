"""Finding records by time.

What lives here: which segment, which batch, which record has a timestamp. What may not: how indexes are kept.
Timestamps come in any order. A segment can hold one that is late enough only if its largest is; the largest timestamps so
far, segment by segment, ascend, so the first candidate is found by bisection. Inside a segment the time index says in which
stretch of the log the timestamp is first reached; that stretch is walked by headers and one batch decoded.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate, islice

from logbroker.errors import CorruptMessage
from logbroker.log.index import first_reaching
from logbroker.log.segment import Segment
from logbroker.log.segments import Segments
from logbroker.log.walk import Span, spans
from logbroker.model import NO_TIMESTAMP, OffsetAndTimestamp, StoredRecord
from logbroker.records.codec import decode


class Times:
    """Look-up by time in a partition."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._peaks: list[int] = []
        self._peaks_of = -1

    def first_at(self, timestamp_ms: int, low: int, upto: int) -> OffsetAndTimestamp | None:
        """The first record in ``[low, upto)`` whose timestamp is not before ``timestamp_ms``.

        Raises PartitionDamaged, StorageError.
        """
        for number in range(self._first_candidate(timestamp_ms), len(self._segments)):
            segment = self._segments.at(number)
            if segment.base_offset >= upto:
                return None
            found = _first_in_segment(segment, timestamp_ms, low, upto)
            if found is not None:
                return found
        return None

    def largest(self, low: int, upto: int) -> OffsetAndTimestamp | None:
        """The record in ``[low, upto)`` with the largest timestamp, the first of equals; None if none has a timestamp."""
        best: OffsetAndTimestamp | None = None
        for segment in self._segments.starting_at_or_after(low):
            if segment.base_offset >= upto:
                break
            least = best.timestamp_ms if best is not None else NO_TIMESTAMP
            if segment.state().max_timestamp_ms > least:
                found = _largest_in_segment(segment, low, upto)
                if found is not None and found.timestamp_ms > least:
                    best = found
        return best

    def _first_candidate(self, timestamp_ms: int) -> int:
        """The number of the first segment with so late a record, or that of the active one."""
        if self._peaks_of != self._segments.changes:
            sealed = [segment.state().max_timestamp_ms for segment in self._segments if not segment.active]
            self._peaks = list(accumulate(sealed, max))
            self._peaks_of = self._segments.changes
        return bisect_left(self._peaks, timestamp_ms)


def _first_in_segment(segment: Segment, timestamp_ms: int, low: int, upto: int) -> OffsetAndTimestamp | None:
    state = segment.state()
    if state.max_timestamp_ms < timestamp_ms:
        return None
    segment.ready()
    reached = first_reaching(segment.times, timestamp_ms)
    relative = reached.relative_offset if reached is not None else state.max_timestamp_offset - segment.base_offset
    for span in _spans_from(segment, max(segment.base_offset + relative - 1, low)):
        if span.base_offset >= upto:
            return None
        if span.max_timestamp_ms >= timestamp_ms and span.next_offset > low:
            found = _first_in_batch(segment, span, timestamp_ms, low)
            if found is not None:
                return found
    return None


def _largest_in_segment(segment: Segment, low: int, upto: int) -> OffsetAndTimestamp | None:
    state = segment.state()
    in_range: Iterable[Span]
    if low <= segment.base_offset and segment.next_offset <= upto:
        latest_offset = state.max_timestamp_offset
        in_range = islice((span for span in _spans_from(segment, latest_offset) if span.next_offset > latest_offset), 1)
    else:
        in_range = (span for span in _spans_from(segment, low) if low < span.next_offset <= upto)
    best: OffsetAndTimestamp | None = None
    for span in in_range:
        if best is None or span.max_timestamp_ms > best.timestamp_ms:
            # Of a batch that begins below the log start, the latest record may be one that is gone.
            latest = span.max_timestamp_ms if span.base_offset >= low else _latest_in_batch(segment, span, low)
            found = _first_in_batch(segment, span, latest, low)
            if found is not None and (best is None or found.timestamp_ms > best.timestamp_ms):
                best = found
    return best


def _spans_from(segment: Segment, offset: int) -> Iterator[Span]:
    """The batches of the segment from one at or before that of ``offset`` on."""
    floor = segment.floor(offset)
    try:
        for span in spans(segment.log.get().pread, floor.position if floor else 0, segment.size):
            assert span is not None, "pread always answers"
            yield span
    except CorruptMessage as error:
        raise segment.damaged(error.fields["position"], offset, error.detail) from error


def _batch(segment: Segment, span: Span) -> list[StoredRecord]:
    try:
        return decode(segment.log.get().pread(span.size, span.position))
    except CorruptMessage as error:
        raise segment.damaged(span.position, span.base_offset, error.detail) from error


def _first_in_batch(segment: Segment, span: Span, timestamp_ms: int, low: int) -> OffsetAndTimestamp | None:
    for record in _batch(segment, span):
        if record.timestamp_ms >= timestamp_ms and record.offset >= low:
            return OffsetAndTimestamp(record.offset, record.timestamp_ms)
    return None


def _latest_in_batch(segment: Segment, span: Span, low: int) -> int:
    return max((record.timestamp_ms for record in _batch(segment, span) if record.offset >= low), default=NO_TIMESTAMP)
