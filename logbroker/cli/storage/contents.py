"""What is inside the files of a segment, as rows to print.

What lives here: batches, records, index entries and findings as plain values. What may not: finding files, options, judging
damage (``log.verify``); where a walk stops, it says so and leaves it at that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from logbroker.cli.payloads import to_wire
from logbroker.cli.storage.places import PartitionPlace, SegmentPlace
from logbroker.log.files.disk import DiskFiles
from logbroker.log.index import OFFSET_ENTRY, TIME_ENTRY
from logbroker.log.names import INDEX, LOG, TIME_INDEX, file_name
from logbroker.log.verify import Progress, verify_partition, verify_segment
from logbroker.log.walk import Batch, BatchWalk
from logbroker.model import StoredRecord
from logbroker.records.codec import decode

Row = dict[str, Any]


@dataclass(slots=True)
class Walk:
    """The batches of one segment; after iterating, ``stopped`` says why and where it ended early, or is None."""

    place: SegmentPlace
    stopped: str | None = None

    def __iter__(self) -> Iterator[Batch]:
        files = self.place.files
        file = files.open(file_name(self.place.base_offset, LOG))
        try:
            walk = BatchWalk(file, 0, file.size())
            yield from walk
            if walk.stopped is not None:
                self.stopped = f"{self.place.path()} holds no further whole batch from byte {walk.position}: {walk.stopped}"
        finally:
            file.close()


def batch_row(place: SegmentPlace, batch: Batch) -> Row:
    """A batch by its header; its CRC has been checked by the walk."""
    header = batch.header
    return {
        "partition": place.label,
        "position": batch.position,
        "base_offset": header.base_offset,
        "last_offset": header.last_offset,
        "records": header.record_count,
        "bytes": header.size,
        "compression": header.compression.kafka_name,
        "timestamp_type": "append" if header.is_append_time else "create",
        "base_timestamp_ms": header.base_timestamp,
        "max_timestamp_ms": header.max_timestamp,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "transactional": header.is_transactional,
        "control": header.is_control,
        "leader_epoch": header.leader_epoch,
        "crc": f"{header.crc:08x}",
    }


def record_rows(place: SegmentPlace, batch: Batch, *, with_data: bool) -> Iterator[Row]:
    """The records of a batch. Raises CorruptMessage."""
    for record in decode(batch.buffer, batch.at, control=True):
        yield {"partition": place.label, **_record(record, with_data=with_data)}


def _record(record: StoredRecord, *, with_data: bool) -> Row:
    row: Row = {
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key_bytes": None if record.key is None else len(record.key),
        "value_bytes": None if record.value is None else len(record.value),
        "headers": len(record.headers),
    }
    if with_data:
        row["headers"] = [[name, *to_wire("value", value).values()] for name, value in record.headers]
        row |= {**to_wire("key", record.key), **to_wire("value", record.value)}
    return row


def index_rows(place: SegmentPlace) -> Iterator[Row]:
    """The entries of both indexes, with offsets made absolute; the zeros an index is extended by are left out."""
    path = place.path(INDEX)
    data = path.read_bytes() if path.exists() else b""
    for relative, position in OFFSET_ENTRY.iter_unpack(data[: len(data) // OFFSET_ENTRY.size * OFFSET_ENTRY.size]):
        if position == 0:
            break
        yield {"partition": place.label, "file": path.name, "offset": place.base_offset + relative, "position": position}
    path = place.path(TIME_INDEX)
    data = path.read_bytes() if path.exists() else b""
    for timestamp, relative in TIME_ENTRY.iter_unpack(data[: len(data) // TIME_ENTRY.size * TIME_ENTRY.size]):
        if timestamp == 0 and relative == 0:
            break
        yield {
            "partition": place.label,
            "file": path.name,
            "timestamp_ms": timestamp,
            "offset": place.base_offset + relative,
        }


def finding_rows(place: PartitionPlace, progress: Progress) -> Iterator[Row]:
    """What is wrong with a partition, or with the one segment it is narrowed down to. Raises StorageError."""
    files = DiskFiles(place.directory)
    if place.base_offset is None:
        findings = verify_partition(files, "", progress)
    else:
        following = min((base for base in place.base_offsets() if base > place.base_offset), default=None)
        findings = iter(verify_segment(files, "", place.base_offset, following, progress))
    for finding in findings:
        yield {"partition": place.label, **finding._asdict(), "file": str(place.directory / finding.file)}
