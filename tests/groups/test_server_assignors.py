"""The assignors of consumer groups: uniform is even and moves as little as it can, range keeps topics together."""

import time
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from logbroker.groups.assignors import SERVER_ASSIGNORS, Assignments
from logbroker.groups.consumer_protocol import Subscription
from logbroker.model import TopicPartition

uniform, ranged = SERVER_ASSIGNORS["uniform"], SERVER_ASSIGNORS["range"]
members = st.sets(st.sampled_from([f"m{number}" for number in range(8)]), min_size=1)
counts = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 9), min_size=1)
some_topics = st.sets(st.sampled_from(["a", "b", "c"])).map(sorted).map(tuple)


def subscribed(names: Mapping[str, tuple[str, ...]], last: Assignments) -> dict[str, Subscription]:
    return {member: Subscription(topics, tuple(sorted(last.get(member, ())))) for member, topics in names.items()}


def alike(names: set[str], topics: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(names, tuple(sorted(topics)))


def moved(before: Assignments, after: Assignments) -> int:
    owners = {at: member for member, found in before.items() for at in found}
    return sum(owners.get(at, member) != member for member, found in after.items() for at in found)


def fewest_moves(before: Assignments, total: int, names: set[str]) -> int:
    """Of members alike: what those that are there have above an even share, the larger shares going to who has most."""
    low, larger = divmod(total, len(names))
    loads = sorted((len(before.get(member, ())) for member in names), reverse=True)
    caps = [low + (place < larger) for place in range(len(loads))]
    orphans = sum(len(found) for member, found in before.items() if member not in names)
    return sum(max(load - cap, 0) for load, cap in zip(loads, caps, strict=True)) + orphans


@given(members, members, counts)
def test_uniform_is_even_within_one_and_moves_as_little_as_possible(
    first: set[str], second: set[str], topics: dict[str, int]
) -> None:
    before = uniform(subscribed(alike(first, topics), {}), topics)
    after = uniform(subscribed(alike(second, topics), before), topics)
    loads = [len(after[member]) for member in second]
    assert max(loads) - min(loads) <= 1
    assert moved(before, after) == fewest_moves(before, sum(topics.values()), second)
    assert uniform(subscribed(alike(second, topics), after), topics) == after


@given(st.dictionaries(st.sampled_from(["m1", "m2", "m3", "m4"]), some_topics, min_size=1), counts, st.data())
def test_every_partition_has_one_owner_that_wants_it(
    names: dict[str, tuple[str, ...]], topics: dict[str, int], data: st.DataObject
) -> None:
    assignor = data.draw(st.sampled_from([uniform, ranged]))
    last = assignor(subscribed(names, {}), topics)
    for _ in range(2):
        given_out = [at for found in last.values() for at in found]
        wanted = {topic for mine in names.values() for topic in mine}
        assert sorted(given_out) == sorted(
            TopicPartition(topic, n) for topic, count in topics.items() if topic in wanted for n in range(count)
        )
        assert all(at.topic in names[member] for member, found in last.items() for at in found)
        names = {member: data.draw(some_topics) for member in names}
        last = assignor(subscribed(names, last), topics)


@given(members, st.integers(1, 9))
def test_range_gives_partitions_of_one_number_to_one_member(names: set[str], partitions: int) -> None:
    topics = {"a": partitions, "b": partitions}
    for found in ranged(subscribed(alike(names, topics), {}), topics).values():
        assert {at.partition for at in found if at.topic == "a"} == {at.partition for at in found if at.topic == "b"}


def test_ten_thousand_partitions_are_shared_out_anew_in_no_time() -> None:
    topics = {"a": 10_000}
    first = uniform(subscribed(alike({"m1"}, topics), {}), topics)
    started = time.perf_counter()
    second = uniform(subscribed(alike({"m1", "m2"}, topics), first), topics)
    assert time.perf_counter() - started < 1
    assert {len(found) for found in second.values()} == {5_000}
