"""Reading the records of a partition from its files, without opening (and so repairing) its log.

What lives here: bounds, and records from an offset on. What may not: what the records mean. Nothing is changed.
An index is only a hint where to start: where no batch starts there, the segment is read from its beginning. The end is
that of the last whole batch, which is where a recovery would cut; a segment that others follow must be whole.
"""

from collections.abc import Iterator

from logbroker.cli.storage.places import PartitionPlace, SegmentPlace
from logbroker.errors import PartitionDamaged
from logbroker.log.checkpoint import Checkpoint
from logbroker.log.descriptors import Descriptors, OpenFile
from logbroker.log.files.disk import DiskFiles
from logbroker.log.index import OFFSET_ENTRY
from logbroker.log.names import CHECKPOINT, INDEX, LOG, file_name
from logbroker.log.walk import Batch, BatchWalk
from logbroker.model import Bounds, StoredRecord
from logbroker.records.codec import decode


def bounds_of(place: PartitionPlace) -> Bounds:
    """Where the partition starts and ends. Raises PartitionDamaged for a checkpoint of a newer logbroker."""
    segments = place.segments()
    start = _stored_start(place)
    if not segments:
        return Bounds(start, start, start)
    last = segments[-1]
    end = last.base_offset
    for batch in _batches(last, _hint(last, None)):
        end = batch.header.last_offset + 1
    start = max(start, segments[0].base_offset)
    return Bounds(start, max(end, start), max(end, start))


def records_from(place: PartitionPlace, offset: int) -> Iterator[StoredRecord]:
    """The records at and after ``offset``, control records left out. Raises PartitionDamaged, CorruptMessage."""
    segments = place.segments()
    for number, segment in enumerate(segments):
        is_last = number == len(segments) - 1
        if not is_last and segments[number + 1].base_offset <= offset:
            continue
        for batch in _batches(segment, _hint(segment, offset), must_be_whole=not is_last):
            if batch.header.last_offset >= offset:
                yield from (one for one in decode(batch.buffer, batch.at) if one.offset >= offset)


def _stored_start(place: PartitionPlace) -> int:
    files = DiskFiles(place.directory)
    file = OpenFile(files, CHECKPOINT, Descriptors(1))
    stored = Checkpoint(files, file).load()
    file.let_go()
    return stored.log_start_offset if stored is not None else 0


def _batches(segment: SegmentPlace, position: int, *, must_be_whole: bool = False) -> Iterator[Batch]:
    file = segment.files.open(file_name(segment.base_offset, LOG))
    try:
        walk = BatchWalk(file, position, file.size())
        found = False
        for batch in walk:
            found = True
            yield batch
        if not found and position > 0:
            walk = BatchWalk(file, 0, file.size())
            yield from walk
        if walk.stopped is not None and must_be_whole:
            raise PartitionDamaged(f"{segment.path()} is damaged at byte {walk.position}: {walk.stopped}")
    finally:
        file.close()


def _hint(segment: SegmentPlace, offset: int | None) -> int:
    """The position of a batch at or before ``offset``; of the last one the index knows, for None."""
    path = segment.path(INDEX)
    data = path.read_bytes() if path.exists() else b""
    position = 0
    for relative, at in OFFSET_ENTRY.iter_unpack(data[: len(data) // OFFSET_ENTRY.size * OFFSET_ENTRY.size]):
        past = offset is not None and segment.base_offset + relative >= offset
        if at <= position or past:
            break
        position = at
    return position
