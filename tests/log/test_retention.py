"""Retention: which segments go as a table, and what a log makes of it."""

import pytest

from logbroker.config import DAY_MS, INT64_MAX, TopicConfig
from logbroker.log.files import Files
from logbroker.log.names import LOG, file_name
from logbroker.log.retention import Changed, Retained, expired
from logbroker.model import Now, SegmentInfo
from logbroker.records.batch import HEADER_SIZE, parse_header, sealed_header
from tests.log.helpers import NOW, PATH, append, batch, filled, flush, open_log, read_all, values


def changed_at(changed_ms: int) -> Changed:
    """All files were last changed then."""
    return lambda _: changed_ms


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
    assert [one.base_offset for one in expired(SEGMENTS, 350, config, now_ms, floor, changed_at(now_ms))] == expected


@pytest.mark.parametrize("stamped", [-1, 5001, 2**62])
def test_a_segment_without_timestamps_or_with_one_from_the_future_is_as_old_as_its_file(stamped: int) -> None:
    segments = [SegmentInfo(0, 10, 100, stamped, False)]
    assert expired(segments, 200, TopicConfig(retention_ms=1000), 5000, 99, changed_at(4000)) == []
    assert expired(segments, 200, TopicConfig(retention_ms=1000), 5000, 99, changed_at(3999)) == segments


def test_what_is_kept_until_it_is_acknowledged_is_not_limited_by_size() -> None:
    acked = TopicConfig(retention_ms=1000, retention_bytes=0, retention="acked")
    assert expired(SEGMENTS, 350, acked, 2000, 99, changed_at(2000)) == []
    assert expired(SEGMENTS, 350, acked, 9000, 20, changed_at(0)) == SEGMENTS[:2]


def test_an_empty_segment_stays() -> None:
    assert expired([SegmentInfo(5, 5, 0, -1, True)], 0, TopicConfig(retention_bytes=0), 10**9, 99, changed_at(0)) == []


def test_no_more_segments_are_looked_at_than_needed() -> None:
    segments = iter(SEGMENTS)
    assert expired(segments, 350, TopicConfig(retention_ms=1000), 2001, 99, changed_at(2001)) == SEGMENTS[:2]
    assert list(segments) == SEGMENTS[3:]


# -- in a log ---------------------------------------------------------------------------------------------------------


def test_retention_by_time_drops_whole_segments_by_their_largest_timestamp(files: Files) -> None:
    log = filled(files, retention_ms=300_000)
    now = Now(NOW.wall_ms + 8 * 60_000, 0)
    assert log.retain(now, 100) == Retained(0, 3, 3)
    assert log.log_start_offset == 3
    assert log.retain(now, 100) is None


def test_retention_by_size_keeps_at_least_that_much(files: Files) -> None:
    log = filled(files)
    size = log.size_bytes // 10
    log.configure(log.config.__class__(retention_bytes=size * 4 + 1, segment_bytes=14))
    assert log.retain(NOW, 100) == Retained(0, 5, 5)
    assert log.size_bytes == size * 5


def test_retention_stops_at_the_floor(files: Files) -> None:
    log = filled(files, retention_ms=1)
    assert log.retain(Now(NOW.wall_ms + DAY_MS, 0), 3) == Retained(0, 3, 3)
    assert log.log_start_offset == 3


def test_retention_takes_the_active_segment_when_all_of_it_is_expired(files: Files) -> None:
    log = open_log(files, NOW, retention_ms=1000)
    append(log, b"a")
    flush(log)
    assert log.retain(Now(NOW.wall_ms + 2000, 2000), 100) == Retained(0, 1, 1)
    assert (log.log_start_offset, log.end_offset, log.size_bytes) == (1, 1, 0)
    assert log.retain(Now(NOW.wall_ms + 3000, 3000), 100) is None


def test_retention_by_count_keeps_exactly_so_many_and_the_files_follow(files: Files) -> None:
    log = open_log(files, max_messages=4, segment_bytes=200)
    for number in range(3):
        append(log, b"%da" % number, b"%db" % number, b"%dc" % number)
        log.roll(NOW)
    flush(log)
    assert log.retain(NOW, 100) == Retained(0, 5, 5)
    assert values(read_all(log)) == [b"1c", b"2a", b"2b", b"2c"]
    assert [one.base_offset for one in log.segments()] == [3, 6, 9]
    assert log.retain(NOW, 100) is None
    append(log, b"more")
    assert log.retain(NOW, 5) is None
    assert log.retain(NOW, 100) == Retained(5, 6, 1)
    log.close()
    assert open_log(files).log_start_offset == 6


def test_a_topic_that_keeps_what_is_not_acknowledged_goes_by_time_alone(files: Files) -> None:
    log = filled(files, retention="acked", max_messages=1, retention_bytes=0, retention_ms=300_000)
    assert log.retain(NOW, 100) is None
    assert log.retain(Now(NOW.wall_ms + 8 * 60_000, 0), 2) == Retained(0, 2, 2)


@pytest.mark.parametrize("stamp", [NOW.wall_ms + 10 * 365 * DAY_MS, INT64_MAX - 1])
def test_a_timestamp_from_the_future_keeps_a_segment_for_its_time_and_no_longer(files: Files, stamp: int) -> None:
    log = open_log(files, retention_ms=1000, message_timestamp_after_max_ms=INT64_MAX)
    append(log, b"early", timestamp_ms=stamp)
    log.roll(NOW)
    append(log, b"later")
    flush(log)
    files.date(f"{PATH}/{file_name(0, LOG)}", stamp if stamp < 2**42 else NOW.wall_ms + DAY_MS)
    assert log.retain(Now(NOW.wall_ms + 1000, 0), 1) is None, "it is dated now"
    assert log.retain(Now(NOW.wall_ms + 2000, 0), 1) is None
    assert log.retain(Now(NOW.wall_ms + 2001, 0), 1) == Retained(0, 1, 1)


def test_a_segment_without_timestamps_is_as_old_as_its_file(files: Files) -> None:
    log = open_log(files, retention_ms=1000)
    header = parse_header(batch(b"undated"))._replace(base_timestamp=-1, max_timestamp=-1)
    records = batch(b"undated")[HEADER_SIZE:]
    log.append(sealed_header(header, records) + records, NOW)
    flush(log)
    files.date(f"{PATH}/{file_name(0, LOG)}", NOW.wall_ms)
    assert log.retain(Now(NOW.wall_ms + 1000, 0), 1) is None
    assert log.retain(Now(NOW.wall_ms + 1001, 0), 1) == Retained(0, 1, 1)


def test_a_clock_that_is_put_back_does_not_keep_a_segment_from_being_rolled(files: Files) -> None:
    log = open_log(files, segment_ms=1000)
    append(log, b"a", now=Now(NOW.wall_ms + 10 * 365 * DAY_MS, 0), timestamp_ms=NOW.wall_ms)
    log.roll_if_due(NOW)
    assert len(log.segments()) == 1
    log.roll_if_due(Now(NOW.wall_ms + 1000, 1000))
    assert len(log.segments()) == 2
