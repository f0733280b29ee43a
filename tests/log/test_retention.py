"""Retention as a table: which segments go."""

import pytest

from logbroker.config import TopicConfig
from logbroker.log.retention import expired
from logbroker.model import SegmentInfo

SEGMENTS = [
    SegmentInfo(0, 10, 100, 1000, False),
    SegmentInfo(10, 20, 100, 500, False),
    SegmentInfo(20, 30, 100, 3000, False),
    SegmentInfo(30, 40, 50, 4000, True),
]


@pytest.mark.parametrize(
    ("retention_ms", "retention_bytes", "now_ms", "floor", "expected"),
    [
        (-1, -1, 10**9, 99, []),
        (1000, -1, 2000, 99, []),
        (1000, -1, 2001, 99, [0, 10]),
        (1000, -1, 4001, 99, [0, 10, 20]),
        (1000, -1, 5001, 99, [0, 10, 20, 30]),
        (1000, -1, 5001, 39, [0, 10, 20]),
        (1000, -1, 5001, 20, [0, 10]),
        (1000, -1, 5001, 9, []),
        (-1, 350, 0, 99, []),
        (-1, 251, 0, 99, []),
        (-1, 250, 0, 99, [0]),
        (-1, 0, 0, 99, [0, 10, 20, 30]),
        (1000, 250, 2001, 99, [0, 10]),
    ],
)
def test_a_prefix_of_whole_segments_goes(
    retention_ms: int, retention_bytes: int, now_ms: int, floor: int, expected: list[int]
) -> None:
    config = TopicConfig(retention_ms=retention_ms, retention_bytes=retention_bytes)
    assert [one.base_offset for one in expired(SEGMENTS, 350, config, now_ms, floor)] == expected


def test_a_segment_without_timestamps_is_not_dropped_by_time() -> None:
    segments = [SegmentInfo(0, 10, 100, -1, False), SegmentInfo(10, 20, 100, 1, True)]
    assert expired(segments, 200, TopicConfig(retention_ms=1), 10**9, 99) == []


def test_an_empty_segment_stays() -> None:
    assert expired([SegmentInfo(5, 5, 0, -1, True)], 0, TopicConfig(retention_bytes=0), 10**9, 99) == []


def test_no_more_segments_are_looked_at_than_needed() -> None:
    segments = iter(SEGMENTS)
    assert expired(segments, 350, TopicConfig(retention_ms=1000), 2001, 99) == SEGMENTS[:2]
    assert list(segments) == SEGMENTS[3:]
