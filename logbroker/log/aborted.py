"""The aborted transactions of a log, byte for byte as Kafka indexes them: ``.txnindex`` beside the segment of the marker.

An entry (big endian, 34 bytes): version i16 = 0, producer id i64, first offset i64 (of the transaction, maybe in an
earlier segment), last offset i64 (of the abort marker), last stable offset i64 (behind the marker, or the first offset of
the oldest transaction then open). Entries ascend by last offset. A segment without an aborted transaction has no such file.

What lives here: the index of one segment. What may not: which transactions are open (``open_transactions``), other segments
(``aborted_lookup``).
Invariants: an entry is written before its marker and counts only when the marker is written; what stands behind the entries
counted is nothing. As with the other indexes, the segment's state has number and CRC of the entries, and an index that does
not fit them is built again from the log; since a transaction may begin in an earlier segment, that is done by walking the
log from its start.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from crc32c import crc32c

from logbroker.log.descriptors import OpenFile
from logbroker.log.files import Files

ENTRY = struct.Struct(">hqqqq")
_VERSION = 0

UNKNOWN = 0xFFFFFFFF
"""As the number of entries: nobody knows, the index has to be built."""


class Aborted(NamedTuple):
    """A transaction that was aborted."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class AbortedIndex:
    """The aborted transactions whose markers stand in one segment."""

    __slots__ = ("_data", "_file", "_files", "crc", "entries")

    def __init__(self, files: Files, file: OpenFile) -> None:
        self.entries = 0
        self.crc = 0
        self._files = files
        self._file = file
        self._data: bytearray | None = bytearray()

    @property
    def file(self) -> OpenFile:
        """Where it is stored."""
        return self._file

    def resume(self, entries: int, crc: int) -> None:
        """It has that many entries, or nobody knows."""
        self.entries = entries
        self.crc = crc
        self._data = None if entries else bytearray()

    def is_whole(self) -> bool:
        """Whether the entries can be had. Raises StorageError."""
        if self._data is not None:
            return True
        if self.entries == UNKNOWN or not self._files.exists(self._file.path):
            return False
        data = bytearray(self._file.get().pread(self.entries * ENTRY.size, 0))
        if len(data) != self.entries * ENTRY.size or crc32c(data) != self.crc:
            return False
        self._data = data
        return True

    def prepare(self, entry: Aborted) -> None:
        """Write the next entry, which does not count yet. The index is whole. Raises StorageError."""
        there = self._files.exists(self._file.path)
        file = self._file.get() if there else self._file.create()
        file.pwrite(ENTRY.pack(_VERSION, *entry), self.entries * ENTRY.size)

    def add(self, entry: Aborted) -> None:
        """The entry prepared last counts."""
        data = self._entries
        packed = ENTRY.pack(_VERSION, *entry)
        data += packed
        self.crc = crc32c(packed, self.crc)
        self.entries += 1

    def replace(self, entries: Iterable[Aborted]) -> None:
        """Make it anew. Raises StorageError."""
        self.resume(0, 0)
        for entry in entries:
            self.prepare(entry)
            self.add(entry)
        self.trim()

    def trim(self) -> None:
        """Cut the file to the entries, or remove it. Raises StorageError."""
        if self.entries == UNKNOWN or not self._files.exists(self._file.path):
            return
        if self.entries:
            self._file.get().truncate(self.entries * ENTRY.size)
        else:
            self._file.let_go()
            self._files.unlink(self._file.path)

    def ending_at_or_after(self, offset: int) -> Iterator[Aborted]:
        """The entries whose marker stands at or behind ``offset``. The index is whole."""
        data = self._entries
        low, high = 0, self.entries
        while low < high:
            middle = (low + high) // 2
            if ENTRY.unpack_from(data, middle * ENTRY.size)[3] < offset:
                low = middle + 1
            else:
                high = middle
        for number in range(low, self.entries):
            yield Aborted._make(ENTRY.unpack_from(data, number * ENTRY.size)[1:])

    @property
    def _entries(self) -> bytearray:
        assert self._data is not None, "ask first whether it is whole"
        return self._data
