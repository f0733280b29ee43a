"""Looking for damage in the files of a partition that no broker has open, or in those of sealed segments.

What lives here: reading everything once, front to back, with ``pread`` (a bad sector under a map would kill the
process), and saying what is wrong with it. What may not: changing anything.

Every changed byte of a sealed segment's log is found: from the attributes of a batch on by its CRC, in front of that by the
header chain in the digest, and where there is no digest (Kafka writes none) by the shape of the header, offsets that do not
follow, and a leader epoch that falls. Offsets may be missing only where the digest counts fewer records than offsets.
"""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import NamedTuple, TypeAlias

from crc32c import crc32c

from logbroker.errors import PartitionDamaged
from logbroker.log.aborted import ENTRY as ABORTED_ENTRY
from logbroker.log.aborted import UNKNOWN
from logbroker.log.files import File, Files
from logbroker.log.index import OFFSET_ENTRY, TIME_ENTRY
from logbroker.log.names import ABORTED_INDEX, DIGEST, INDEX, LOG, TIME_INDEX, file_name, sort_out
from logbroker.log.state import COVERED, SegmentState, decode_digest
from logbroker.log.torn import next_batch
from logbroker.log.walk import Batch, BatchWalk

DAMAGE = "damage"
"""Records are lost or changed."""
DERIVED = "derived"
"""A file that can be built again from the log is wrong; the broker does that by itself when it next needs the file."""
NOTE = "note"
"""Worth knowing, nothing is wrong."""

Progress: TypeAlias = Callable[[int], None]
"""Told how many more bytes have been looked at."""


class Finding(NamedTuple):
    """Something about a segment that is not as it should be."""

    severity: str
    file: str
    message: str
    position: int | None = None
    first_offset: int | None = None
    last_offset: int | None = None


def verify_partition(files: Files, directory: str, progress: Progress = lambda _: None) -> Iterator[Finding]:
    """What is wrong with the segments in ``directory`` (relative to the root of ``files``), in the order of the log."""
    listing = sort_out(files.listdir(directory))
    for base_offset, following in zip(listing.logs, [*listing.logs[1:], None], strict=True):
        yield from verify_segment(files, directory, base_offset, following, progress)
    for kind, offsets in listing.kinds.items():
        for offset in (
            sorted(set(offsets).difference(listing.logs)) if kind in (INDEX, TIME_INDEX, DIGEST, ABORTED_INDEX) else ()
        ):
            name = file_name(offset, kind)
            yield Finding(DAMAGE, name, f"there is no {file_name(offset, LOG)} beside it", first_offset=offset)


def verify_segment(
    files: Files, directory: str, base_offset: int, following: int | None, progress: Progress = lambda _: None
) -> list[Finding]:
    """What is wrong with a segment. ``following`` is where the next one starts, None for the last. Raises StorageError."""
    verifier = _SegmentVerifier(files, directory, base_offset, following)
    verifier.run(progress)
    return verifier.findings


