"""One segment: a log file, its indexes and, once sealed, its digest.

What lives here: where its batches are, its indexes kept right, its map, sealing. What may not: other segments,
producers, when to roll or flush.
Invariants: ``tally`` is there only while the segment is active. What a sealed segment knows of itself comes from its
digest, or, where that is missing or does not fit the log, from reading the log once; its indexes are compared with it
each time they are mapped, and built again from the log where they differ. ``size`` and ``next_offset`` end at a batch
boundary.
"""

from collections.abc import Callable, Iterable, Sequence

from crc32c import crc32c

from logbroker.errors import PartitionDamaged
from logbroker.log.aborted import UNKNOWN, Aborted, AbortedIndex
from logbroker.log.admission import Admitted
from logbroker.log.descriptors import OpenFile
from logbroker.log.files import File, replace_atomically
from logbroker.log.index import OFFSET_ENTRY, TIME_ENTRY, IndexEntry, SparseIndex, last_at_or_before
from logbroker.log.names import ABORTED_INDEX, DIGEST, INDEX, LOG, TIME_INDEX
from logbroker.log.place import Place
from logbroker.log.state import COVERED, DIGEST_SIZE, SegmentState, decode_digest, encode_digest, fresh_state
from logbroker.log.tally import Tally
from logbroker.log.walk import Batch, BatchWalk
from logbroker.model import SegmentInfo

_LEAST_NEW_BYTES_TO_MAP = 1 << 20


