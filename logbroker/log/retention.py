"""Which segments retention deletes: whole ones, from the oldest on.

Pure.
Invariant: what is deleted is a prefix of the segments, so the log stays contiguous, and nothing at or above the floor
goes.
"""

from collections.abc import Iterable

from logbroker.config import TopicConfig
from logbroker.model import NO_TIMESTAMP, SegmentInfo


def expired(
    segments: Iterable[SegmentInfo], size_bytes: int, config: TopicConfig, now_ms: int, floor: int
) -> list[SegmentInfo]:
    """The segments to delete of a partition of ``size_bytes``, oldest first.

    By time: while the largest timestamp of the segment is older than ``retention_ms``; a segment without timestamps
    is kept. By size: while what remains is still at least ``retention_bytes`` (both as Kafka counts). Never one that holds
    an offset at or above ``floor``. ``segments`` ascends and is read no further than needed. Empty segments stay.
    """
    gone: list[SegmentInfo] = []
    surplus = size_bytes - config.retention_bytes if config.retention_bytes >= 0 else -1
    for segment in segments:
        too_old = (
            config.retention_ms >= 0
            and segment.max_timestamp_ms != NO_TIMESTAMP
            and now_ms - segment.max_timestamp_ms > config.retention_ms
        )
        too_much = surplus >= segment.size_bytes
        if not (too_old or too_much) or segment.next_offset > floor or not segment.size_bytes:
            break
        surplus -= segment.size_bytes
        gone.append(segment)
    return gone
