"""The two sparse indexes of a segment, byte for byte as Kafka writes them (big endian, no header, no checksum).

``.index``, 8 bytes an entry: offset relative to the segment's base u32, position in the log u32. An entry names the
*last* offset of the batch that starts at the position. One is added for a batch when more than
``index_interval_bytes`` lie between it and the batch of the entry before. ``.timeindex``, 12 bytes an entry:
timestamp i64, relative offset u32. It says that no batch up to that offset has a larger timestamp; the offset is the
last of the first batch that has it. One is added together with an entry of ``.index`` when the largest timestamp has
grown since, and once more when the segment is sealed or closed.

What lives here: an array of entries in a mapped file, and look-up in it. What may not: what an entry points at.
Invariants: the file appears with its first entry, is extended by allocation (a full disk is then an error and no
signal) and cut to its entries only while it is not mapped. Nothing here is trusted that its CRC does not cover
(``SegmentState``): an index that fails the check is built again from the log, so no content, length or absence of an
index file changes what is read.
"""

import struct
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from crc32c import crc32c

from logbroker.log.descriptors import OpenFile
from logbroker.log.files import Files, Mapping

OFFSET_ENTRY = struct.Struct(">II")
TIME_ENTRY = struct.Struct(">qI")

_FIRST_CAPACITY = 4096


class IndexEntry(NamedTuple):
    """An entry of ``.index``: the batch at ``position`` ends with ``relative_offset``."""

    relative_offset: int
    position: int


class TimeEntry(NamedTuple):
    """An entry of ``.timeindex``: up to ``relative_offset`` nothing is later than ``timestamp_ms``."""

    timestamp_ms: int
    relative_offset: int


class SparseIndex:
    """A growing array of entries in a mapped file."""

    def __init__(self, files: Files, file: OpenFile, entry: struct.Struct) -> None:
        self.entries = 0
        self.crc = 0
        self.file = file
        self._files = files
        self._entry_size = entry.size
        self._capacity = 0
        """Bytes known to be there for writing; 0 until the first append of this process."""
        self._reserved: Mapping | None = None

    # -- writing -----------------------------------------------------------------------------------------------------

    def reserve_mapped(self, count: int) -> bool:
        """As ``reserve``, if that takes no system call; returns whether."""
        self._reserved = self.file.mapped
        return self._reserved is not None and (self.entries + count) * self._entry_size <= self._capacity

    def reserve(self, count: int) -> None:
        """Make sure that ``count`` more entries can be appended without fail.

        The index must be whole. Raises DiskFull, StorageError, and then nothing has changed.
        """
        needed = (self.entries + count) * self._entry_size
        if needed > self._capacity:
            there = self._files.exists(self.file.path)
            file = self.file.get() if there else self.file.create()
            capacity = max(_FIRST_CAPACITY, self._capacity)
            while capacity < needed:
                capacity *= 2
            if file.size() < capacity:
                file.allocate(capacity)
            self._capacity = capacity
        self._reserved = self.file.mapping(writable=True, at_least=self._capacity)

    def release(self) -> None:
        """What was reserved and not used is not needed any more."""
        self._reserved = None

    def append(self, entry: bytes) -> None:
        """Add an entry for which room was reserved."""
        assert self._reserved is not None, "reserve first"
        self._reserved.write(self.entries * self._entry_size, entry)
        self.crc = crc32c(entry, self.crc)
        self.entries += 1

    def resume(self, entries: int, crc: int) -> None:
        """The file should hold ``entries`` with this CRC; go on from there."""
        self.file.unmap()
        self.entries = entries
        self.crc = crc
        self._capacity = 0

    def trim(self) -> None:
        """Cut the file to its entries. Raises StorageError."""
        self.file.unmap()
        size = self.entries * self._entry_size
        if not self._files.exists(self.file.path):
            self.file.create()
        elif self._files.size(self.file.path) != size:
            self.file.get().truncate(size)
        self._capacity = 0

    # -- reading -----------------------------------------------------------------------------------------------------

    def is_whole(self) -> bool:
        """Whether the file holds the entries it should. Looked at whenever the file is mapped anew."""
        size = self.entries * self._entry_size
        if not size or self.file.mapped is not None:
            return True
        if not self._files.exists(self.file.path) or self.file.get().size() < size:
            return False
        whole = crc32c(self.file.mapping(writable=True).view[:size]) == self.crc
        if not whole:
            self.file.unmap()
        return whole

    def view(self) -> memoryview:
        """The entries."""
        size = self.entries * self._entry_size
        return self.file.mapping(writable=True, at_least=size).view[:size] if size else memoryview(b"")


def last_at_or_before(index: SparseIndex, relative_offset: int) -> IndexEntry | None:
    """The last entry of an ``.index`` whose offset is not above ``relative_offset``."""
    view = index.view()
    count = bisect_right(range(index.entries), relative_offset, key=lambda at: OFFSET_ENTRY.unpack_from(view, at * 8)[0])
    return IndexEntry(*OFFSET_ENTRY.unpack_from(view, (count - 1) * 8)) if count else None


def last_starting_at_or_before(index: SparseIndex, position: int) -> IndexEntry | None:
    """The last entry of an ``.index`` whose batch starts at or before ``position``."""
    view = index.view()
    count = bisect_right(range(index.entries), position, key=lambda at: OFFSET_ENTRY.unpack_from(view, at * 8)[1])
    return IndexEntry(*OFFSET_ENTRY.unpack_from(view, (count - 1) * 8)) if count else None


def first_reaching(index: SparseIndex, timestamp_ms: int) -> TimeEntry | None:
    """The first entry of a ``.timeindex`` with a timestamp of at least ``timestamp_ms``."""
    view = index.view()
    at = bisect_left(range(index.entries), timestamp_ms, key=lambda at: TIME_ENTRY.unpack_from(view, at * 12)[0])
    return TimeEntry(*TIME_ENTRY.unpack_from(view, at * 12)) if at < index.entries else None
