"""What a damaged partition can be turned into: which bytes to keep, which to put right, which offsets are lost.

What lives here: the plan of a repair. What may not: changing anything (``repair`` does, when a person has said so).

- A batch whose records are whole but whose first 17 bytes (base offset, length, leader epoch, magic), which no CRC covers,
  were changed is *mended*: they follow from what stands around it, and the CRC of the batch or the digest of the segment
  proves them. Nothing is lost.
- Any other stretch without a valid batch is *skipped*: an empty batch takes its place, which spans exactly the offsets that
  are lost, as compaction leaves them too, so offsets stay dense and every reader, Kafka's too, goes on behind it. Or the
  log is *cut* there, as a person may prefer.

Invariant: a batch that is valid and where it belongs is never touched. What was never flushed, at the end of the log, is
left to recovery.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from crc32c import crc32c

from logbroker.config import INT32_MAX
from logbroker.errors import CorruptMessage
from logbroker.log.admission import LEADER_EPOCH
from logbroker.log.files import Buffer, Files
from logbroker.log.names import DIGEST, LOG, file_name
from logbroker.log.state import COVERED, SegmentState, decode_digest
from logbroker.log.torn import has_unwritten_sector, next_batch
from logbroker.model import NO_TIMESTAMP
from logbroker.records.batch import (
    HEADER_LAYOUT,
    HEADER_SIZE,
    LOG_OVERHEAD,
    MAGIC,
    NO_SEQUENCE,
    BatchHeader,
    check_batch,
    parse_header,
    sealed_header,
)


class Mode(StrEnum):
    """What to do where records are lost."""

    SKIP = "skip"
    TRUNCATE = "truncate"


class Kind(StrEnum):
    """What is done about one place."""

    MENDED = "mended"
    SKIPPED = "skipped"
    CUT = "cut"


class Change(NamedTuple):
    """One place of a log, the offsets it is about, and what is done there. Nothing is lost where it is mended."""

    kind: Kind
    file: str
    position: int
    size: int
    first_offset: int
    last_offset: int
    why: str

    @property
    def lost(self) -> int:
        """How many offsets can no longer be read; where the log was compacted, some of them had gone before."""
        return 0 if self.kind is Kind.MENDED else self.last_offset - self.first_offset + 1


class SegmentPlan(NamedTuple):
    """What becomes of one segment. ``parts`` are its new content; empty ``changes`` leave it as it is."""

    base_offset: int
    next_offset: int
    parts: list[Buffer]
    changes: list[Change]

    @property
    def is_cut(self) -> bool:
        """Whether the log ends here from now on."""
        return bool(self.changes) and self.changes[-1].kind is Kind.CUT


_CRC_AT = COVERED - 4


class _Batch(NamedTuple):
    position: int
    header: BatchHeader


def empty_batches(first_offset: int, last_offset: int) -> bytes:
    """Batches without records that span these offsets."""
    pieces = []
    while first_offset <= last_offset:
        delta = min(last_offset - first_offset, INT32_MAX - 1)
        header = BatchHeader(
            base_offset=first_offset,
            batch_length=HEADER_SIZE - LOG_OVERHEAD,
            leader_epoch=LEADER_EPOCH,
            magic=MAGIC,
            crc=0,
            attributes=0,
            last_offset_delta=delta,
            base_timestamp=NO_TIMESTAMP,
            max_timestamp=NO_TIMESTAMP,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=NO_SEQUENCE,
            record_count=0,
        )
        pieces.append(sealed_header(header, b""))
        first_offset += delta + 1
    return b"".join(pieces)


class Site(NamedTuple):
    """A segment as it lies there, and what is known of it from elsewhere."""

    path: str
    log: memoryview
    base_offset: int
    following: int | None
    """Where the next segment starts; None for the last."""
    flushed: SegmentState | None
    """The recovery point if it lies in this segment: what is damaged behind it, at the end, was never flushed."""
    digest: SegmentState | None

    @property
    def known_end(self) -> int | None:
        """One past the last offset that is known to have been here; in the last segment there may have been more."""
        return self.following if self.following is not None else self.flushed.next_offset if self.flushed else None

    @property
    def is_whole(self) -> bool:
        """Whether the log has the length it was sealed with, and the next segment starts where it ended."""
        digest = self.digest
        return digest is not None and (digest.size, digest.next_offset) == (len(self.log), self.following)

    @property
    def is_sparse(self) -> bool:
        """Whether offsets are missing for good reason: it was compacted, or repaired before."""
        return self.digest is not None and self.digest.records < self.digest.next_offset - self.base_offset


def site_of(files: Files, directory: str, base_offset: int, following: int | None, flushed: SegmentState | None) -> Site:
    """The segment at ``base_offset``. Raises StorageError, PartitionDamaged for a digest of a newer logbroker."""
    path = f"{directory}/{file_name(base_offset, LOG)}"
    digest_path = f"{directory}/{file_name(base_offset, DIGEST)}"
    has_digest = following is not None and files.exists(digest_path)
    digest = decode_digest(_read(files, digest_path)) if has_digest else None
    return Site(path, memoryview(_read(files, path)), base_offset, following, flushed, digest)


def plan_segment(site: Site, mode: Mode) -> SegmentPlan:
    """What to do about a segment."""
    digest = site.digest
    if digest is None:
        return _Planner(site, mode, trusting=False).run()
    if site.is_whole and _chain(site.log) == digest.header_crc:
        return SegmentPlan(site.base_offset, digest.next_offset, [site.log], [])
    # What only the digest can prove, as a changed CRC, is tried first: if the digest then fits, all is as it was.
    plan = _Planner(site, mode, trusting=True).run()
    if _chain(memoryview(b"".join(plan.parts))) == digest.header_crc:
        return plan
    return _Planner(site, mode, trusting=False).run()


def _read(files: Files, path: str) -> bytes:
    file = files.open(path)
    try:
        return file.pread(file.size(), 0)
    finally:
        file.close()


def _chain(log: memoryview) -> int | None:
    """The header chain of a log (see ``state``), None where it does not consist of whole batches."""
    chain = end = 0
    for position, header in _batches(log, 0):
        chain = crc32c(log[position : position + COVERED], chain)
        end = position + header.size
    return chain if end == len(log) else None


def _batches(log: memoryview, position: int) -> Iterator[_Batch]:
    """The valid batches that follow one another from ``position`` on."""
    while position < len(log):
        batch = _batch_at(log, position)
        if batch is None:
            return
        yield batch
        position += batch.header.size


def _batch_at(log: memoryview, position: int) -> _Batch | None:
    try:
        header = parse_header(log, position)
        check_batch(log, position, header, dense=False)
    except CorruptMessage:
        return None
    return _Batch(position, header)


class _Planner:
    def __init__(self, site: Site, mode: Mode, *, trusting: bool) -> None:
        self._site = site
        self._log = site.log
        self._mode = mode
        self._trusting = trusting
        self._expected = site.base_offset
        self._parts: list[Buffer] = []
        self._changes: list[Change] = []

    def run(self) -> SegmentPlan:
        position = 0
        while position < len(self._log) and not self._is_cut:
            batch = _batch_at(self._log, position)
            if batch is not None and self._belongs(batch):
                self._keep(batch)
                position += batch.header.size
            else:
                position = self._bad(position, batch)
        known_end = self._site.known_end
        if known_end is not None and self._expected < known_end and not (self._is_cut or self._site.is_whole):
            self._lose(len(self._log), len(self._log), known_end - 1, "the file ends before these offsets")
        return SegmentPlan(self._site.base_offset, self._expected, self._parts, self._changes)

    @property
    def _is_cut(self) -> bool:
        return bool(self._changes) and self._changes[-1].kind is Kind.CUT

    def _belongs(self, batch: _Batch) -> bool:
        gap = batch.header.base_offset - self._expected
        return (gap == 0 or (gap > 0 and self._site.is_sparse)) and batch.header.leader_epoch == LEADER_EPOCH

    def _keep(self, batch: _Batch) -> None:
        self._parts.append(self._log[batch.position : batch.position + batch.header.size])
        self._expected = batch.header.next_offset

    def _bad(self, position: int, batch: _Batch | None) -> int:
        """Deal with what stands at ``position`` and is not the batch that belongs there; returns where to go on."""
        offset = self._true_offset(batch, None) if batch is not None else None
        if batch is not None and offset is not None:
            if offset > self._expected:
                self._lose(position, position, offset - 1, "the batches in front of it are missing")
                return position
            end = position + batch.header.size
            after = self._sure(end, None)[1]
        else:
            base, before = self._claimed(position)
            end, after = self._sure(position, before if base == self._expected else None)
            at = next_batch(self._log, position, self._expected)
            if batch is None and self._was_never_flushed(position, end, at):
                self._parts.append(self._log[position:])
                return len(self._log)
        mended = self._mended(position, end, after)
        if mended is not None:
            header = parse_header(mended)
            why = "its header was changed, its records are whole"
            self._note(Kind.MENDED, position, end, header.base_offset, header.last_offset, why)
            self._parts.append(mended)
            self._expected = header.next_offset
            return end
        last = after if after is not None else self._furthest(position)
        self._lose(position, end, last - 1, f"{end - position} bytes hold no valid batch")
        return end

    def _sure(self, position: int, before: int | None) -> tuple[int, int | None]:
        """Where the next batch stands whose offset is sure, and that offset; the end of the log if there is none."""
        while (at := next_batch(self._log, position, self._expected)) is not None:
            batch = _batch_at(self._log, at)
            offset = self._true_offset(batch, before) if batch is not None else None
            if offset is not None and offset >= self._expected:
                return at, offset
            position, before = at + 1, None
        return len(self._log), self._site.following

    def _true_offset(self, batch: _Batch, before: int | None) -> int | None:
        """The base offset of a batch, which no CRC covers: its own word if a neighbour says the same, else from that.

        ``before`` is what the batch in front of it says. None where nobody says anything: it may be any.
        """
        own, end = batch.header.base_offset, batch.position + batch.header.size
        if self._site.is_sparse:
            return own if self._is_near(batch) else None
        if own == before or self._claimed(end)[0] == batch.header.next_offset:
            return own
        span = batch.header.last_offset_delta + 1
        following = _batch_at(self._log, end)
        offset = self._true_offset(following, None) if following is not None else None
        if offset is None and end == len(self._log):
            offset = self._site.following
        return offset - span if offset is not None else None

    def _furthest(self, position: int) -> int:
        """One past the last offset that may have been given out, where the log holds nothing sure from here on."""
        furthest = max(self._expected, self._site.known_end or 0)
        while (at := next_batch(self._log, position, self._expected)) is not None:
            next_offset = self._claimed(at)[1]
            if next_offset - self._expected <= len(self._log):  # a record takes more than a byte
                furthest = max(furthest, next_offset)
            position = at + 1
        return furthest

    def _is_near(self, batch: _Batch) -> bool:
        first, last = batch.header.base_offset, batch.header.next_offset
        end = self._site.following
        return 0 <= first - self._expected <= INT32_MAX and (end is None or last <= end)

    def _claimed(self, position: int) -> tuple[int, int]:
        """Base offset and next offset by the header at ``position``, whatever else is there; -1 where there is none."""
        if position + HEADER_SIZE > len(self._log):
            return -1, -1
        header = BatchHeader._make(HEADER_LAYOUT.unpack_from(self._log, position))
        return header.base_offset, header.next_offset

    def _was_never_flushed(self, position: int, end: int, following: int | None) -> bool:
        site = self._site
        if site.following is not None or (site.flushed is not None and position < site.flushed.size):
            return False
        return following is None or has_unwritten_sector(self._log, position, end, self._expected)

    def _mended(self, position: int, end: int, after: int | None) -> bytes | None:
        """The batch in ``[position, end)`` with the header it must have had; None where that cannot be proven."""
        if end - position < HEADER_SIZE:
            return None
        raw = bytes(self._log[position:end])
        given = BatchHeader._make(HEADER_LAYOUT.unpack_from(raw))
        base = given.base_offset if self._site.is_sparse and given.base_offset > self._expected else self._expected
        wanted = given._replace(
            base_offset=base, batch_length=len(raw) - LOG_OVERHEAD, leader_epoch=LEADER_EPOCH, magic=MAGIC
        )
        whole = sealed_header(wanted, raw[HEADER_SIZE:]) + raw[HEADER_SIZE:]
        is_proven = self._trusting or whole[_CRC_AT:COVERED] == raw[_CRC_AT:COVERED]
        fits = after is None or wanted.next_offset == after or (self._site.is_sparse and wanted.next_offset < after)
        return whole if is_proven and fits and _batch_at(memoryview(whole), 0) is not None else None

    def _lose(self, position: int, end: int, last_offset: int, why: str) -> None:
        """What stands in ``[position, end)`` cannot be had, and with it the offsets up to ``last_offset``."""
        if self._mode is Mode.TRUNCATE:
            self._note(Kind.CUT, position, len(self._log), self._expected, max(last_offset, self._expected - 1), why)
            return
        self._note(Kind.SKIPPED, position, end, self._expected, last_offset, why)
        self._parts.append(empty_batches(self._expected, last_offset))
        self._expected = max(self._expected, last_offset + 1)

    def _note(self, kind: Kind, position: int, end: int, first: int, last: int, why: str) -> None:
        self._changes.append(Change(kind, self._site.path, position, end - position, first, last, why))
