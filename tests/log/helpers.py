"""Writing to and reading from a partition log in tests."""

from collections.abc import Sequence
from typing import Any

from logbroker.clock import ManualClock
from logbroker.config import TopicConfig
from logbroker.log.descriptors import Descriptors
from logbroker.log.files import Buffer, Files
from logbroker.log.files.memory import MemoryContent, MemoryFiles
from logbroker.log.partition import PartitionLog
from logbroker.log.reading import ColdRead
from logbroker.model import Appended, Now, ProducerStamp, Record, StoredRecord, TopicPartition
from logbroker.records.codec import decode_all, encode

WHERE = TopicPartition("orders", 0)
PATH = "topics/orders/0"
NOW = ManualClock().now()

__all__ = [
    "NOW",
    "PATH",
    "WHERE",
    "append",
    "batch",
    "copy_of",
    "filled",
    "flush",
    "open_log",
    "read_all",
    "read_bytes",
    "transactional",
    "values",
    "write_bytes",
]


def open_log(files: Files, now: Now = NOW, *, descriptors: int = 1000, **settings: Any) -> PartitionLog:
    """The log at ``PATH``, with settings of the topic."""
    return PartitionLog.open(files, PATH, WHERE, TopicConfig(**settings), now, Descriptors(descriptors))


def batch(*values: bytes | None, timestamp_ms: int = NOW.wall_ms, producer: ProducerStamp | None = None) -> bytes:
    """One batch with these values."""
    return encode([Record(value, timestamp_ms=timestamp_ms) for value in values], now_ms=timestamp_ms, producer=producer)


def transactional(*values: bytes, producer: int = 7, epoch: int = 0, sequence: int = 0) -> bytes:
    """One batch of a transaction."""
    stamp = ProducerStamp(producer, epoch, sequence)
    records = [Record(value, timestamp_ms=NOW.wall_ms) for value in values]
    return encode(records, now_ms=NOW.wall_ms, producer=stamp, transactional=True)


def append(log: PartitionLog, *values: bytes, now: Now = NOW, timestamp_ms: int | None = None) -> Appended:
    """Append the values as one batch."""
    return log.append(batch(*values, timestamp_ms=now.wall_ms if timestamp_ms is None else timestamp_ms), now)


def filled(files: Files, **settings: Any) -> PartitionLog:
    """Ten segments of one flushed record each, a minute apart, and an empty one."""
    log = open_log(files, NOW, segment_bytes=14, **settings)
    for number in range(10):
        append(log, b"%d" % number, timestamp_ms=NOW.wall_ms + number * 60_000)
        flush(log)
    return log


def flush(log: PartitionLog) -> None:
    """As the engine does it, but at once."""
    ticket = log.begin_flush()
    if ticket is not None:
        ticket.sync()
        log.finish_flush(ticket)


def read_chunk(log: PartitionLog, offset: int, max_bytes: int, upto: int) -> Buffer:
    """Read, waiting for the disk if need be."""
    chunk = log.read(offset, max_bytes, upto)
    return chunk.run() if isinstance(chunk, ColdRead) else chunk


def read_all(
    log: PartitionLog, offset: int | None = None, upto: int | None = None, max_bytes: int = 4096
) -> list[StoredRecord]:
    """All records from ``offset`` (the log start) up to ``upto`` (the end), read in steps."""
    position = log.log_start_offset if offset is None else offset
    end = log.end_offset if upto is None else upto
    records: list[StoredRecord] = []
    while chunk := read_chunk(log, position, max_bytes, end):
        found = list(decode_all(chunk, from_offset=position))
        records += found
        position = found[-1].offset + 1
    return records


def values(records: Sequence[StoredRecord]) -> list[bytes | None]:
    """Just the values."""
    return [record.value for record in records]


def read_bytes(files: Files, path: str) -> bytes:
    """A whole file."""
    file = files.open(path)
    try:
        return file.pread(file.size(), 0)
    finally:
        file.close()


def write_bytes(files: Files, path: str, data: bytes) -> None:
    """Replace a whole file in place."""
    file = files.open(path) if files.exists(path) else files.create(path)
    try:
        file.truncate(0)
        file.append([data])
    finally:
        file.close()


def copy_of(files: MemoryFiles) -> MemoryFiles:
    """The same content, apart; nobody holds a lock on it."""
    copy = MemoryFiles()
    copy.directories = set(files.directories)
    copy.contents = {path: MemoryContent(bytes(content.data)) for path, content in files.contents.items()}
    return copy
