"""Opening a partition: what is there, what a crash left, and what is wrong.

What lives here: everything that happens before the first append or read of a partition. What may not: anything after.

After a clean stop the recovery point stands at the end of the last log: no byte of a log is read. Otherwise every
batch past the recovery point is read and checked, and indexes, digests and producer windows are brought up to date on
the way. Where that stops short, ``torn`` tells a tail that was never flushed, which is cut off and kept as ``.torn``,
from damage, which raises PartitionDamaged and changes nothing: being alone, there is nobody to fetch the missing part
from, so cutting is for a person to decide. What was read past the recovery point is written again before it is
flushed, because after a failed flush the page cache may hold, unmarked, what never reached the disk.
"""

from functools import partial
from typing import NamedTuple

from logbroker.errors import PartitionDamaged
from logbroker.log.aborted_lookup import aborted_in
from logbroker.log.checkpoint import Checkpoint, Checkpointed
from logbroker.log.compaction.swap import recover_swaps
from logbroker.log.files import parent
from logbroker.log.names import (
    ABORTED_INDEX,
    CHECKPOINT,
    DIGEST,
    INDEX,
    LOG,
    PRODUCERS,
    TIME_INDEX,
    file_name,
    sort_out,
)
from logbroker.log.place import Place
from logbroker.log.producers import Producers, encode_producers
from logbroker.log.salvage import cut_off, set_aside, write_again
from logbroker.log.segment import Segment
from logbroker.log.snapshots import Snapshots
from logbroker.log.state import SegmentState, fresh_state
from logbroker.log.torn import has_unwritten_sector, next_batch
from logbroker.log.walk import Batch, BatchWalk
from logbroker.model import Now
from logbroker.records.batch import parse_header
from logbroker.records.markers import is_commit


class RecoveryReport(NamedTuple):
    """What opening a partition found and did."""

    clean: bool = True
    """Whether no log had to be read."""
    bytes_read: int = 0
    """Bytes of logs that were read and checked."""
    truncated_bytes: int = 0
    """Bytes cut off as never flushed; ``torn_files`` hold them."""
    torn_files: tuple[str, ...] = ()
    unknown_files: tuple[str, ...] = ()
    """Files that are none of a partition's; left alone."""


class Recovered(NamedTuple):
    """A partition that can be appended to. The last segment is active, and everything is durable."""

    segments: list[Segment]
    retired: list[Segment]
    """Segments below the log start whose files are still there."""
    producers: Producers
    snapshots: Snapshots
    checkpoint: Checkpoint
    log_start_offset: int
    active_since_ms: int
    report: RecoveryReport


def recover(place: Place, now: Now) -> Recovered:
    """Open the files of a partition, whose directory is there. Raises PartitionDamaged, StorageError."""
    recover_swaps(place)
    return _Recovery(place, now).run()


