"""Whether a partition is to be compacted, and how far (Kafka's choice of the filthiest log).

Pure. A segment may be rewritten when it is sealed, lies below all limits, and everything in it is older than
``min_compaction_lag_ms``. It is worth it when the part not yet compacted is more than ``min_cleanable_dirty_ratio`` of
what may be rewritten, or when its oldest record is older than ``max_compaction_lag_ms``.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from logbroker.config import INT64_MAX, TopicConfig
from logbroker.model import NO_TIMESTAMP, SegmentInfo

COMPACT: Final = "compact"
"""In ``cleanup_policy``."""


def seals_after_ms(config: TopicConfig) -> int:
    """The age at which an active segment is sealed; only a sealed one can be compacted in time."""
    return min(config.segment_ms, config.max_compaction_lag_ms) if COMPACT in config.cleanup_policy else config.segment_ms


class Plan(NamedTuple):
    """What to compact."""

    dirty_from: int
    sources: tuple[SegmentInfo, ...]
    """From the first of the log on."""
    dirty_ratio: float
    is_due: bool
    """Whether to do it now."""


def plan(
    segments: Sequence[SegmentInfo],
    config: TopicConfig,
    dirty_from: int,
    limit: int,
    now_ms: int,
    dated: Callable[[SegmentInfo], int],
    first_timestamp: Callable[[SegmentInfo], int],
) -> Plan | None:
    """What to compact of ``segments``, none that reaches past ``limit``; None if there is nothing new.

    ``dated`` tells of a segment how new it is, ``first_timestamp`` the timestamp of its first batch.
    """
    sources: list[SegmentInfo] = []
    for segment in segments:
        if segment.active or segment.next_offset > limit:
            break
        if config.min_compaction_lag_ms and now_ms - dated(segment) < config.min_compaction_lag_ms:
            break
        sources.append(segment)
    dirty = [segment for segment in sources if segment.next_offset > dirty_from]
    dirty_bytes = sum(segment.size_bytes for segment in dirty)
    if not dirty_bytes:
        return None
    ratio = dirty_bytes / sum(segment.size_bytes for segment in sources)
    overdue = config.max_compaction_lag_ms < INT64_MAX and any(
        NO_TIMESTAMP < first_timestamp(segment) < now_ms - config.max_compaction_lag_ms for segment in dirty
    )
    is_due = ratio > config.min_cleanable_dirty_ratio or overdue
    return Plan(dirty_from, tuple(sources), ratio, is_due)