class _SegmentVerifier:
    def __init__(self, files: Files, directory: str, base_offset: int, following: int | None) -> None:
        self.findings: list[Finding] = []
        self._files = files
        self._directory = directory
        self._base = base_offset
        self._following = following
        self._log_name = file_name(base_offset, LOG)
        self._counted = SegmentState(base_offset, base_offset, 0, 0)
        self._epoch: int | None = None
        self._has_gaps = self._digest_has_gaps()
        """Whether it was compacted: then a wrong base offset shows by the header chain alone."""
        self._index = self._read(INDEX)
        self._times = self._read(TIME_INDEX)
        self._index_entry = _entries(self._index, OFFSET_ENTRY)
        self._time_entry = _entries(self._times, TIME_ENTRY)
        self._next_index = next(self._index_entry, None)
        self._next_time = next(self._time_entry, None)

    def run(self, progress: Progress) -> None:
        """Look at everything."""
        log = self._files.open(self._path(self._log_name))
        try:
            self._walk(log, progress)
        finally:
            log.close()
        counted = self._counted
        if self._following is not None and counted.next_offset != self._following:
            why = f"it ends with offset {counted.next_offset - 1}, the next segment starts with {self._following}"
            self._found(DAMAGE, self._log_name, why, counted.size, counted.next_offset, self._following - 1)
        self._check_left_over_entries()
        self._check_digest(log_size=counted.size)

    # -- the log -----------------------------------------------------------------------------------------------------

    def _walk(self, log: File, progress: Progress) -> None:
        end = log.size()
        position = 0
        while position < end:
            walk = BatchWalk(log, position, end)
            for batch in walk:
                self._batch(batch)
                progress(batch.header.size)
            if walk.stopped is None:
                break
            position = self._skip(log, walk, end)
            progress(position - walk.position)
        self._counted = self._counted._replace(size=end)

    def _skip(self, log: File, walk: BatchWalk, end: int) -> int:
        """Report a stretch without a batch; returns where the next one starts."""
        assert walk.stopped is not None, "only called where a walk stopped"
        rest = memoryview(log.pread(end - walk.position, walk.position))
        expected = self._counted.next_offset
        at = next_batch(rest, 0, expected)
        position = end if at is None else walk.position + at
        last = int.from_bytes(rest[at : at + 8], "big") - 1 if at is not None else (self._following or 0) - 1
        known_last = None if at is None and self._following is None else last
        tail = " (a tail that was never flushed looks like this too)" if at is None and self._following is None else ""
        why = f"{position - walk.position} bytes hold no valid batch: {walk.stopped.detail}{tail}"
        self._found(DAMAGE, self._log_name, why, walk.position, expected, known_last)
        return position

    def _batch(self, batch: Batch) -> None:
        header, counted = batch.header, self._counted
        if header.base_offset != counted.next_offset and not (self._has_gaps and header.base_offset > counted.next_offset):
            why = f"the batch starts with offset {header.base_offset}, {counted.next_offset} should follow"
            self._found(DAMAGE, self._log_name, why, batch.position, counted.next_offset, header.base_offset - 1)
        if self._epoch is not None and header.leader_epoch < self._epoch:
            why = f"the leader epoch falls from {self._epoch} to {header.leader_epoch}"
            self._found(DAMAGE, self._log_name, why, batch.position, header.base_offset, header.last_offset)
        self._epoch = header.leader_epoch
        later = header.max_timestamp > counted.max_timestamp_ms
        covered = memoryview(batch.buffer)[batch.at : batch.at + COVERED]
        self._counted = counted._replace(
            next_offset=header.next_offset,
            records=counted.records + header.record_count,
            header_crc=crc32c(covered, counted.header_crc),
            max_timestamp_ms=header.max_timestamp if later else counted.max_timestamp_ms,
            max_timestamp_offset=header.last_offset if later else counted.max_timestamp_offset,
        )
        self._check_entries(batch.position, header.last_offset)

    # -- the indexes -------------------------------------------------------------------------------------------------

    def _check_entries(self, position: int, last_offset: int) -> None:
        """The entries that speak of the batch just counted."""
        relative = last_offset - self._base
        while self._next_index is not None and self._next_index[1] <= position:
            if self._next_index != (relative, position):
                self._found(DERIVED, file_name(self._base, INDEX), f"entry {self._next_index} fits no batch", position)
            self._next_index = next(self._index_entry, None)
        while self._next_time is not None and self._next_time[1] <= relative:
            is_peak = self._counted.max_timestamp_offset == last_offset
            if not is_peak or self._next_time != (self._counted.max_timestamp_ms, relative):
                self._found(DERIVED, file_name(self._base, TIME_INDEX), f"entry {self._next_time} fits no batch", position)
            self._next_time = next(self._time_entry, None)

    def _check_left_over_entries(self) -> None:
        sealed = self._following is not None
        for kind, data, entry in ((INDEX, self._index, OFFSET_ENTRY), (TIME_INDEX, self._times, TIME_ENTRY)):
            if data is None:
                if sealed and self._counted.size:
                    self._found(DERIVED, file_name(self._base, kind), "the file is missing")
            elif sealed and len(data) % entry.size:
                self._found(DERIVED, file_name(self._base, kind), f"its length is no multiple of {entry.size}")
        if self._next_index is not None and self._next_index != (0, 0):
            self._found(DERIVED, file_name(self._base, INDEX), f"entry {self._next_index} lies behind the log")
        if self._next_time is not None and self._next_time != (0, 0):
            self._found(DERIVED, file_name(self._base, TIME_INDEX), f"entry {self._next_time} lies behind the log")

    # -- the digest --------------------------------------------------------------------------------------------------

    def _check_digest(self, log_size: int) -> None:
        name = file_name(self._base, DIGEST)
        data = self._read(DIGEST)
        try:
            stored = decode_digest(data) if data is not None else None
        except PartitionDamaged as error:
            self._found(NOTE, name, error.detail)
            return
        if stored is None:
            if self._following is not None:
                severity, why = (NOTE, "there is none") if data is None else (DERIVED, "it is not whole")
                self._found(severity, name, f"{why}; header bytes in front of the CRC cannot all be checked")
            return
        if self._following is None and stored.size != log_size:
            return  # of an attempt to seal it that failed; appending went on
        counted = self._counted
        for field in ("next_offset", "size", "records", "max_timestamp_ms", "header_crc"):
            if getattr(stored, field) != getattr(counted, field):
                why = f"{field} is {getattr(counted, field)}, the digest says {getattr(stored, field)}"
                self._found(DAMAGE, self._log_name, why, None, self._base, counted.next_offset - 1)
        self._check_index_crc(INDEX, self._index, stored.index_entries * OFFSET_ENTRY.size, stored.index_crc)
        self._check_index_crc(TIME_INDEX, self._times, stored.time_entries * TIME_ENTRY.size, stored.time_crc)
        if stored.aborted_entries != UNKNOWN:
            size = stored.aborted_entries * ABORTED_ENTRY.size
            self._check_index_crc(ABORTED_INDEX, self._read(ABORTED_INDEX), size, stored.aborted_crc)

    def _check_index_crc(self, kind: str, data: bytes | None, size: int, crc: int) -> None:
        there = data or b""
        if len(there) != size or crc32c(there) != crc:
            self._found(DERIVED, file_name(self._base, kind), "it is not what the digest says")

    def _digest_has_gaps(self) -> bool:
        data = self._read(DIGEST)
        try:
            stored = decode_digest(data) if data is not None else None
        except PartitionDamaged:
            return False
        return stored is not None and stored.records != stored.next_offset - stored.base_offset

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}" if self._directory else name

    def _read(self, kind: str) -> bytes | None:
        path = self._path(file_name(self._base, kind))
        if not self._files.exists(path):
            return None
        file = self._files.open(path)
        try:
            return file.pread(file.size(), 0)
        finally:
            file.close()

    def _found(
        self,
        severity: str,
        file: str,
        message: str,
        position: int | None = None,
        first_offset: int | None = None,
        last_offset: int | None = None,
    ) -> None:
        self.findings.append(Finding(severity, self._path(file), message, position, first_offset, last_offset))


def _entries(data: bytes | None, entry: Struct) -> Iterator[tuple[int, ...]]:
    """The whole entries of an index."""
    there = data or b""
    return entry.iter_unpack(there[: len(there) - len(there) % entry.size])
