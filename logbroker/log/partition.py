"""One partition: the log that everything above is told about.

What lives here: the order in which the parts act on an append, a read, a flush, a roll, a trim. What may not: the parts
themselves, waiting, threads, other partitions. All calls on one thread, except ``FlushTicket.sync`` and ``ColdRead.run``.

Invariants:

- an append is written whole or not at all; it is durable when a ticket made afterwards has been synced and handed back;
- the recovery point moves only over what was flushed, and past a sealed segment before anything behind it is acknowledged;
- the log start offset is durable before a file goes, and no segment goes that a recovery would read;
- after a flush that failed nothing is written any more: what is on disk is unknown, and a retry could lie.
"""

from collections.abc import Iterable

from logbroker.config import INT32_MAX, TopicConfig
from logbroker.errors import FlushFailed, StorageError
from logbroker.log.aborted import Aborted
from logbroker.log.aborted_lookup import AbortedLookup
from logbroker.log.admission import admit, admit_marker
from logbroker.log.checkpoint import Checkpointed
from logbroker.log.compaction.compaction import Compaction, Means
from logbroker.log.compaction.job import Job, Output
from logbroker.log.compaction.plan import COMPACT, Plan, seals_after_ms
from logbroker.log.compaction.swap import Swap
from logbroker.log.counting import last_from, records_from
from logbroker.log.dating import changed_by
from logbroker.log.descriptors import Descriptors
from logbroker.log.files import Buffer, File, Files, make_dirs
from logbroker.log.flushing import Dirty, FlushTicket
from logbroker.log.index import OFFSET_ENTRY, TIME_ENTRY
from logbroker.log.names import LOG, PRODUCERS, file_name
from logbroker.log.place import Mark, Place
from logbroker.log.producers import ProducerState, encode_producers
from logbroker.log.reader import Reader
from logbroker.log.reading import ColdRead
from logbroker.log.recovery import Recovered, RecoveryReport, recover
from logbroker.log.recovery_point import RecoveryPoint
from logbroker.log.retention import ACKED, Retained, expired
from logbroker.log.segment import Segment
from logbroker.log.segments import Segments
from logbroker.log.state import SegmentState, fresh_state
from logbroker.log.times import Times
from logbroker.model import Appended, Now, OffsetAndTimestamp, SegmentInfo, TopicPartition
from logbroker.records.markers import encode_marker

__all__ = ["ColdRead", "FlushTicket", "Mark", "PartitionLog"]


