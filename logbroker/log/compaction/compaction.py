"""The compaction of one open partition: from its segments to a job, and back to its segments.

What lives here: that, and how far it has got. What may not: cleaning (``cleaner``), names on disk (``swap``), anything that
the log has besides segments.
Invariant: while copies are put in place, ``swapping`` is set, and no segment may be taken out.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from logbroker.config import TopicConfig
from logbroker.log.compaction.job import Job, Output, Source
from logbroker.log.compaction.plan import COMPACT, Plan, plan
from logbroker.log.compaction.progress import load_compacted, store_compacted
from logbroker.log.compaction.swap import Swap, complete, remove_copies
from logbroker.log.files import File
from logbroker.log.place import Place
from logbroker.log.retention import Changed, dated
from logbroker.log.segment import Segment
from logbroker.log.segments import Segments
from logbroker.model import Now, SegmentInfo
from logbroker.records.batch import HEADER_SIZE, parse_header


class Means(NamedTuple):
    """What a pass may take."""

    table_bytes: int
    bytes_per_second: int


class Compaction:
    """See above. All errors are those of reading and writing files: PartitionDamaged, StorageError."""

    def __init__(self, place: Place, segments: Segments) -> None:
        self.swapping = False
        self._place = place
        self._segments = segments
        self._compacted_to = load_compacted(place)

    def plan(self, config: TopicConfig, log_start: int, limit: int, now: Now, changed_ms: Changed) -> Plan | None:
        """What may be compacted below ``limit``; None if nothing is new or the topic is not compacted."""
        if COMPACT not in config.cleanup_policy:
            return None
        return plan(
            [segment.info() for segment in self._segments],
            config,
            max(self._compacted_to, log_start),
            limit,
            now.wall_ms,
            lambda info: dated(info, now.wall_ms, changed_ms),
            self._first_timestamp,
        )

    def _first_timestamp(self, info: SegmentInfo) -> int:
        return parse_header(self._segments.holding(info.base_offset).log.get().pread(HEADER_SIZE, 0)).base_timestamp

    def job(self, planned: Plan, config: TopicConfig, producers: Mapping[int, int], now: Now, means: Means) -> Job:
        """The pass that carries out a plan. What an earlier one has left is removed."""
        remove_copies(self._place)
        following = planned.sources[-1].next_offset
        return Job(
            path=self._place.path,
            sources=[_source(self._segments.holding(info.base_offset)) for info in planned.sources],
            deciding=[_source(segment) for segment in self._segments.starting_at_or_after(following)],
            dirty_from=planned.dirty_from,
            now_ms=now.wall_ms,
            delete_retention_ms=config.delete_retention_ms,
            producers=dict(producers),
            segment_bytes=config.segment_bytes,
            index_bytes=config.segment_index_bytes,
            index_interval_bytes=config.index_interval_bytes,
            table_bytes=means.table_bytes,
            bytes_per_second=means.bytes_per_second,
        )

    def begin_swap(self, outputs: Iterable[Output]) -> Swap:
        """The copies whose sources are all still there; the others are removed."""
        there = {segment.base_offset: (segment.next_offset, segment.size) for segment in self._segments}
        fits: list[Output] = []
        for output in outputs:
            if all(there.get(one.base_offset) == (one.next_offset, one.size) for one in output.sources):
                fits.append(output)
            else:
                remove_copies(self._place, [output.base_offset])
        self.swapping = True
        return Swap(self._place, fits)

    def swap_in(self, output: Output) -> list[File]:
        """Put a committed copy in its place, on disk and here. Returns the files that are gone."""
        old = [self._segments.holding(source.base_offset) for source in output.sources]
        held: list[File] = []
        for segment in old:
            held += segment.hold_files()
            segment.let_go()
        complete(self._place, output.base_offset, [one.base_offset for one in old[1:]])
        self._segments.replace(old, Segment(self._place, output.base_offset, output.size, output.next_offset))
        return held

    def finish_swap(self, compacted_to: int) -> None:
        """Note how far the log is compacted, durably."""
        self.swapping = False
        store_compacted(self._place, compacted_to)
        self._compacted_to = compacted_to


def _source(segment: Segment) -> Source:
    return Source(segment.base_offset, segment.next_offset, segment.size, segment.state().index_entries)
