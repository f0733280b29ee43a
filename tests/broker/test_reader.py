"""Where one member reads: generations, what was given, seeks and pauses."""

from logbroker.broker.fetch import Fetched, Start
from logbroker.broker.reader import Reader
from logbroker.model import Bounds, StoredRecord, TopicPartition

A, B, C = (TopicPartition("t", number) for number in range(3))


def reader() -> Reader:
    """One that stands in generation 1 and has been given records of A."""
    one = Reader("earliest", 45_000, 0)
    one.begin(1, {A: 5}, {B: 0})
    one.give([Start(A, 5)], [fetched(A, 5, 6)])
    return one


def fetched(where: TopicPartition, *offsets: int) -> Fetched:
    records = [StoredRecord(offset, 0, None, b"") for offset in offsets]
    return Fetched(where, records, offsets[-1] + 1, Bounds(0, 100, 100), False, len(records))


def test_a_position_that_nobody_committed_yet_counts_as_given() -> None:
    one = Reader("earliest", 45_000, 0)
    one.begin(1, {A: 5}, {B: 0})
    assert one.positions == {A: 5, B: 0}
    assert one.given == {B: 0}


def test_a_new_generation_starts_at_what_is_committed_and_commits_nothing_of_the_old_one() -> None:
    one = reader()
    assert (one.positions[A], one.given) == (7, {A: 7, B: 0})
    one.paused = {A, B}
    one.sought = {A}
    one.begin(2, {A: 5, C: 9}, {})
    assert one.positions == {A: 5, C: 9}
    assert one.given == {}
    assert one.sought == set()
    assert one.paused == {A}


def test_a_generation_starts_once() -> None:
    one = reader()
    one.seek({A: 2})
    one.begin(1, {A: 5}, {B: 0})
    assert one.positions == {A: 2, B: 0}


def test_what_was_read_from_where_the_member_no_longer_stands_is_not_given() -> None:
    one = reader()
    starts = one.starts()
    one.seek({A: 2})
    one.paused.add(B)
    assert one.give(starts, [fetched(A, 7), fetched(B, 0)]) == []
    assert one.positions == {A: 2, B: 0}


def test_positions_move_over_offsets_without_records_and_nothing_is_given_for_them() -> None:
    one = reader()
    one.given.clear()
    empty = Fetched(A, [], 9, Bounds(0, 9, 9), False, 0)
    assert one.give([Start(A, 7)], [empty]) == []
    assert (one.positions[A], one.given) == (9, {})


def test_a_commit_settles_what_it_covers() -> None:
    one = reader()
    one.committed(A, 6)
    assert one.given == {A: 7, B: 0}
    one.committed(A, 7)
    assert one.given == {B: 0}


def test_partitions_take_turns_at_the_front_and_paused_ones_are_left_out() -> None:
    one = Reader("earliest", 45_000, 0)
    one.begin(1, {A: 0, B: 0, C: 0}, {})
    fronts = [one.starts()[0].where for _ in range(6)]
    assert fronts == [A, B, C, A, B, C]
    one.paused = {B}
    assert {start.where for start in one.starts()} == {A, C}
    one.paused = {A, B, C}
    assert one.starts() == []
