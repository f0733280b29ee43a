"""Lag as arithmetic: never negative, in time by the first unread record, with a status that says what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.groups.events import CommittedOffset
from logbroker.groups.lag import LagStatus, PartitionLag, first_unread_from, lag_of, lag_unknown, total
from logbroker.model import Bounds, OffsetAndTimestamp, TopicPartition

WHERE = TopicPartition("orders", 0)
NOW = 1_700_000_000_000


def lag(
    committed: int, unread: tuple[int, int] | None, *, start: int = 0, end: int = 10, commit_age: int = 0
) -> PartitionLag:
    """The lag; ``unread`` is offset and age of the first unread record."""
    found = None if unread is None else OffsetAndTimestamp(unread[0], NOW - unread[1])
    return lag_of(WHERE, CommittedOffset(WHERE, committed, -1, None, NOW - commit_age), Bounds(start, end, end), found, NOW)


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (lag(10, None), (0, 0, LagStatus.OK)),
        (lag(8, None), (0, 0, LagStatus.OK)),  # only control records or holes are left
        (lag(7, (7, 500)), (3, 500, LagStatus.OK)),
        (lag(5, (8, 500)), (2, 500, LagStatus.OK)),  # 5 to 7 are holes
        (lag(7, (7, 60_001)), (3, 60_001, LagStatus.WARN)),
        (lag(7, (7, 60_001), commit_age=60_001), (3, 60_001, LagStatus.STOP)),
        (lag(7, (7, 500), commit_age=10**9), (3, 500, LagStatus.OK)),  # it was idle, and now there is a record
        (lag(10, None, commit_age=10**9), (0, 0, LagStatus.OK)),
        (lag(2, (4, 500), start=4), (6, 500, LagStatus.OUT_OF_RANGE)),
        (lag(11, None), (0, 0, LagStatus.OUT_OF_RANGE)),
        (lag(7, (7, -5_000)), (3, 0, LagStatus.OK)),  # a timestamp of the future
        (lag(7, (7, NOW + 1)), (3, None, LagStatus.OK)),  # a record without timestamp
    ],
)
def test_lag_and_status(measured: PartitionLag, expected: tuple[int, int | None, LagStatus]) -> None:
    assert (measured.lag, measured.lag_ms, measured.status) == expected


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(-10, 10**6))
def test_a_lag_is_never_negative(committed: int, start: int, length: int, skipped: int, age: int) -> None:
    bounds = Bounds(start, start + length, start + length)
    first = first_unread_from(committed, bounds) + skipped
    unread = (first, age) if first < bounds.high_watermark else None
    measured = lag(committed, unread, start=start, end=bounds.high_watermark)
    assert measured.lag is not None
    assert measured.lag >= 0
    assert measured.lag_ms is not None
    assert measured.lag_ms >= 0


def test_a_total_is_the_sum_the_largest_and_the_worst() -> None:
    unknown = lag_unknown(WHERE, None, Bounds(0, 5, 5), LagStatus.NO_OFFSET)
    whole = total([lag(7, (7, 500)), unknown, lag(9, (9, 70_000)), lag(10, None)])
    assert whole == (4, 70_000, LagStatus.WARN)
    assert total([]) == (0, 0, LagStatus.OK)
