"""Looking into one segment of a running broker: its batches and what its indexes say of them.

What lives here: one page of a segment as values. What may not: judging damage (``log.verify``), records.
Invariant: everything is read from the files with ``pread``, in a thread of the caller's; nothing is opened for longer.
"""

from collections.abc import Iterator
from struct import Struct

from logbroker.engine.api import BatchFacts, IndexEntries, SegmentPage
from logbroker.log.files import File, Files
from logbroker.log.index import OFFSET_ENTRY, TIME_ENTRY
from logbroker.log.names import INDEX, LOG, TIME_INDEX, file_name
from logbroker.log.walk import BatchWalk
from logbroker.model import SegmentInfo


def page_of_segment(files: Files, directory: str, segment: SegmentInfo, position: int, limit: int) -> SegmentPage:
    """Up to ``limit`` batches from ``position`` on, where a batch must start, and the index entries about them.

    Raises StorageError.
    """
    log = files.open(f"{directory}/{file_name(segment.base_offset, LOG)}")
    try:
        end = min(segment.size_bytes, log.size())
        walk = BatchWalk(log, position, end)
        batches: list[BatchFacts] = []
        for batch in walk:
            header = batch.header
            batches.append(
                BatchFacts(
                    batch.position,
                    header.base_offset,
                    header.last_offset,
                    header.record_count,
                    header.size,
                    header.compression.kafka_name,
                    header.max_timestamp,
                    header.producer_id,
                    header.is_transactional,
                    header.is_control,
                    f"{header.crc:08x}",
                )
            )
            if len(batches) >= limit:
                break
        stop = walk.position
        bad = None if walk.stopped is None else walk.stopped.detail
    finally:
        log.close()
    base = segment.base_offset
    first, last = (batches[0].base_offset, batches[-1].last_offset) if batches else (base, base - 1)
    offsets = [
        (base + relative, at)
        for relative, at in _entries(files, directory, base, INDEX, OFFSET_ENTRY)
        if position <= at < stop
    ]
    times = [
        (at_ms, base + relative)
        for at_ms, relative in _entries(files, directory, base, TIME_INDEX, TIME_ENTRY)
        if first <= base + relative <= last
    ]
    return SegmentPage(batches, IndexEntries(offsets, times), stop if stop < end else None, bad)


def _entries(files: Files, directory: str, base_offset: int, kind: str, entry: Struct) -> Iterator[tuple[int, int]]:
    path = f"{directory}/{file_name(base_offset, kind)}"
    if not files.exists(path):
        return
    file = files.open(path)
    try:
        data = _whole(file)
    finally:
        file.close()
    for first, second in entry.iter_unpack(data[: len(data) - len(data) % entry.size]):
        if first or second:
            yield first, second


def _whole(file: File) -> bytes:
    return file.pread(file.size(), 0)
