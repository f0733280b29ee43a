"""The compacted copy of one or more segments, as it is written: ``.log.cleaned`` with its indexes and its digest.

What lives here: writing it. What may not: what goes into it.
Invariants: its last batch ends where the last of its sources ends, if need be with an empty batch that holds the place. It
has no index of aborted transactions: of those whose markers stand in it no record is left.
"""

from crc32c import crc32c

from logbroker.config import INT32_MAX
from logbroker.log.aborted import AbortedIndex
from logbroker.log.compaction.job import Output, Source
from logbroker.log.descriptors import OpenFile
from logbroker.log.files import Buffer
from logbroker.log.index import OFFSET_ENTRY, TIME_ENTRY, SparseIndex
from logbroker.log.names import ABORTED_INDEX, CLEANED, DIGEST, INDEX, LOG, SEGMENT_KINDS, TIME_INDEX, file_name
from logbroker.log.place import Place
from logbroker.log.state import COVERED, encode_digest, fresh_state
from logbroker.log.tally import Tally
from logbroker.log.walk import Batch
from logbroker.records.batch import parse_header
from logbroker.records.shrinking import filler

_WINDOW = 1 << 20


class OutputSegment:
    """A copy that grows."""

    def __init__(self, place: Place, base_offset: int) -> None:
        self._place = place
        self._base_offset = base_offset
        self._log = self._file(LOG)
        self._log.create()
        self._index = SparseIndex(place.files, self._file(INDEX), OFFSET_ENTRY)
        self._times = SparseIndex(place.files, self._file(TIME_INDEX), TIME_ENTRY)
        aborted = AbortedIndex(place.files, self._file(ABORTED_INDEX))
        self._tally = Tally(fresh_state(base_offset), self._index, self._times, aborted)
        self._sources: list[Source] = []
        self._waiting: list[Buffer] = []
        self._waiting_bytes = 0
        self._changed = False
        self._leader_epoch = 0

    def has_room_for(self, source: Source, segment_bytes: int, index_bytes: int) -> bool:
        """Whether all of ``source`` fits behind what is there."""
        entries = max(self._index.entries, self._times.entries) + source.index_entries
        return (
            self._tally.size + source.size <= segment_bytes
            and entries * TIME_ENTRY.size < index_bytes
            and source.next_offset - self._base_offset <= INT32_MAX
        )

    def take(self, batch: Batch, kept: bytes | None) -> int:
        """Add what is kept of a batch (see ``Keeper.kept``); returns how many records that is."""
        if kept is None:
            whole = memoryview(batch.buffer)[batch.at : batch.at + batch.header.size]
            return self._add(bytes(whole))
        self._changed = True
        return self._add(kept) if kept else 0

    def passed(self, source: Source) -> None:
        """All of ``source`` was gone through."""
        self._sources.append(source)

    def _add(self, data: bytes) -> int:
        header = parse_header(data)
        interval = self._place.index_interval_bytes
        if self._tally.needs_entries(header.size, interval):
            self._index.reserve(1)
            self._times.reserve(1)
            self._tally.look_up_last_time()
        header_crc = crc32c(data[:COVERED], self._tally.header_crc)
        self._tally.add(header, header.base_offset, header.max_timestamp, header_crc, interval)
        self._leader_epoch = header.leader_epoch
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= _WINDOW:
            self._write()
        return header.record_count

    def _write(self) -> None:
        self._log.get().append(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0

    def finish(self) -> Output | None:
        """Complete and flush it; None, and it is gone, where it is what is there already. Raises StorageError."""
        end = self._sources[-1].next_offset
        if self._tally.next_offset < end:
            self._changed = True
            self._add(filler(end - 1, self._leader_epoch))
        if not self._changed and len(self._sources) == 1:
            self._discard()
            return None
        if self._waiting:
            self._write()
        self._times.reserve(1)
        self._tally.look_up_last_time()
        self._tally.add_time()
        self._times.release()
        self._index.trim()
        self._times.trim()
        state = self._tally.state()
        digest = self._file(DIGEST)
        digest.create().append([encode_digest(state)])
        for file in (self._log, self._index.file, self._times.file, digest):
            file.get().fdatasync()
            file.let_go()
        self._place.sync()  # the names too: the log's must not be the only one that a crash leaves
        return Output(self._base_offset, state.next_offset, state.size, self._sources)

    def _discard(self) -> None:
        self._index.release()
        self._times.release()
        for file in map(self._file, SEGMENT_KINDS):
            if self._place.files.exists(file.path):
                self._place.files.unlink(file.path)
        for own in (self._log, self._index.file, self._times.file):
            own.let_go()

    def _file(self, kind: str) -> OpenFile:
        return self._place.named(file_name(self._base_offset, kind) + CLEANED)
