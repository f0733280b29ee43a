"""Repairing a damaged partition that no broker has open, because a person has said so.

What lives here: the plan over all segments of a partition, and carrying it out. What may not: deciding to (the command
line), and what can be had back of one segment (``mending``).

Invariants: what is changed or removed is copied first, durably; each file is replaced as a whole, so a crash in the middle
leaves a partition that can be repaired again; after ``skip`` no offset is ever given out again, after ``truncate`` those
behind the cut are.
"""

from itertools import pairwise
from typing import NamedTuple

from logbroker.errors import PartitionDamaged, StorageError
from logbroker.log.checkpoint import Checkpoint, Checkpointed
from logbroker.log.descriptors import Descriptors
from logbroker.log.files import Files, make_dirs
from logbroker.log.mending import Change, Kind, Mode, SegmentPlan, empty_batches, plan_segment, site_of
from logbroker.log.names import CHECKPOINT, LOG, SEGMENT_KINDS, file_name, sort_out
from logbroker.log.place import Place
from logbroker.log.segment import Segment
from logbroker.log.state import fresh_state

_SIDECARS = SEGMENT_KINDS[1:]
_CHUNK = 1 << 20
_INDEX_INTERVAL = 4096


class RepairPlan(NamedTuple):
    """What a repair of one partition would do."""

    directory: str
    segments: list[SegmentPlan]
    """Those that change."""
    removed: list[str]
    """Names of files that go."""
    checkpoint: Checkpointed | None
    """What the checkpoint says afterwards; None where it stays."""
    changes: list[Change]
    """All of them, in the order of the log."""

    @property
    def touched(self) -> list[str]:
        """Names of the files that are changed or removed, where they are there."""
        names = list(self.removed)
        for segment in self.segments:
            names += [file_name(segment.base_offset, kind) for kind in (LOG, *_SIDECARS)]
        return sorted({*names, CHECKPOINT}) if self.changes else []


def plan_repair(files: Files, directory: str, mode: Mode) -> RepairPlan:
    """What is to be done about the partition in ``directory``. Raises StorageError, PartitionDamaged for newer versions."""
    return _Planning(files, directory, mode).run()


class _Planning:
    def __init__(self, files: Files, directory: str, mode: Mode) -> None:
        self._files = files
        self._directory = directory
        self._mode = mode
        self._listing = sort_out(files.listdir(directory))
        if self._listing.swaps:
            raise PartitionDamaged(
                f"{directory}: a compaction was interrupted; start the broker once, which finishes it, then repair"
            )
        stored = Checkpoint(files, self._place().named(CHECKPOINT)).load()
        bases = self._listing.logs
        first = bases[0] if bases else 0
        self._stored = stored or Checkpointed(fresh_state(first), first)
        self._segments: list[SegmentPlan] = []
        self._changes: list[Change] = []
        self._removed: list[str] = []

    def _place(self) -> Place:
        return Place(self._files, self._directory, Descriptors(64), _INDEX_INTERVAL)

    def run(self) -> RepairPlan:
        bases, stored = self._listing.logs, self._stored
        start = stored.log_start_offset
        if bases and bases[0] > start:
            self._missing(Kind.SKIPPED, start, bases[0] - 1)
            start = bases[0]
        self._plan_segments()
        end = self._lost_behind(max([start, *(plan.next_offset for plan in self._segments[-1:])]))
        if not bases:
            start = end
        self._orphans()
        changed = [plan for plan in self._segments if plan.changes]
        checkpoint = self._checkpoint(changed, min(start, end), end) if self._changes else None
        return RepairPlan(self._directory, changed, self._removed, checkpoint, self._changes)

    def _checkpoint(self, changed: list[SegmentPlan], start: int, end: int) -> Checkpointed | None:
        """What the checkpoint has to say: read again from the start of the first segment that is not known to be right."""
        stored, kept = self._stored, {plan.base_offset for plan in self._segments}
        point = stored.recovery_point
        if point.base_offset not in kept:
            base = max(kept, default=end)
            return Checkpointed(fresh_state(base), start, stored.active_since_ms, has_producers=True)
        if any(plan.base_offset >= point.base_offset for plan in changed):
            return stored._replace(recovery_point=fresh_state(point.base_offset), log_start_offset=start)
        return stored._replace(log_start_offset=start) if start != stored.log_start_offset else None

    def _plan_segments(self) -> None:
        bases, point = self._listing.logs, self._stored.recovery_point
        for number, base in enumerate(bases):
            following = bases[number + 1] if number + 1 < len(bases) else None
            flushed = point if point.base_offset == base else None
            plan = plan_segment(site_of(self._files, self._directory, base, following, flushed), self._mode)
            self._segments.append(plan)
            self._changes += plan.changes
            if plan.is_cut:
                self._changes[-1] = self._changes[-1]._replace(last_offset=self._end_of(base) - 1)
                self._drop(bases[number + 1 :])
                return

    def _drop(self, bases: list[int]) -> None:
        """What lies behind a cut goes too."""
        for base in bases:
            path = f"{self._directory}/{file_name(base, LOG)}"
            self._removed += [file_name(base, kind) for kind in (LOG, *_SIDECARS)]
            last = self._end_of(base) - 1
            self._changes.append(Change(Kind.CUT, path, 0, self._files.size(path), base, last, "it lies behind the cut"))

    def _end_of(self, base: int) -> int:
        """One past the last offset of a segment, as far as it can be read."""
        following = next((one for one in self._listing.logs if one > base), None)
        point = self._stored.recovery_point
        flushed = point if point.base_offset == base else None
        return plan_segment(site_of(self._files, self._directory, base, following, flushed), Mode.SKIP).next_offset

    def _lost_behind(self, end: int) -> int:
        """Deal with files that are missing at the end of the log; returns where it ends then."""
        point = self._stored.recovery_point
        is_missing = point.base_offset not in self._listing.logs and point.next_offset > end
        if not is_missing or any(one.kind is Kind.CUT for one in self._changes):
            return end
        kind = Kind.SKIPPED if self._mode is Mode.SKIP else Kind.CUT
        self._missing(kind, end, point.next_offset - 1)
        if self._mode is Mode.TRUNCATE:
            return end
        if self._segments:
            last = self._segments[-1]
            gap = empty_batches(end, point.next_offset - 1)
            self._segments[-1] = last._replace(
                next_offset=point.next_offset, parts=[*last.parts, gap], changes=[*last.changes, self._changes[-1]]
            )
        else:
            self._segments.append(SegmentPlan(point.next_offset, point.next_offset, [], [self._changes[-1]]))
        return point.next_offset

    def _missing(self, kind: Kind, first_offset: int, last_offset: int) -> None:
        path = f"{self._directory}/{file_name(first_offset, LOG)}"
        self._changes.append(Change(kind, path, 0, 0, first_offset, last_offset, "the file is missing"))

    def _orphans(self) -> None:
        """Sidecars without a log, which a start would refuse."""
        kept = {plan.base_offset for plan in self._segments}
        for kind in _SIDECARS:
            names = [file_name(base, kind) for base in self._listing.kinds[kind] if base not in kept]
            self._removed += [name for name in names if name not in self._removed]


