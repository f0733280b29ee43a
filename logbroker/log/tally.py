"""Counting a segment's batches as they come, and adding the index entries they call for.

What lives here: the growing form of ``SegmentState``, the same for live appends, for recovery and for an index that
is built again, so all three agree byte for byte with what Kafka would have written. What may not: the log file
itself.
"""

from logbroker.log.aborted import AbortedIndex
from logbroker.log.index import OFFSET_ENTRY, TIME_ENTRY, SparseIndex
from logbroker.log.state import SegmentState
from logbroker.model import NO_TIMESTAMP
from logbroker.records.batch import LOG_OVERHEAD, BatchHeader


class Tally:
    """What is known of a segment that grows. ``size`` and ``next_offset`` are where the next batch goes."""

    def __init__(self, state: SegmentState, index: SparseIndex, times: SparseIndex, aborted: AbortedIndex) -> None:
        self.base_offset = state.base_offset
        self.next_offset = state.next_offset
        self.size = state.size
        self.records = state.records
        self.max_timestamp_ms = state.max_timestamp_ms
        self.max_timestamp_offset = state.max_timestamp_offset
        self.since_index = state.since_index
        self.header_crc = state.header_crc
        self._index = index
        self._times = times
        self._aborted = aborted
        self._last_time: int | None = None
        """The timestamp of the last time entry; None until it is needed, as the file is not looked at before."""
        index.resume(state.index_entries, state.index_crc)
        times.resume(state.time_entries, state.time_crc)

    def state(self) -> SegmentState:
        """The state as it is now."""
        return SegmentState(
            self.base_offset,
            self.next_offset,
            self.size,
            self.records,
            self.max_timestamp_ms,
            self.max_timestamp_offset,
            self.since_index,
            self._index.entries,
            self._times.entries,
            self.header_crc,
            self._index.crc,
            self._times.crc,
            self._aborted.entries,
            self._aborted.crc,
        )

    def needs_entries(self, size: int, interval: int) -> bool:
        """Whether appending ``size`` bytes may add an index entry, for which room must be reserved first."""
        return self.since_index + size > interval

    def add(self, header: BatchHeader, base_offset: int, max_timestamp_ms: int, header_crc: int, interval: int) -> None:
        """Count a batch that now stands at ``size``; ``header_crc`` is the chain with this batch added."""
        last_offset = base_offset + header.last_offset_delta
        if max_timestamp_ms > self.max_timestamp_ms:
            self.max_timestamp_ms = max_timestamp_ms
            self.max_timestamp_offset = last_offset
        if self.since_index > interval:
            self._index.append(OFFSET_ENTRY.pack(last_offset - self.base_offset, self.size))
            self.add_time()
            self.since_index = 0
        size = header.batch_length + LOG_OVERHEAD
        self.since_index += size
        self.size += size
        self.records += header.record_count
        self.next_offset = last_offset + 1
        self.header_crc = header_crc

    def look_up_last_time(self) -> None:
        """Know the last entry of the time index, which must be whole, before one is added. Raises StorageError."""
        times = self._times
        if self._last_time is None:
            last = (times.entries - 1) * TIME_ENTRY.size
            self._last_time = TIME_ENTRY.unpack_from(times.view(), last)[0] if times.entries else NO_TIMESTAMP

    def add_time(self) -> None:
        """Add the largest timestamp to the time index if it has grown since the last entry there."""
        assert self._last_time is not None, "look it up first"
        if self.max_timestamp_ms > self._last_time:
            self._times.append(TIME_ENTRY.pack(self.max_timestamp_ms, self.max_timestamp_offset - self.base_offset))
            self._last_time = self.max_timestamp_ms
