"""Priorities as bands of partitions."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.queues.bands import BandChoice, PriorityMode, band_of, partition_for, partitions_of
from logbroker.records.partitioner import partition_for_key


@given(st.one_of(st.none(), st.binary(max_size=8)), st.integers(0, 99), st.integers(1, 10), st.integers(1, 5), st.data())
def test_a_message_lands_in_its_band_and_the_band_survives_growth(
    key: bytes | None, turn: int, priorities: int, width: int, data: st.DataObject
) -> None:
    priority = data.draw(st.integers(0, priorities - 1))
    partition = partition_for(key, turn, priority, priorities, priorities * width)
    assert partition in partitions_of(priority, priorities, priorities * width)
    assert band_of(partition, priorities) == priority
    assert partition in partitions_of(priority, priorities, priorities * width * 3)


def test_without_priorities_a_key_lands_where_every_kafka_client_puts_it() -> None:
    keys = [b"k%d" % n for n in range(100)]
    assert [partition_for(key, 0, 0, 1, 7) for key in keys] == [partition_for_key(key, 7) for key in keys]


def test_without_a_key_the_partitions_of_a_band_take_turns() -> None:
    assert [partition_for(None, turn, 1, 3, 9) for turn in range(4)] == [1, 4, 7, 1]


def test_strict_serves_the_highest_that_has_something() -> None:
    choice = BandChoice(PriorityMode.STRICT, 5)
    assert [choice.choose(bands) for bands in ([0, 4, 2], [0, 2], [0])] == [4, 2, 0]


@pytest.mark.parametrize("bands", [(0, 1, 2), (0, 2), (1,)])
def test_weighted_serves_in_proportion_and_starves_none(bands: tuple[int, ...]) -> None:
    choice = BandChoice(PriorityMode.WEIGHTED, 3)
    rounds = sum(band + 1 for band in bands)
    counted = Counter(choice.choose(bands) for _ in range(rounds * 10))
    assert counted == {band: 10 * (band + 1) for band in bands}
