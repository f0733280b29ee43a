"""Reading whole batches of one segment.

What lives here: what one read needs to know (``ReadPlan``), which is fixed on the log's thread, and carrying it out with
any way to get at the bytes: a map, the page cache, or, in some other thread, the disk (``ColdRead``). What may not: which
segment to read, who holds what open. Invariants: a plan touches nothing but its file, so it may run anywhere while the
log goes on; the bytes returned start and end at batch boundaries, begin with the batch of ``offset`` (where it is gone,
with the one behind it) and hold nothing at or past ``upto``. A place taken from an index is believed only when the header
there says the same; otherwise the segment is walked from its start and told that its index lies.
"""

from typing import NamedTuple

from logbroker.errors import CorruptMessage
from logbroker.log.files import Buffer, File
from logbroker.log.index import IndexEntry
from logbroker.log.segment import Segment
from logbroker.log.walk import SPAN, ReadAt, spans
from logbroker.records.batch import HEADER_SIZE, LOG_OVERHEAD


class ReadPlan(NamedTuple):
    """One read of one segment."""

    file: File
    segment: Segment
    offset: int
    max_bytes: int
    upto: int
    start: int | None
    """Where the batch of ``offset`` starts, if that is certain."""
    floor: IndexEntry | None
    """Else the index entry at or before it."""
    hop: IndexEntry | None
    """The last index entry among the bytes to read, from where to look for the place to cut."""
    limit: int
    """Where the readable bytes end."""
    ends_at_upto: bool
    """Whether ``limit`` is the end of the last batch below ``upto``; else it may lie further on."""


class Found(NamedTuple):
    """The batches read, and where the next read goes on."""

    chunk: Buffer
    next_offset: int
    next_position: int


def carry_out(plan: ReadPlan, read: ReadAt) -> Found | None:
    """What the plan asks for, or None where ``read`` would wait for the disk. Raises PartitionDamaged, StorageError."""
    position = plan.start if plan.start is not None else _locate(plan, plan.floor, read)
    if position is None:
        return None
    available = plan.limit - position
    wanted = min(available, max(plan.max_bytes, HEADER_SIZE))
    chunk = _read_all(plan, read, wanted, position)
    if chunk is None:
        return None
    if wanted == available and plan.ends_at_upto:
        return Found(chunk, min(plan.upto, plan.segment.next_offset), plan.limit)
    found = cut(plan.segment, chunk, position, plan.offset, plan.upto, plan.hop)
    if found is not None:
        return found
    return _first_batch(plan, chunk, position, read)


def _read_all(plan: ReadPlan, read: ReadAt, size: int, position: int) -> Buffer | None:
    chunk = read(size, position)
    if chunk is not None and len(chunk) < size:
        raise plan.segment.damaged(position + len(chunk), plan.offset, "the file is shorter than it was")
    return chunk


def _locate(plan: ReadPlan, floor: IndexEntry | None, read: ReadAt) -> int | None:
    """Where the batch that holds the offset starts."""
    segment = plan.segment
    start = floor.position if floor else 0
    try:
        for span in spans(read, start, plan.limit):
            if span is None:
                return None
            if floor and span.position == start and span.next_offset != segment.base_offset + floor.relative_offset + 1:
                break
            if plan.offset < span.next_offset and (span.base_offset <= plan.offset or segment.has_gaps):
                return span.position
            if span.base_offset > plan.offset:
                raise segment.damaged(
                    span.position, plan.offset, f"what stands there starts with offset {span.base_offset}"
                )
        else:
            raise segment.damaged(plan.limit, plan.offset, "the file ends before them")
    except CorruptMessage as error:
        if floor is None:
            raise segment.damaged(error.fields["position"], plan.offset, error.detail) from error
    segment.index_lies = True
    return _locate(plan, None, read)


def cut(
    segment: Segment, chunk: Buffer, position: int, offset: int, upto: int, hop: IndexEntry | None = None
) -> Found | None:
    """The whole batches below ``upto`` at the head of ``chunk``, which lies at ``position``; None if there is none.

    The first holds ``offset``. Raises PartitionDamaged.
    """
    at, next_offset, length = 0, offset, len(chunk)
    if hop is not None:
        at, next_offset = _hop(segment, hop, chunk, position, offset, upto)
    unpack = SPAN.unpack_from
    while at + SPAN.size <= length:
        base_offset, batch_length, delta, _ = unpack(chunk, at)
        follows = base_offset == next_offset or (segment.has_gaps and base_offset > next_offset)
        if (at and not follows) or batch_length <= 0 or delta < 0:
            raise segment.damaged(position + at, next_offset, "no batch with the next offset starts there")
        end = at + batch_length + LOG_OVERHEAD
        if end > length or base_offset >= upto:
            break
        at, next_offset = end, base_offset + delta + 1
    if not at:
        return None
    return Found(chunk if at == length else memoryview(chunk)[:at], next_offset, position + at)


def _hop(segment: Segment, entry: IndexEntry, chunk: Buffer, position: int, offset: int, upto: int) -> tuple[int, int]:
    """Where in ``chunk`` to start walking, and the offset that stands there."""
    at = entry.position - position
    last_offset = segment.base_offset + entry.relative_offset
    if 0 < at <= len(chunk) - SPAN.size and last_offset < upto:
        base_offset, _, delta, _ = SPAN.unpack_from(chunk, at)
        if base_offset + delta == last_offset:
            return at, base_offset
        segment.index_lies = True
    return 0, offset


def _first_batch(plan: ReadPlan, chunk: Buffer, position: int, read: ReadAt) -> Found | None:
    """The batch at ``position``, which is larger than was asked for; a reader must get past it."""
    _, batch_length, delta, _ = SPAN.unpack_from(chunk, 0)
    size = batch_length + LOG_OVERHEAD
    if size < HEADER_SIZE or size > plan.limit - position or delta < 0:
        raise plan.segment.damaged(position, plan.offset, "no batch starts there")
    whole = _read_all(plan, read, size, position)
    return None if whole is None else Found(whole, SPAN.unpack_from(chunk, 0)[0] + delta + 1, position + size)


class ColdRead:
    """A read that has to wait for the disk: call ``run`` in a thread that may."""

    def __init__(self, plan: ReadPlan) -> None:
        self._plan = plan

    def run(self) -> Buffer:
        """The batches. Raises PartitionDamaged, StorageError."""
        found = carry_out(self._plan, self._plan.file.pread)
        assert found is not None, "pread always answers"
        return found.chunk
