"""One pass of the cleaner: sealed segments in, compacted copies beside them out.

What lives here: the order of a pass, and grouping. What may not: which records stay (``keeping``), putting the copies in
place (``swap``), processes and time. Invariants: nothing that is there is changed; a copy is whole and flushed, with its
indexes and digest, when it is told of. A pass yields, with the number of bytes it has moved, after every batch or window,
so it can be run in slices, slowed or given up.
"""

from collections.abc import Iterator

from logbroker.errors import CorruptMessage, MessageTooLarge, PartitionDamaged
from logbroker.log.compaction.job import Job, Output, Result, Source
from logbroker.log.compaction.keeping import Keeper, Rules
from logbroker.log.compaction.keys import KeyTable
from logbroker.log.compaction.output import OutputSegment
from logbroker.log.compaction.transactions import Outcomes
from logbroker.log.descriptors import Descriptors
from logbroker.log.files import File, Files
from logbroker.log.names import LOG, file_name
from logbroker.log.place import Place
from logbroker.log.walk import Batch, BatchWalk, headers
from logbroker.records.codec import outline
from logbroker.records.markers import is_commit

_OPEN_FILES = 16


class Cleaner:
    """A pass. ``run`` it to its end, then ask for the ``result``."""

    def __init__(self, files: Files, job: Job) -> None:
        self._files = files
        self._job = job
        self._place = Place(files, job.path, Descriptors(_OPEN_FILES), job.index_interval_bytes)
        self._outcomes = Outcomes()
        self._latest = job.sources[-1].next_offset - 1
        self._outputs: list[Output] = []
        self._records_read = 0
        self._records_kept = 0

    @property
    def result(self) -> Result:
        """What was done."""
        return Result(self._latest + 1, self._outputs, self._records_read, self._records_kept)

    def run(self) -> Iterator[int]:
        """Do the pass; yields how many bytes were read or written since. Raises PartitionDamaged, StorageError."""
        yield from self._find_outcomes()
        dirty = [one for one in self._job.sources if one.next_offset > self._job.dirty_from]
        keys = KeyTable(self._job.table_bytes, sum(one.next_offset - one.base_offset for one in dirty))
        for source in dirty:
            yield from self._learn(source, keys)
            if self._latest < source.next_offset - 1:
                break
        rules = Rules(
            keys, self._latest, self._outcomes, self._job.producers, self._job.now_ms, self._job.delete_retention_ms
        )
        yield from self._rewrite(Keeper(rules))

    # -- looking -----------------------------------------------------------------------------------------------------

    def _find_outcomes(self) -> Iterator[int]:
        for source in [*self._job.sources, *self._job.deciding]:
            log = self._open(source)
            for position, header in headers(log.pread, 0, source.size):
                if header.is_control and header.record_count:
                    committed = is_commit(log.pread(header.size, position), 0)
                    if committed is not None:
                        self._outcomes.ended(header.producer_id, header.base_offset, aborted=not committed)
                yield 0
            log.close()

    def _learn(self, source: Source, keys: KeyTable) -> Iterator[int]:
        """Put the keys of a source into the table, up to where that is full."""
        log = self._open(source)
        for batch in self._batches(log, source):
            header = batch.header
            yield header.size
            if header.next_offset <= self._job.dirty_from or self._has_no_keys(batch):
                continue
            try:
                records, _ = outline(batch.buffer, batch.at)
            except (CorruptMessage, MessageTooLarge):
                continue
            dirty_from = self._job.dirty_from
            full_at = keys.put_all(
                (key, offset) for offset, _, key, _ in records if key is not None and offset >= dirty_from
            )
            if full_at is not None:
                self._latest = full_at - 1
                break
        log.close()

    def _has_no_keys(self, batch: Batch) -> bool:
        header = batch.header
        return (
            header.is_control
            or not header.record_count
            or (header.is_transactional and self._outcomes.is_aborted(header.producer_id, header.base_offset))
        )

    # -- writing -----------------------------------------------------------------------------------------------------

    def _rewrite(self, keeper: Keeper) -> Iterator[int]:
        output: OutputSegment | None = None
        for source in self._job.sources:
            if source.base_offset > self._latest:
                break
            if output is None or not output.has_room_for(source, self._job.segment_bytes, self._job.index_bytes):
                yield from self._finish(output)
                output = OutputSegment(self._place, source.base_offset)
            yield from self._copy(source, output, keeper)
        yield from self._finish(output)

    def _copy(self, source: Source, output: OutputSegment, keeper: Keeper) -> Iterator[int]:
        log = self._open(source)
        for batch in self._batches(log, source):
            kept = keeper.kept(batch.header, batch.buffer, batch.at)
            self._records_read += batch.header.record_count
            self._records_kept += output.take(batch, kept)
            yield batch.header.size + (batch.header.size if kept is None else len(kept))
        output.passed(source)
        log.close()

    def _finish(self, output: OutputSegment | None) -> Iterator[int]:
        if output is not None:
            made = output.finish()
            if made is not None:
                self._outputs.append(made)
            yield 0

    # -- reading -----------------------------------------------------------------------------------------------------

    def _open(self, source: Source) -> File:
        return self._files.open(self._place.at(file_name(source.base_offset, LOG)))

    def _batches(self, log: File, source: Source) -> Iterator[Batch]:
        walk = BatchWalk(log, 0, source.size)
        yield from walk
        if walk.stopped is not None:
            raise PartitionDamaged(
                f"{log.path} is damaged at byte {walk.position}: {walk.stopped.detail}; it is not compacted",
                file=log.path,
                position=walk.position,
            )
