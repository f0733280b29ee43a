"""How far a group is behind in one partition: pure arithmetic over what is known of both.

What lives here: lag in records and in time, and the status that sums it up. What may not: reading logs or journals; the
broker and the offline tool do that, each in its way, and share this.
Lag in time is the age of the first record the group has not read (kafka-lag-exporter#121 shows what interpolation between
sampled end offsets does on idle topics). Offsets that no record stands at (control records, holes) never make a lag by
themselves: where no unread record is found there is none, and counting starts at the first that is.
Invariant: a lag is never negative.
"""

import enum
from collections.abc import Iterable
from typing import NamedTuple

from logbroker.groups.events import CommittedOffset
from logbroker.model import NO_TIMESTAMP, Bounds, OffsetAndTimestamp, TopicPartition

LATE_MS = 60_000
"""A first unread record older than this is late."""
SILENT_MS = 60_000
"""A group that has not committed for so long does not move."""


class LagStatus(enum.Enum):
    """How a group does in a partition; a later one is worse."""

    OK = "OK"
    """Caught up, or its first unread record is younger than a minute."""
    NO_OFFSET = "NO_OFFSET"
    """Nothing is committed."""
    WARN = "WARN"
    """Late, but it committed within the last minute."""
    STOP = "STOP"
    """Late, and it has not committed for a minute."""
    OUT_OF_RANGE = "OUT_OF_RANGE"
    """Its offset is outside the log: records were deleted before they were read, or the log was lost."""
    DAMAGED = "DAMAGED"
    """The partition cannot be read."""


_BY_SEVERITY = list(LagStatus)


class PartitionLag(NamedTuple):
    """A group in one partition. None stands for what cannot be known."""

    where: TopicPartition
    committed: CommittedOffset | None
    bounds: Bounds | None
    lag: int | None
    """Unread records, offsets counted; at most too high, by the holes among them."""
    lag_ms: int | None
    status: LagStatus


class LagTotal(NamedTuple):
    """Over partitions: the sum, the largest and the worst."""

    lag: int
    lag_ms: int
    status: LagStatus


def first_unread_from(committed: int, bounds: Bounds) -> int:
    """Where to look for the first unread record: records below the log start are gone."""
    return max(committed, bounds.log_start_offset)


def lag_of(
    where: TopicPartition, committed: CommittedOffset, bounds: Bounds, unread: OffsetAndTimestamp | None, now_ms: int
) -> PartitionLag:
    """The lag, given the first record at or after ``first_unread_from`` that a reader would get, None for none."""
    lag = max(bounds.high_watermark - unread.offset, 0) if unread is not None else 0
    lag_ms: int | None = 0
    if unread is not None:
        lag_ms = None if unread.timestamp_ms == NO_TIMESTAMP else max(now_ms - unread.timestamp_ms, 0)
    status = LagStatus.OK
    if not bounds.log_start_offset <= committed.offset <= bounds.high_watermark:
        status = LagStatus.OUT_OF_RANGE
    elif lag_ms is not None and lag_ms > LATE_MS:
        status = LagStatus.STOP if now_ms - committed.committed_ms > SILENT_MS else LagStatus.WARN
    return PartitionLag(where, committed, bounds, lag, lag_ms, status)


def lag_unknown(
    where: TopicPartition, committed: CommittedOffset | None, bounds: Bounds | None, status: LagStatus
) -> PartitionLag:
    """A partition in which nothing was committed or that cannot be read."""
    return PartitionLag(where, committed, bounds, None, None, status)


def total(partitions: Iterable[PartitionLag]) -> LagTotal:
    """All of ``partitions`` in one line; what is not known counts as none."""
    partitions = list(partitions)
    return LagTotal(
        sum(one.lag or 0 for one in partitions),
        max((one.lag_ms or 0 for one in partitions), default=0),
        max((one.status for one in partitions), key=_BY_SEVERITY.index, default=LagStatus.OK),
    )
