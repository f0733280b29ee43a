"""Which segments retention deletes: whole ones, from the oldest on.

Pure. How many records stand where is in ``counting``.
Invariants: what is deleted is a prefix of the log, and nothing at or above the floor goes. A segment is as old as its
largest timestamp says; where that lies in the future, or there is none, as the last change of its file says (Kafka goes by
the file only where there is no timestamp, so that one record from the future keeps a segment for ever). Where the file
was changed in the future too, it is dated again, and counts from there.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from logbroker.config import TopicConfig
from logbroker.model import NO_TIMESTAMP, SegmentInfo

ACKED = "acked"

Changed: TypeAlias = Callable[[SegmentInfo], int]
"""When the file of a segment was last changed, in ms; not in the future."""


class Retained(NamedTuple):
    """What one round of retention deleted of a partition: the records from ``start`` to in front of ``end``."""

    start: int
    end: int
    records: int
    """How many there were; fewer than offsets where the log has gaps."""


def expired(
    segments: Iterable[SegmentInfo], size_bytes: int, config: TopicConfig, now_ms: int, floor: int, changed_ms: Changed
) -> list[SegmentInfo]:
    """The segments to delete of a partition of ``size_bytes``, oldest first.

    By time: while the segment is older than ``retention_ms``. By size: while what remains is still at least
    ``retention_bytes`` (both as Kafka counts), unless the topic keeps what is not acknowledged. Never one that holds an
    offset at or above ``floor``. ``segments`` ascends and is read no further than needed. Empty segments stay.
    """
    gone: list[SegmentInfo] = []
    limits_size = config.retention_bytes >= 0 and config.retention != ACKED
    surplus = size_bytes - config.retention_bytes if limits_size else -1
    for segment in segments:
        if not segment.size_bytes or segment.next_offset > floor:
            break
        too_much = surplus >= segment.size_bytes
        if not too_much and not _is_too_old(segment, config, now_ms, changed_ms):
            break
        surplus -= segment.size_bytes
        gone.append(segment)
    return gone


def _is_too_old(segment: SegmentInfo, config: TopicConfig, now_ms: int, changed_ms: Changed) -> bool:
    return config.retention_ms >= 0 and now_ms - dated(segment, now_ms, changed_ms) > config.retention_ms


def dated(segment: SegmentInfo, now_ms: int, changed_ms: Changed) -> int:
    """How new a segment is."""
    stamped = segment.max_timestamp_ms
    return stamped if NO_TIMESTAMP < stamped <= now_ms else changed_ms(segment)