def back_up(files: Files, plan: RepairPlan, to: str) -> None:
    """Copy what the repair will change or remove into the directory ``to``, durably. Raises StorageError."""
    make_dirs(files, to)
    for name in plan.touched:
        if not files.exists(f"{plan.directory}/{name}"):
            continue
        source, copy = files.open(f"{plan.directory}/{name}"), files.create(f"{to}/{name}")
        try:
            for position in range(0, source.size(), _CHUNK):
                copy.append([source.pread(_CHUNK, position)])
            if copy.size() != source.size():
                raise StorageError(f"the copy of {source.path} is not complete; nothing was changed")
            copy.fdatasync()
        finally:
            source.close()
            copy.close()
    files.sync_dir(to)


def carry_out(files: Files, plan: RepairPlan) -> None:
    """Do what the plan says. Raises StorageError, and then it can be planned and done again."""
    for name in sorted(plan.removed, reverse=True):
        _remove(files, f"{plan.directory}/{name}")
    for segment in plan.segments:
        for kind in _SIDECARS:
            _remove(files, f"{plan.directory}/{file_name(segment.base_offset, kind)}")
        files.sync_dir(plan.directory)
        _replace(files, f"{plan.directory}/{file_name(segment.base_offset, LOG)}", segment)
    files.sync_dir(plan.directory)
    place = Place(files, plan.directory, Descriptors(64), _INDEX_INTERVAL)
    if plan.checkpoint is not None:
        checkpoint = Checkpoint(files, place.named(CHECKPOINT))
        checkpoint.load()
        checkpoint.store(plan.checkpoint, durable=True)
        checkpoint.let_go()
    _seal_again(files, place, plan)


def _remove(files: Files, path: str) -> None:
    if files.exists(path):
        files.unlink(path)


def _replace(files: Files, path: str, segment: SegmentPlan) -> None:
    temporary = f"{path}.repaired"
    _remove(files, temporary)
    file = files.create(temporary)
    try:
        for start in range(0, len(segment.parts), 512):
            file.append(segment.parts[start : start + 512])
        file.fdatasync()
    finally:
        file.close()
    files.rename(temporary, path)


def _seal_again(files: Files, place: Place, plan: RepairPlan) -> None:
    """Write the indexes and digests of those that are not the last."""
    bases = sort_out(files.listdir(plan.directory)).logs
    for base, following in pairwise(bases):
        if any(segment.base_offset == base for segment in plan.segments):
            segment = Segment(place, base, files.size(place.at(file_name(base, LOG))), following)
            segment.state()
            segment.let_go()
