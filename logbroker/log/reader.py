"""Reads of a partition: which segment, which way to its bytes, and from where.

What lives here: the choice between map, page cache and disk, and cursors: most readers go on where they stopped, so
the place is remembered and neither the segments nor an index are asked. What may not: checks against the bounds (the
caller's).
Invariant: a cursor is a batch boundary with its offset; it stays true for as long as its segment is there.
"""

from logbroker.log.files import Buffer
from logbroker.log.index import last_starting_at_or_before
from logbroker.log.reading import ColdRead, ReadPlan, carry_out, cut
from logbroker.log.segment import Segment
from logbroker.log.segments import Segments

_CURSORS = 256
"""How many readers' places are kept; when there are more, all start again with a look-up."""
_WORTH_A_HOP = 64 * 1024
"""From this many bytes on it is cheaper to ask the index where to cut than to walk."""


class Reader:
    """Reads batches across the segments."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._cursors: dict[int, tuple[Segment, int]] = {}
        self._boundary = (-1, 0, 0)

    def forget(self) -> None:
        """Segments were replaced: no place in them is known any more."""
        self._cursors.clear()

    def boundary(self, offset: int, segment_base: int, position: int) -> None:
        """Reads will often go up to ``offset``, which stands at ``position`` of the segment at ``segment_base``."""
        self._boundary = (offset, segment_base, position)

    def read(self, offset: int, max_bytes: int, upto: int) -> Buffer | ColdRead:
        """See ``PartitionLog.read``."""
        if offset >= upto:
            return b""
        cursor = self._cursors.get(offset)
        if cursor is not None:
            chunk = self._read_on(cursor, offset, max_bytes, upto)
            if chunk is not None:
                return chunk
        plan = self._plan(offset, max_bytes, upto)
        pread = plan.file.pread_cached
        view = plan.segment.view()
        if view is None:
            found = carry_out(plan, pread)
        else:
            end = len(view)
            found = carry_out(
                plan,
                lambda size, position: (
                    view[position : position + size] if position + size <= end else pread(size, position)
                ),
            )
        if found is None:
            return ColdRead(plan)
        self._remember(found.next_offset, plan.segment, found.next_position)
        return found.chunk

    def _read_on(self, cursor: tuple[Segment, int], offset: int, max_bytes: int, upto: int) -> Buffer | None:
        """The common case, made short: on from where a reader stopped, in bytes that are mapped, with more behind them."""
        segment, start = cursor
        view = segment.log.view
        end = start + max_bytes
        if view is None or end > len(view) or upto < segment.next_offset or max_bytes >= _WORTH_A_HOP:
            return None
        found = cut(segment, view[start:end], start, offset, upto)
        if found is None:
            return None
        self._remember(found.next_offset, segment, found.next_position)
        return found.chunk

    def _remember(self, offset: int, segment: Segment, position: int) -> None:
        if len(self._cursors) >= _CURSORS:
            self._cursors.clear()
        self._cursors[offset] = (segment, position)

    def _plan(self, offset: int, max_bytes: int, upto: int) -> ReadPlan:
        segment: Segment
        start: int | None
        cursor = self._cursors.get(offset)
        if cursor is not None and offset < cursor[0].next_offset:
            segment, start = cursor
        else:
            segment, start = self._segments.holding(offset), None
        floor = segment.floor(offset) if start is None else None
        limit, ends_at_upto = segment.size, True
        if upto < segment.next_offset:
            limit, ends_at_upto = self._limit(segment, upto)
        hop = None
        first = start if start is not None else floor.position if floor else 0
        if max_bytes >= _WORTH_A_HOP and (not ends_at_upto or limit - first > max_bytes):
            segment.ready()
            hop = last_starting_at_or_before(segment.index, first + max_bytes)
        return ReadPlan(segment.log.get(), segment, offset, max_bytes, upto, start, floor, hop, limit, ends_at_upto)

    def _limit(self, segment: Segment, upto: int) -> tuple[int, bool]:
        offset, base_offset, position = self._boundary
        if offset == upto and base_offset == segment.base_offset:
            return position, True
        return segment.size, False