class PartitionLog:
    """The log of one partition."""

    def __init__(self, place: Place, where: TopicPartition, config: TopicConfig, recovered: Recovered, now: Now) -> None:
        self.where = where
        self.config = config
        self.recovery: RecoveryReport = recovered.report
        self.log_start_offset = recovered.log_start_offset
        self._place = place
        self._segments = Segments(recovered.segments)
        self._retired = recovered.retired
        self._producers = recovered.producers
        self._active_since_ms = recovered.active_since_ms
        self._reader = Reader(self._segments)
        self._times = Times(self._segments)
        self._aborted = AbortedLookup(self._segments)
        self._dirty = Dirty()
        self._dirty_snapshot: int | None = None
        self._failure: StorageError | None = None
        self._changed = not recovered.report.clean
        self._appended_at_ms = now.mono_ms
        self._compaction = Compaction(place, self._segments)
        self._recovery_point = RecoveryPoint(
            recovered.checkpoint,
            recovered.snapshots,
            Checkpointed(
                self._segments.active.state(), self.log_start_offset, self._active_since_ms, bool(len(self._producers))
            ),
            now.mono_ms,
        )
        self.flushed_offset = self._segments.active.next_offset
        """One past the last record that no crash takes back."""
        self._delete_retired()

    @classmethod
    def open(
        cls, files: Files, path: str, where: TopicPartition, config: TopicConfig, now: Now, descriptors: Descriptors
    ) -> "PartitionLog":
        """The log in directory ``path``, made if there is none, recovered if it was not closed.

        Raises PartitionDamaged, StorageError.
        """
        make_dirs(files, path)
        place = Place(files, path, descriptors, config.index_interval_bytes, COMPACT in config.cleanup_policy)
        return cls(place, where, config, recover(place, now), now)

    # -- where it stands ---------------------------------------------------------------------------------------------

    @property
    def end_offset(self) -> int:
        """The offset the next record gets."""
        return self._segments.active.next_offset

    @property
    def size_bytes(self) -> int:
        """Bytes of the log files of all segments."""
        return self._segments.size_bytes + self._segments.active.size

    @property
    def flush_is_due(self) -> bool:
        """Whether so much was written since the last flush that even a topic that never waits for one should have it."""
        active = self._segments.active
        return bool(self._dirty) and self._recovery_point.is_far_behind(active.base_offset, active.size)

    def segments(self) -> list[SegmentInfo]:
        """All segments, ascending. Raises PartitionDamaged, StorageError."""
        return [segment.info() for segment in self._segments]

    def mark(self) -> Mark:
        """Where it stands now."""
        active = self._segments.active
        return Mark(
            active.base_offset,
            active.size,
            active.next_offset,
            self.log_start_offset,
            self._active_since_ms,
            bool(len(self._producers)),
        )

    def producers(self) -> list[ProducerState]:
        """The idempotent and transactional producers that are remembered."""
        return list(self._producers)

    def configure(self, config: TopicConfig) -> None:
        """Go by changed settings from now on."""
        self.config = config
        self._place.index_interval_bytes = config.index_interval_bytes
        self._place.may_have_gaps = COMPACT in config.cleanup_policy

    # -- appending ---------------------------------------------------------------------------------------------------

    def append(self, batches: Buffer, now: Now, *, transactional: bool = False) -> Appended:
        """Check, stamp and write one or more whole batches; all or none, not yet durable.

        ``batches`` is not kept. Those of a transaction are taken only if ``transactional``. Raises CorruptMessage,
        MessageTooLarge, InvalidTimestamp, OutOfOrderSequence, DuplicateSequence, InvalidProducerEpoch,
        InvalidTransactionState, DiskFull, StorageError.
        """
        self._check_usable()
        config = self.config
        base_offset = self._segments.active.next_offset
        admitted = admit(batches, config, now.wall_ms, base_offset, transactional=transactional)
        original = self._producers.check([one.header for one in admitted])
        if original is not None:
            next_offset = original.last_offset + 1
            return Appended(
                original.base_offset, next_offset, original.append_time_ms, self.log_start_offset, duplicate=True
            )
        last = admitted[-1]
        next_offset = last.base_offset + last.header.last_offset_delta + 1
        size = last.header.size if len(admitted) == 1 else sum([one.header.size for one in admitted])
        active = self._with_room(size, next_offset, now)
        active.append(admitted, size)
        append_time_ms = -1 if config.message_timestamp_type == "CreateTime" else now.wall_ms
        for one in admitted:
            if one.header.producer_id >= 0:
                self._producers.record(one.header, one.base_offset, append_time_ms, now.wall_ms)
        self._appended(active, now)
        return Appended(base_offset, next_offset, append_time_ms, self.log_start_offset)

    def end_transaction(self, producer_id: int, epoch: int, committed: bool, now: Now) -> Appended | None:
        """Write the marker that ends the transaction of a producer and lets in no lower epoch; not yet durable.

        None where that has been done. Raises InvalidProducerEpoch where a higher epoch is here, DiskFull, StorageError,
        PartitionDamaged.
        """
        self._check_usable()
        if not self._producers.awaits_marker(producer_id, epoch):
            return None
        base_offset = self._segments.active.next_offset
        marker = admit_marker(encode_marker(producer_id, epoch, committed, now.wall_ms), base_offset)
        active = self._with_room(marker.header.size, base_offset + 1, now)
        aborted = None if committed else self._producers.transactions.aborting(producer_id, base_offset)
        if aborted is not None:
            self._aborted.make_whole(active)
        active.append([marker], marker.header.size, aborted)
        self._producers.ended(marker.header, base_offset, now.wall_ms)
        self._appended(active, now)
        return Appended(base_offset, base_offset + 1, -1, self.log_start_offset)

    def _with_room(self, size: int, next_offset: int, now: Now) -> Segment:
        """The segment that takes ``size`` more bytes, up to ``next_offset``."""
        active = self._segments.active
        if active.size and self._must_roll(active, size, next_offset, now):
            self.roll(now)
        return self._segments.active

    def _appended(self, active: Segment, now: Now) -> None:
        self._dirty.add(active.log)
        if self._active_since_ms < 0:
            self._active_since_ms = now.wall_ms
        self._appended_at_ms = now.mono_ms
        self._changed = True

    def _must_roll(self, active: Segment, size: int, next_offset: int, now: Now) -> bool:
        config = self.config
        index_bytes = config.segment_index_bytes
        return (
            active.size + size > config.segment_bytes
            or now.wall_ms - self._active_since_ms >= seals_after_ms(self.config)
            or active.index.entries >= index_bytes // OFFSET_ENTRY.size
            or active.times.entries >= index_bytes // TIME_ENTRY.size - 1  # one is for the last entry, at the seal
            or next_offset - active.base_offset > INT32_MAX  # offsets in an index are relative, in 32 bits
        )

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, offset: int, max_bytes: int, upto: int) -> Buffer | ColdRead:
        """Whole batches from the one that holds ``offset``, none at or past ``upto``, at least one if there is any.

        ``upto`` is a batch boundary, as the high watermark is. The caller has checked that ``offset`` is not below the log
        start. A ``ColdRead`` means that the disk would have to be waited for: let it run in a thread. Raises
        PartitionDamaged, StorageError.
        """
        return self._reader.read(offset, max_bytes, upto)

    def first_undecided(self, high_watermark: int) -> int | None:
        """Where the oldest transaction begins that has no marker below ``high_watermark``; None if there is none."""
        first = self._producers.transactions.first_undecided(high_watermark)
        return None if first is None else max(first, self.log_start_offset)

    def aborted(self, offset: int, upto: int, most: int = INT32_MAX) -> list[Aborted] | None:
        """The aborted transactions with records in ``[offset, upto)``, maybe some more; ``upto`` is in no open one.

        None where they are more than ``most``.

        Raises PartitionDamaged, StorageError.
        """
        return self._aborted.between(offset, upto, most)

    def transaction_start(self, producer_id: int) -> int | None:
        """Where the open transaction of a producer begins; None if it has none."""
        return self._producers.transactions.first_offset(producer_id)

    def offset_at(self, timestamp_ms: int, upto: int) -> OffsetAndTimestamp | None:
        """The first record below ``upto`` with a timestamp at or after ``timestamp_ms``, in whatever order they come.

        Raises PartitionDamaged, StorageError.
        """
        return self._times.first_at(timestamp_ms, self.log_start_offset, upto)

    def max_timestamp(self, upto: int) -> OffsetAndTimestamp | None:
        """The record below ``upto`` with the largest timestamp, the first of equals. Raises as ``offset_at``."""
        return self._times.largest(self.log_start_offset, upto)

    # -- flushing ----------------------------------------------------------------------------------------------------

    def begin_flush(self) -> FlushTicket | None:
        """What must be flushed now, or None. ``sync`` the ticket in any thread, then hand it to ``finish_flush``.

        One ticket at a time. Raises StorageError.
        """
        self._check_usable()
        if not self._dirty:
            return None
        state = self._segments.active.state()
        due = self._recovery_point.is_due(state, self._appended_at_ms)
        producers = encode_producers(self._producers, state.next_offset) if due and len(self._producers) else None
        ticket = FlushTicket(self._dirty.take(), state, due, producers, self._dirty_snapshot)
        self._dirty_snapshot = None
        return ticket

    def finish_flush(self, ticket: FlushTicket) -> None:
        """``ticket`` has been synced. Raises FlushFailed when the checkpoint that is due then cannot be flushed."""
        state = ticket.state
        self.flushed_offset = state.next_offset
        self._reader.boundary(state.next_offset, state.base_offset, state.size)
        if ticket.snapshot_offset is not None:
            self._recovery_point.snapshot_is_durable(ticket.snapshot_offset)
        if not ticket.checkpoint_due:
            return
        try:
            self._store_recovery_point(state, ticket.producers)
        except FlushFailed as failure:
            self._failure = failure
            raise
        except StorageError:
            return  # the old recovery point stands; the next recovery will read more
        self._delete_retired()

    def _store_recovery_point(self, state: SegmentState, producers: bytes | None) -> None:
        for path in self._recovery_point.store(state, self._active_since_ms, producers, self._appended_at_ms):
            self._dirty.discard(path)

    # -- rolling and deleting ----------------------------------------------------------------------------------------

    def roll(self, now: Now) -> None:
        """Seal the active segment and begin another; an empty one stays. Raises DiskFull, StorageError.

        Nothing is flushed but the name of the new file, without which what goes into it could vanish.
        """
        self._check_usable()
        active = self._segments.active
        if not active.size:
            return
        self._changed = True
        state = active.finish_indexes()
        active.write_digest(state)
        self._producers.expire(now.wall_ms)
        if len(self._producers):
            self._snapshot_producers(state.next_offset)
        following = self._begin_segment(state.next_offset)
        active.seal(state)
        for file in active.files():
            self._dirty.add(file, done=file is not active.log)
        self._segments.cool_down()
        self._segments.add(following)
        self._active_since_ms = -1

    def _snapshot_producers(self, offset: int) -> None:
        """Write the windows as they are at the end of a segment; the next flush makes them durable with it."""
        for path in self._recovery_point.store_snapshot(offset, encode_producers(self._producers, offset)):
            self._dirty.discard(path)
        self._dirty.add(self._place.numbered(offset, PRODUCERS), done=True)
        self._dirty_snapshot = offset

    def _begin_segment(self, base_offset: int) -> Segment:
        path = self._place.at(file_name(base_offset, LOG))
        if self._place.files.exists(path):
            self._place.files.unlink(path)  # empty, of an attempt that failed
        self._place.files.create(path).close()
        try:
            self._place.sync()
        except StorageError as error:
            self._failure = FlushFailed(f"the directory of {self.where} could not be flushed: {error}", **error.fields)
            raise self._failure from error
        segment = Segment(self._place, base_offset, 0, base_offset)
        segment.grow_from(fresh_state(base_offset))
        return segment

    def roll_if_due(self, now: Now) -> None:
        """Roll if the active segment has reached its age. Raises as ``roll``."""
        # Where the clock was put back, its age counts from now: else it would grow until the clock is there again.
        self._active_since_ms = min(self._active_since_ms, now.wall_ms)
        if self._segments.active.size and now.wall_ms - self._active_since_ms >= seals_after_ms(self.config):
            self.roll(now)

    def trim(self, before_offset: int, now: Now) -> int:
        """Move the log start offset up to ``before_offset`` (at most to the end) and return it; durable on return.

        Segments wholly in front of it go, now or once the recovery point has passed them. Raises DiskFull, StorageError.
        """
        self._check_usable()
        target = min(before_offset, self.end_offset)
        if target <= self.log_start_offset:
            return self.log_start_offset
        if target == self.end_offset:
            self.roll(now)
        self._move_start(target)
        return target

    def retain(self, now: Now, floor: int) -> Retained | None:
        """Drop the oldest records as the topic's retention says, none at or past ``floor``; returns what went.

        ``now`` is the time that is believed (see ``engine.maintenance``). Raises PartitionDamaged, StorageError.
        """
        self._check_usable()
        self._producers.expire(now.wall_ms)
        if "delete" not in self.config.cleanup_policy:
            return None
        start = self.log_start_offset
        infos = (segment.info() for segment in self._segments)
        gone = expired(
            infos, self.size_bytes, self.config, now.wall_ms, floor, changed_by(self._place, self._segments, now.wall_ms)
        )
        end = gone[-1].next_offset if gone else start
        if self.config.max_messages >= 0 and self.config.retention != ACKED:
            end = max(end, min(last_from(self._segments, start, self.config.max_messages), floor))
        if end <= start:
            return None
        records = records_from(self._segments, start) - records_from(self._segments, end)
        if end == self.end_offset:
            self.roll(now)
        self._move_start(end)
        return Retained(start, end, records)

    def _move_start(self, offset: int) -> None:
        try:
            self._recovery_point.move_log_start(offset, self._active_since_ms)
        except FlushFailed as failure:
            self._failure = failure
            raise
        self._changed = True
        self.log_start_offset = offset
        if not self._compaction.swapping:
            self._retire()

    def _retire(self) -> None:
        """Take out what lies in front of the log start, and delete what can be."""
        while self._segments.first.next_offset <= self.log_start_offset and not self._segments.first.active:
            self._retired.append(self._segments.remove_first())
        self._delete_retired()

    def _delete_retired(self) -> None:
        """Delete segments below the log start that no recovery needs, neither its log nor to replay its producers."""
        needed = self._recovery_point.needed_from(has_producers=bool(len(self._producers)))
        while self._retired and self._retired[0].next_offset <= needed:
            for file in self._retired[0].files():
                self._dirty.discard(file.path)
            try:
                self._retired[0].delete()
            except StorageError:
                return  # it is tried again with the next one
            del self._retired[0]

    # -- compaction --------------------------------------------------------------------------------------------------

    def plan_compaction(self, now: Now, limit: int) -> Plan | None:
        """What may be compacted below ``limit``; None if nothing is new. ``now`` is the time that is believed.

        Raises PartitionDamaged, StorageError.
        """
        if self._failure is not None:
            return None
        start, limit = self.log_start_offset, min(limit, self._recovery_point.base_offset)
        return self._compaction.plan(self.config, start, limit, now, changed_by(self._place, self._segments, now.wall_ms))

    def compaction_job(self, planned: Plan, now: Now, table_bytes: int, bytes_per_second: int) -> Job:
        """The pass that carries out a plan. Raises StorageError."""
        self._check_usable()
        producers = {state.producer_id: state.batches[-1].last_offset for state in self._producers if state.batches}
        return self._compaction.job(planned, self.config, producers, now, Means(table_bytes, bytes_per_second))

    def begin_swap(self, outputs: Iterable[Output]) -> Swap:
        """The copies that can still take the place of what they were made from; the others are removed.

        Until ``finish_swap`` no segment is taken out. Raises StorageError.
        """
        self._check_usable()
        return self._compaction.begin_swap(outputs)

    def swap_in(self, output: Output) -> list[File]:
        """Put a committed copy in its place. Returns the files that are gone, to be dropped in a thread.

        Raises FlushFailed where that fails: what is on disk is then for the next start to sort out.
        """
        self._check_usable()
        try:
            held = self._compaction.swap_in(output)
        except StorageError as error:
            why = f"compacted segments of {self.where} did not come into place: {error}"
            self._failure = FlushFailed(why, **error.fields)
            raise self._failure from error
        self._reader.forget()
        return held

    def finish_swap(self, compacted_to: int) -> None:
        """All copies are in place: note how far that goes, durably. Raises StorageError."""
        self._check_usable()
        self._compaction.finish_swap(compacted_to)
        self._retire()

    # -- end ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Flush everything and leave the files so that the next start reads none of the log. No ticket is under way.

        The checkpoint itself is not flushed: if the power fails afterwards, the next start reads more.

        Raises StorageError, FlushFailed.
        """
        if self._changed and self._failure is None:
            state = self._segments.active.finish_indexes() if self._segments.active.size else self._segments.active.state()
            for file in self._dirty.take():
                file.fdatasync()
            producers = encode_producers(self._producers, state.next_offset) if len(self._producers) else None
            self._store_recovery_point(state, producers)
            self.flushed_offset = state.next_offset
            self._delete_retired()
            self._changed = False
        self._let_go()

    def delete(self) -> None:
        """Let everything go without flushing: the topic is gone, and whoever owns the directory removes it now."""
        self._let_go()

    def _let_go(self) -> None:
        for segment in (*self._retired, *self._segments):
            segment.let_go()
        self._recovery_point.let_go()
        if self._failure is None:
            self._failure = StorageError(f"the log of {self.where} is closed")

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # of those who were told before
