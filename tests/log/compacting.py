"""Compacting a partition log in tests, and saying naively what must be left."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from logbroker.config import INT64_MAX
from logbroker.log.compaction.cleaner import Cleaner
from logbroker.log.files import Files
from logbroker.log.partition import PartitionLog
from logbroker.log.reading import ColdRead
from logbroker.model import Now, Record
from logbroker.records.batch import Compression, iter_headers
from logbroker.records.codec import decode, encode

Found: TypeAlias = tuple[int, bytes | None, bytes | None, int]
"""Offset, key, value and timestamp."""

SETTINGS: dict[str, Any] = {"cleanup_policy": ("compact",), "min_cleanable_dirty_ratio": 0.0, "delete_retention_ms": 1000}


def compact(files: Files, log: PartitionLog, now: Now, *, limit: int = INT64_MAX, table_bytes: int = 1 << 16) -> bool:
    """Compact all that may be, as the engine does it but at once; False if there was nothing to do."""
    planned = log.plan_compaction(now, limit)
    if planned is None:
        return False
    end = planned.sources[-1].next_offset
    while planned is not None:
        cleaner = Cleaner(files, log.compaction_job(planned, now, table_bytes, INT64_MAX))
        for _ in cleaner.run():
            pass
        swap = log.begin_swap(cleaner.result.outputs)
        swap.commit()
        for output in swap.outputs:
            log.swap_in(output)
        log.finish_swap(cleaner.result.cleaned_to)
        planned = log.plan_compaction(now, limit) if cleaner.result.cleaned_to < end else None
    return True


def keyed(*records: tuple[bytes, bytes | None], timestamp_ms: int, compression: Compression = Compression.NONE) -> bytes:
    """One batch."""
    made = [Record(value, key=key, timestamp_ms=timestamp_ms) for key, value in records]
    return encode(made, now_ms=timestamp_ms, compression=compression)


def chunks(log: PartitionLog, offset: int | None = None, max_bytes: int = 1 << 20) -> Iterator[Any]:
    """The batches of the whole log, read in steps from ``offset``."""
    position = log.log_start_offset if offset is None else offset
    while position < log.end_offset:
        read = log.read(position, max_bytes, log.end_offset)
        chunk = read.run() if isinstance(read, ColdRead) else read
        yield chunk
        position = [header for _, header in iter_headers(chunk)][-1].next_offset


def everything(
    log: PartitionLog, offset: int | None = None, max_bytes: int = 1 << 20
) -> list[tuple[int, bytes | None, bytes | None, int]]:
    """Offset, key, value and timestamp of all records but markers."""
    return [
        (record.offset, record.key, record.value, record.timestamp_ms)
        for chunk in chunks(log, offset, max_bytes)
        for position, header in iter_headers(chunk)
        if header.record_count
        for record in decode(chunk, position)
        if offset is None or record.offset >= offset
    ]


@dataclass
class NaiveBatch:
    """A batch as the naive model sees it."""

    records: dict[int, tuple[bytes, bytes | None, int]]
    """Key, value and timestamp by offset."""
    horizon_ms: int | None = None


@dataclass
class NaiveLog:
    """What a compacted log must hold, in the plainest way."""

    batches: list[NaiveBatch] = field(default_factory=list)

    def append(self, base_offset: int, records: list[tuple[bytes, bytes | None]], timestamp_ms: int) -> None:
        stored = {base_offset + number: (key, value, timestamp_ms) for number, (key, value) in enumerate(records)}
        self.batches.append(NaiveBatch(stored))

    def compact(self, end: int, now_ms: int, delete_retention_ms: int) -> None:
        """All below ``end`` is compacted at once."""
        last: dict[bytes, int] = {}
        for batch in self.batches:
            last.update({key: offset for offset, (key, _, _) in batch.records.items() if offset < end})
        for batch in self.batches:
            if min(batch.records, default=end) >= end:
                continue
            over = batch.horizon_ms is not None and batch.horizon_ms <= now_ms
            batch.records = {
                offset: (key, value, stamp)
                for offset, (key, value, stamp) in batch.records.items()
                if last[key] == offset and (value is not None or not over)
            }
            if batch.horizon_ms is None and any(value is None for _, value, _ in batch.records.values()):
                batch.horizon_ms = now_ms + delete_retention_ms

    def everything(self) -> list[Found]:
        return [
            (offset, key, value, stamp) for batch in self.batches for offset, (key, value, stamp) in batch.records.items()
        ]