class _Recovery:
    def __init__(self, place: Place, now: Now) -> None:
        self._place = place
        self._now = now
        self._listing = sort_out(place.files.listdir(place.path))
        self._checkpoint = Checkpoint(place.files, place.named(CHECKPOINT))
        self._snapshots = Snapshots(place, self._listing.kinds[PRODUCERS])
        self._producers = Producers()
        self._segments: list[Segment] = []
        self._report = RecoveryReport(unknown_files=tuple(map(place.at, self._listing.unknown)))

    def run(self) -> Recovered:
        stored = self._checkpoint.load()
        if not self._listing.logs:
            self._found()
        bases = self._listing.logs
        if stored is None:
            stored = Checkpointed(fresh_state(bases[0]), bases[0])
        self._check_names(stored)
        self._segments = [self._segment(base, following) for base, following in zip(bases, [*bases[1:], -1], strict=True)]
        point = stored.recovery_point
        self._load_producers(stored, point)
        last = self._segments[-1]
        if not last.size:
            self._place.sync()  # whoever made it may have been killed before; afterwards it will be written to
        if point.base_offset == last.base_offset and point.size == last.size:
            last.grow_from(point)
        else:
            self._read_past(point)
        if self._segments[-1].next_offset < stored.log_start_offset:
            self._start_again(stored.log_start_offset)
        if not self._report.clean:
            self._make_durable(stored, point)
        self._snapshots.remove_after(self._segments[-1].next_offset)
        self._producers.expire(self._now.wall_ms)
        retired = [one for one in self._segments[:-1] if one.next_offset <= stored.log_start_offset]
        return Recovered(
            self._segments[len(retired) :],
            retired,
            self._producers,
            self._snapshots,
            self._checkpoint,
            stored.log_start_offset,
            self._active_since(stored),
            self._report,
        )

    # -- what is there -----------------------------------------------------------------------------------------------

    def _found(self) -> None:
        """Make the first segment of a new partition."""
        files, place = self._place.files, self._place
        leftovers = [f"{offset:020d}.{kind}" for kind, offsets in self._listing.kinds.items() for offset in offsets]
        if files.exists(place.at(CHECKPOINT)):
            leftovers.append(CHECKPOINT)
        if leftovers:
            raise self._missing(f"there is no log file beside {leftovers[0]}")
        # A process that was killed may have made these directories without coming to flush their names.
        directory = parent(place.path)
        while directory:
            files.sync_dir(directory)
            directory = parent(directory)
        files.sync_dir("")
        files.create(place.at(file_name(0, LOG))).close()
        self._listing.logs.append(0)

    def _missing(self, why: str) -> PartitionDamaged:
        return PartitionDamaged(
            f"{self._place.path}: {why}. Restore the files from a backup; nothing was changed", file=self._place.path
        )

    def _check_names(self, stored: Checkpointed) -> None:
        """Whether the files are there that the checkpoint speaks of, and a log beside each of the others."""
        bases, base = self._listing.logs, stored.recovery_point.base_offset
        if bases[0] > stored.log_start_offset:
            raise self._missing(
                f"the log starts at {stored.log_start_offset} but the first file is {file_name(bases[0], LOG)}"
            )
        if base not in bases:
            raise self._missing(f"{file_name(base, LOG)} is not there")
        for kind in (INDEX, TIME_INDEX, DIGEST, ABORTED_INDEX):
            for offset in set(self._listing.kinds[kind]).difference(bases):
                name = file_name(offset, kind)
                if offset >= stored.log_start_offset:
                    raise self._missing(f"there is no log file beside {name}")
                self._place.files.unlink(self._place.at(name))  # of a deletion that a crash interrupted

    def _segment(self, base_offset: int, next_offset: int) -> Segment:
        size = self._place.files.size(self._place.at(file_name(base_offset, LOG)))
        return Segment(self._place, base_offset, size, next_offset)

    def _active_since(self, stored: Checkpointed) -> int:
        active = self._segments[-1]
        if not active.size:
            return -1
        same = stored.recovery_point.base_offset == active.base_offset and stored.active_since_ms >= 0
        return stored.active_since_ms if same else self._now.wall_ms

    # -- producers ---------------------------------------------------------------------------------------------------

    def _load_producers(self, stored: Checkpointed, point: SegmentState) -> None:
        """The windows as they were at the recovery point."""
        if not stored.has_producers:
            return
        loaded = self._snapshots.load_newest(point.next_offset)
        if loaded is not None:
            self._producers, at = loaded
        else:
            at = self._segments[0].base_offset
        bases = [segment.base_offset for segment in self._segments]
        for segment in self._segments[: bases.index(point.base_offset) + 1]:
            end = point.size if segment.base_offset == point.base_offset else segment.size
            if at < segment.next_offset or segment.next_offset < 0:
                at = self._replay(segment, max(at, segment.base_offset), end, point.next_offset)

    def _replay(self, segment: Segment, offset: int, end: int, upto: int) -> int:
        """Remember the producers of the batches from ``offset`` to ``upto``; returns where that ended."""
        if offset >= upto:
            return offset
        walk = BatchWalk(segment.log.get(), 0, end)
        for batch in walk:
            if batch.header.base_offset >= offset:
                self._remember(batch)
                offset = batch.header.next_offset
        self._report = self._report._replace(clean=False, bytes_read=self._report.bytes_read + walk.position)
        if walk.stopped is not None:
            raise segment.damaged(walk.position, offset, walk.stopped.detail)
        return offset

    def _remember(self, batch: Batch, segment: Segment | None = None) -> None:
        """Take note of a batch; an aborted transaction goes into the index of ``segment``, if given."""
        header, now_ms = batch.header, self._now.wall_ms
        if not header.is_control:
            append_time = header.max_timestamp if header.is_append_time else -1
            self._producers.record(header, header.base_offset, append_time, now_ms)
            return
        committed = is_commit(batch.buffer, batch.at)
        if committed is None:
            return
        aborted = self._producers.transactions.aborting(header.producer_id, header.base_offset)
        if segment is not None and aborted is not None and not committed:
            segment.aborted.prepare(aborted)
            segment.aborted.add(aborted)
        self._producers.ended(header, header.base_offset, now_ms)

    # -- past the recovery point -------------------------------------------------------------------------------------

    def _read_past(self, point: SegmentState) -> None:
        """Read what was written since, up to the end or to where it was never flushed; the last segment read is active."""
        number = next(at for at, one in enumerate(self._segments) if one.base_offset == point.base_offset)
        state = point
        while True:
            segment = self._segments[number]
            is_torn = self._read_segment(segment, state)
            following = self._without_leftovers(segment, number + 1)
            if not following:
                break
            if is_torn or self._is_tail_lost(segment, following[0]):
                self._set_aside(following)
                break
            self._seal(segment)
            number += 1
            state = fresh_state(following[0].base_offset)
        if is_torn:
            self._cut_off(segment)

    def _read_segment(self, segment: Segment, state: SegmentState) -> bool:
        """Read ``segment`` from ``state`` on. Returns whether it ends with what was never flushed."""
        end = segment.size
        next_base = segment.next_offset
        segment.grow_from(state)
        if end < state.size:
            raise segment.damaged(end, state.base_offset, f"{state.size} bytes were flushed, {end} are there")
        if not segment.aborted.is_whole():
            segment.aborted.replace(aborted_in(self._segments, segment))
        walk = segment.read_on(end, partial(self._remember, segment=segment))
        self._report = self._report._replace(clean=False, bytes_read=self._report.bytes_read + end - state.size)
        if walk.stopped is None:
            return False
        self._judge(segment, end, walk.stopped.detail, is_last=next_base < 0)
        return True

    def _judge(self, segment: Segment, end: int, why: str, *, is_last: bool) -> None:
        """Raise PartitionDamaged unless what lies behind the right part of the log was never flushed."""
        log = segment.log.get().map().view
        following = next_batch(log, segment.size, segment.next_offset)
        if has_unwritten_sector(log, segment.size, end if following is None else following, segment.next_offset):
            return
        if following is not None:
            last = parse_header(log, following).base_offset - 1
            raise segment.damaged(segment.size, segment.next_offset, why, last_offset=last)
        if not is_last and segment.digest_speaks_of(end):
            raise segment.damaged(segment.size, segment.next_offset, f"{why}, although the file has its full length")

    def _without_leftovers(self, segment: Segment, number: int) -> list[Segment]:
        """The segments behind ``segment``, after removing an empty one of an attempt to roll that failed."""
        for leftover in [one for one in self._segments[number:] if not one.size and one.base_offset < segment.next_offset]:
            leftover.delete()
            self._segments.remove(leftover)
        return self._segments[number:]

    def _is_tail_lost(self, segment: Segment, following: Segment) -> bool:
        """Whether ``segment`` once reached up to ``following``, and was never flushed so far."""
        if segment.next_offset == following.base_offset:
            return False
        if segment.next_offset > following.base_offset:
            raise following.damaged(0, following.base_offset, f"{segment.log.path} reaches up to {segment.next_offset - 1}")
        if segment.digest_speaks_of(segment.size):
            raise self._missing(f"{file_name(segment.next_offset, LOG)} is not there")
        return True

    def _seal(self, segment: Segment) -> None:
        stored = segment.stored_digest()
        state = segment.finish_indexes()
        if stored is not None and stored.header_crc != state.header_crc:
            raise segment.damaged(0, segment.base_offset, "its batch headers do not fit its digest")
        segment.write_digest(state)
        segment.seal(state)

    def _set_aside(self, segments: list[Segment]) -> None:
        kept, size = set_aside(self._place, segments)
        del self._segments[-len(segments) :]
        self._count_torn(kept, size)

    def _cut_off(self, segment: Segment) -> None:
        self._count_torn(*cut_off(self._place, segment))

    def _count_torn(self, kept: list[str], size: int) -> None:
        report = self._report
        self._report = report._replace(
            truncated_bytes=report.truncated_bytes + size, torn_files=(*report.torn_files, *kept)
        )

    def _make_durable(self, stored: Checkpointed, point: SegmentState) -> None:
        """Flush all that was read, and store where the next recovery may start."""
        for segment in self._segments:
            if segment.base_offset >= point.base_offset:
                start = point.size if segment.base_offset == point.base_offset else 0
                write_again(segment, start)
        active = self._segments[-1]
        if len(self._producers):
            snapshot = encode_producers(self._producers, active.next_offset)
            self._snapshots.store(active.next_offset, snapshot, durable=True)
        self._place.sync()
        self._checkpoint.store(
            Checkpointed(
                active.state(),
                stored.log_start_offset,
                self._active_since(stored),
                has_producers=bool(len(self._producers)),
            ),
            durable=True,
        )

    def _start_again(self, log_start_offset: int) -> None:
        """What was trimmed was lost before it could be deleted: go on behind it, so that no offset comes twice."""
        lost = self._segments[-1]
        lost.seal(lost.finish_indexes())
        self._place.files.create(self._place.at(file_name(log_start_offset, LOG))).close()
        active = self._segment(log_start_offset, -1)
        active.grow_from(fresh_state(log_start_offset))
        self._segments.append(active)
        self._report = self._report._replace(clean=False)
