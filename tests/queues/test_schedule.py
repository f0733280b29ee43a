"""The due-time index, the schedule by id, and what is worth rewriting."""

from hypothesis import given
from hypothesis import strategies as st

from logbroker.config import MIB
from logbroker.queues.offset_ranges import OffsetRanges
from logbroker.queues.schedule import DueIndex, Schedule, worth_rewriting

HOUR = 3_600_000


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 2**63 - 1)), unique=True), st.integers(0, 60))
def test_due_entries_come_by_due_time_then_by_identity(entries: list[tuple[int, int]], now: int) -> None:
    index = DueIndex()
    for due, identity in entries:
        index.add(due, identity)
    assert list(index.due(now)) == sorted(entry for entry in entries if entry[0] <= now)
    assert index.first_due() == min((due for due, _ in entries), default=None)


def test_a_long_delay_does_not_hold_back_a_short_one() -> None:
    schedule = Schedule()
    schedule.put(1, HOUR, 0)
    for n in range(100):
        schedule.put(2 + n, 1_000, 1 + n)
    assert [offset for _, offset in schedule.waiting.due(1_000)] == list(range(1, 101))


def test_a_message_is_found_by_its_id_until_it_is_forgotten() -> None:
    schedule = Schedule()
    schedule.put(7, 500, 3)
    schedule.take(7)
    assert schedule.find(7) == (500, 3)
    assert list(schedule.waiting) == []
    schedule.forget(7, 3)
    assert schedule.find(7) is None


def test_forgetting_the_old_place_leaves_the_new_one() -> None:
    schedule = Schedule()
    schedule.put(7, 500, 3)
    schedule.take(7)
    schedule.put(7, 900, 4)
    schedule.forget(7, 3)
    assert schedule.find(7) == (900, 4)
    assert list(schedule.waiting) == [(900, 4)]


def test_a_purge_forgets_what_stands_below_an_offset() -> None:
    schedule = Schedule()
    for offset in range(5):
        schedule.put(offset * 2 + 1, 1000 - offset, offset)
    schedule.take(3)
    schedule.forget_below(3)
    assert [schedule.find(first) for first in (1, 3, 5)] == [None] * 3
    assert list(schedule.waiting) == [(996, 4), (997, 3)]
    assert schedule.at(4) == [9]


def test_a_message_waits_in_one_place_only() -> None:
    schedule = Schedule()
    schedule.put(7, 500, 3)
    schedule.put(7, 900, 4)
    assert list(schedule.waiting) == [(900, 4)]


def finished(*spans: tuple[int, int]) -> OffsetRanges:
    ranges = OffsetRanges()
    for span in spans:
        ranges.add(*span)
    return ranges


def test_a_waiting_message_that_alone_keeps_more_than_64_mib_alive_is_worth_rewriting() -> None:
    behind = finished((1, 1 + 64 * 1024 + 1))
    assert worth_rewriting(behind, 70_000, 1024, limit=100) == [0]


def test_less_than_64_mib_is_not_worth_it() -> None:
    assert worth_rewriting(finished((1, 1 + 64 * 1024)), 70_000, 1024, limit=100) == []
    assert worth_rewriting(finished(), 70_000, 1024, limit=100_000) == []


def test_a_few_long_delays_that_together_keep_it_alive_are_rewritten_together() -> None:
    assert worth_rewriting(finished((3, 5), (7, 100_000)), 100_000, 1024, limit=100) == [0, 1, 2, 5, 6]


def test_more_is_never_written_than_half_of_what_is_freed() -> None:
    mostly_open = finished(*((n, n + 1) for n in range(1, 3_000, 2)))
    assert worth_rewriting(mostly_open, 3_000, MIB, limit=10_000) == []
    assert worth_rewriting(finished((50_000, 200_000)), 200_000, 1024, limit=100) == []