class Segment:
    """The segment at ``base_offset``, with a log of ``size`` bytes that ends before ``next_offset``."""

    __slots__ = (
        "_has_markers",
        "_place",
        "_state",
        "aborted",
        "base_offset",
        "digest",
        "has_gaps",
        "index",
        "index_lies",
        "log",
        "next_offset",
        "size",
        "tally",
        "times",
        "written_lately",
    )

    def __init__(self, place: Place, base_offset: int, size: int, next_offset: int) -> None:
        self.base_offset = base_offset
        self.size = size
        self.next_offset = next_offset
        self.log = place.numbered(base_offset, LOG)
        self.digest = place.numbered(base_offset, DIGEST)
        self.index = SparseIndex(place.files, place.numbered(base_offset, INDEX), OFFSET_ENTRY)
        self.times = SparseIndex(place.files, place.numbered(base_offset, TIME_INDEX), TIME_ENTRY)
        self.aborted = AbortedIndex(place.files, place.numbered(base_offset, ABORTED_INDEX))
        self.tally: Tally | None = None
        self.has_gaps = False
        """Whether offsets are missing, because it was compacted; known with its state."""
        self.index_lies = False
        """Set, by a reader in any thread, when the index sent it to a wrong place."""
        self.written_lately = False
        """Whether its bytes are known to be in memory, so that they may be read through a map."""
        self._has_markers = False
        self._place = place
        self._state: SegmentState | None = None

    # -- what is known -----------------------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether it is the one that is appended to."""
        return self.tally is not None

    def state(self) -> SegmentState:
        """What is known of it. Reads the log where there is no digest. Raises PartitionDamaged, StorageError."""
        if self.tally is not None:
            return self.tally.state()
        if self._state is None:
            stored = self.stored_digest()
            if stored is None:
                self._has_markers = False
                self._rebuild()
            else:
                self._state = stored
                self.has_gaps = _has_gaps(stored)
                self.index.resume(stored.index_entries, stored.index_crc)
                self.times.resume(stored.time_entries, stored.time_crc)
                self.aborted.resume(stored.aborted_entries, stored.aborted_crc)
        assert self._state is not None
        return self._state

    def info(self) -> SegmentInfo:
        """As it is shown."""
        return SegmentInfo(self.base_offset, self.next_offset, self.size, self.state().max_timestamp_ms, self.active)

    def stored_digest(self) -> SegmentState | None:
        """What the digest file says, if it is there and speaks of this log at its present length."""
        stored = self._read_digest()
        fits = stored is not None and (stored.base_offset, stored.next_offset, stored.size) == (
            self.base_offset,
            self.next_offset,
            self.size,
        )
        return stored if fits else None

    def digest_speaks_of(self, size: int) -> bool:
        """Whether there is a digest of a log of this size."""
        stored = self._read_digest()
        return stored is not None and stored.size == size

    def _read_digest(self) -> SegmentState | None:
        if not self._place.files.exists(self.digest.path):
            return None
        file = self.digest.get()
        stored = decode_digest(file.pread(DIGEST_SIZE + 1, 0))
        self.digest.let_go()
        return stored

    # -- indexes -----------------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Make sure both indexes are right. Raises PartitionDamaged, StorageError."""
        if self.tally is None and self._state is None:
            self.state()
        if self.index_lies or not self.index.is_whole() or not self.times.is_whole():
            self._rebuild()

    def floor(self, offset: int) -> IndexEntry | None:
        """The last index entry at or before ``offset``; its relative offset ends the batch at its position."""
        self.ready()
        return last_at_or_before(self.index, offset - self.base_offset)

    def _rebuild(self) -> None:
        """Build both sparse indexes again from the log, and the digest with them."""
        counted = Tally(fresh_state(self.base_offset), self.index, self.times, self.aborted)
        stored = self.stored_digest()
        self.has_gaps = self.tally is None and (self._place.may_have_gaps if stored is None else _has_gaps(stored))
        walk = self.count(counted, self.size, self._note_marker)
        if self.has_gaps and stored is not None and stored.header_crc != counted.header_crc:
            raise self.damaged(0, self.base_offset, "its batch headers do not fit its digest")
        if counted.next_offset != self.next_offset:
            why = walk.stopped.detail if walk.stopped else f"its last batch ends with offset {counted.next_offset - 1}"
            raise self.damaged(walk.position, counted.next_offset, why)
        if self.tally is not None:
            self.tally = counted
        else:
            if self._state is None and self._has_markers:
                self.aborted.resume(UNKNOWN, 0)
            self._replace_digest(self._finish(counted))
        self.index_lies = False

    def _note_marker(self, batch: Batch) -> None:
        if batch.header.is_control:
            self._has_markers = True

    def _replace_digest(self, state: SegmentState) -> None:
        self._state = state
        replace_atomically(self._place.files, self.digest.path, encode_digest(state))

    def store_aborted(self, found: Iterable[Aborted]) -> None:
        """Build the index of aborted transactions again, and the digest with it. Raises StorageError."""
        self.aborted.replace(found)
        if self.tally is None:
            counts = {"aborted_entries": self.aborted.entries, "aborted_crc": self.aborted.crc}
            self._replace_digest(self.state()._replace(**counts))

    def count(self, tally: Tally, end: int, seen: Callable[[Batch], None] | None = None) -> BatchWalk:
        """Add the batches from where ``tally`` stands up to ``end``, or up to the first that is not right.

        ``seen`` is told of each. Returns the walk, whose ``position`` says how far it came. Raises DiskFull, StorageError.
        """
        interval = self._place.index_interval_bytes
        walk = BatchWalk(self.log.get(), tally.size, end)
        for batch in walk:
            position, header, buffer, at = batch
            if header.base_offset != tally.next_offset and not (self.has_gaps and header.base_offset > tally.next_offset):
                walk.refuse(
                    f"the batch at {position} starts with offset {header.base_offset}, not {tally.next_offset}", header
                )
                break
            if tally.needs_entries(header.size, interval):
                self.index.reserve(1)
                self.times.reserve(1)
                tally.look_up_last_time()
            header_crc = crc32c(memoryview(buffer)[at : at + COVERED], tally.header_crc)
            tally.add(header, header.base_offset, header.max_timestamp, header_crc, interval)
            if seen is not None:
                seen(batch)
        self._release()
        return walk

    # -- appending and sealing ---------------------------------------------------------------------------------------

    def append(self, batches: Sequence[Admitted], size: int, aborted: Aborted | None = None) -> None:
        """Write batches of ``size`` bytes together; all or none. Raises DiskFull, StorageError.

        ``aborted`` is the transaction that the marker among them ends.
        """
        if aborted is not None:
            self.aborted.prepare(aborted)
        interval = self._place.index_interval_bytes
        needs_entries = self._growing.needs_entries(size, interval)
        if needs_entries:
            self._reserve(len(batches))
        tally = self._growing  # not before: building the indexes again replaces it
        parts = batches[0].parts if len(batches) == 1 else [part for batch in batches for part in batch.parts]
        log = self.log.get()
        if log.size() != tally.size:
            log.truncate(tally.size)  # what an append that failed could not take back
        log.append(parts)
        for header, base_offset, max_timestamp_ms, covered, _ in batches:
            tally.add(header, base_offset, max_timestamp_ms, crc32c(covered, tally.header_crc), interval)
        self.size = tally.size
        self.next_offset = tally.next_offset
        self.written_lately = True
        if aborted is not None:
            self.aborted.add(aborted)
        if needs_entries:
            self._release()

    def _reserve(self, count: int) -> None:
        """Make sure that ``count`` entries can be added to each index, which once the log is written must not fail."""
        if self.index_lies or not (self.index.reserve_mapped(count) and self.times.reserve_mapped(count)):
            self.ready()
            self.index.reserve(count)
            self.times.reserve(count)
            self._growing.look_up_last_time()

    def _release(self) -> None:
        self.index.release()
        self.times.release()

    @property
    def _growing(self) -> Tally:
        assert self.tally is not None, "only the active segment grows"
        return self.tally

    def grow_from(self, state: SegmentState) -> None:
        """It is the active one, known up to ``state``; what lies behind that in the file does not count."""
        self.tally = Tally(state, self.index, self.times, self.aborted)
        self.aborted.resume(state.aborted_entries, state.aborted_crc)
        self.size = state.size
        self.next_offset = state.next_offset

    def read_on(self, end: int, seen: Callable[[Batch], None]) -> BatchWalk:
        """Count what else lies in the file of the active segment up to ``end``, as far as it is right."""
        self.ready()
        walk = self.count(self._growing, end, seen)
        self.size = self._growing.size
        self.next_offset = self._growing.next_offset
        return walk

    def finish_indexes(self) -> SegmentState:
        """Add the last time entry and cut the index files to what they hold; appending may still go on afterwards."""
        self.ready()
        return self._finish(self._growing)

    def write_digest(self, state: SegmentState) -> None:
        """Write the digest file; not yet durable. Raises StorageError."""
        if self._place.files.exists(self.digest.path):
            self._place.files.unlink(self.digest.path)  # of an attempt to roll that failed
        self.digest.create().append([encode_digest(state)])

    def seal(self, state: SegmentState) -> None:
        """From now on it is what ``state`` says."""
        self._state = state
        self.tally = None

    def _finish(self, tally: Tally) -> SegmentState:
        self.times.reserve(1)
        tally.look_up_last_time()
        tally.add_time()
        self.times.release()
        self.index.trim()
        self.times.trim()
        self.aborted.trim()
        return tally.state()

    # -- files -------------------------------------------------------------------------------------------------------

    def view(self) -> memoryview | None:
        """The log in memory, as far as it is mapped; None where a map may have to wait for the disk."""
        view = self.log.view
        if not self.written_lately:
            return None
        mapped = len(view) if view is not None else 0
        behind = self.size - mapped
        if behind and (self.tally is None or behind >= max(_LEAST_NEW_BYTES_TO_MAP, mapped // 4)):
            view = self.log.mapping(at_least=self.size).view
        return view

    def cool_down(self) -> None:
        """Its bytes are no longer sure to be in memory: read them with care."""
        self.written_lately = False
        self.log.unmap()

    def files(self) -> list[OpenFile]:
        """Everything that must be durable when the segment is."""
        aborted = [self.aborted.file] if self._place.files.exists(self.aborted.file.path) else []
        return [self.log, self.index.file, self.times.file, self.digest, *aborted]

    def delete(self) -> None:
        """Remove the files; durable after the directory is flushed. Raises StorageError."""
        self._delete(self.files())

    def delete_sidecars(self) -> None:
        """Remove all but the log. Raises StorageError."""
        self._delete(self.files()[1:])

    def _delete(self, files: list[OpenFile]) -> None:
        for file in files:
            file.let_go()
            if self._place.files.exists(file.path):
                self._place.files.unlink(file.path)

    def let_go(self) -> None:
        """Close everything that is open."""
        for file in self.files():
            file.let_go()

    def hold_files(self) -> list[File]:
        """The files as they are, open: whoever drops them last pays for removing what they held."""
        return [file.get() for file in self.files() if self._place.files.exists(file.path)]

    def damaged(self, position: int, offset: int, why: str, *, last_offset: int | None = None) -> PartitionDamaged:
        """The error for a place where the log cannot be read, with all a person needs to look at it."""
        last = self.next_offset - 1 if last_offset is None else last_offset
        return PartitionDamaged(
            f"{self.log.path} is damaged at byte {position}, offsets {offset} to {last} cannot be read: {why}. "
            "Nothing was changed; look at it with 'logbroker segment verify'",
            file=self.log.path,
            position=position,
            first_offset=offset,
            last_offset=last,
        )


def _has_gaps(state: SegmentState) -> bool:
    return state.records != state.next_offset - state.base_offset
