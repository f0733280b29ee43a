"""The assignors the broker runs: what they hand out, and what they never do."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.errors import InvalidRequest
from logbroker.groups.assignors import ASSIGNORS, Assignments, assign
from logbroker.groups.consumer_protocol import Subscription
from logbroker.model import TopicPartition

ALL = st.sampled_from(sorted(ASSIGNORS))
topics = st.sampled_from(["a", "b", "c"])
counts = st.dictionaries(topics, st.integers(0, 7))
subscribing = st.dictionaries(
    st.sampled_from([f"m{number}" for number in range(6)]), st.sets(topics).map(sorted).map(tuple), min_size=1
)


def subscribed(wanted: Mapping[str, tuple[str, ...]]) -> dict[str, Subscription]:
    return {member: Subscription(names) for member, names in wanted.items()}


def keeping(
    assignments: Assignments, wanted: Mapping[str, tuple[str, ...]], generation: int = 1
) -> dict[str, Subscription]:
    """The members join again with what they have."""
    return {
        member: Subscription(names, tuple(sorted(assignments.get(member, ()))), generation)
        for member, names in wanted.items()
    }


def numbers(assignments: Assignments) -> dict[str, list[str]]:
    return {member: [f"{topic}{n}" for topic, n in sorted(found)] for member, found in assignments.items()}


def test_range_gives_contiguous_ranges_and_the_rest_to_the_first() -> None:
    wanted = subscribed({"m1": ("a", "b"), "m2": ("a", "b")})
    assert numbers(assign("range", wanted, {"a": 3, "b": 2})) == {"m1": ["a0", "a1", "b0"], "m2": ["a2", "b1"]}


def test_round_robin_passes_over_members_that_are_not_subscribed() -> None:
    wanted = subscribed({"m1": ("a", "b"), "m2": ("b",)})
    assert numbers(assign("roundrobin", wanted, {"a": 2, "b": 3})) == {"m1": ["a0", "a1", "b1"], "m2": ["b0", "b2"]}


def test_sticky_moves_only_what_evens_out() -> None:
    before = assign("sticky", subscribed({"m1": ("a",), "m2": ("a",)}), {"a": 6})
    after = assign("sticky", keeping(before, {"m1": ("a",), "m2": ("a",), "m3": ("a",)}), {"a": 6})
    assert [len(after[member]) for member in ("m1", "m2", "m3")] == [2, 2, 2]
    assert after["m1"] <= before["m1"]
    assert after["m2"] <= before["m2"]


def test_of_two_members_that_claim_a_partition_the_later_generation_is_right() -> None:
    held = (TopicPartition("a", 0), TopicPartition("a", 1))
    wanted = {"m1": Subscription(("a",), held, 3), "m2": Subscription(("a",), held[:1], 4)}
    assert numbers(assign("sticky", wanted, {"a": 2})) == {"m1": ["a1"], "m2": ["a0"]}


def test_cooperative_withholds_what_changes_hands_until_it_is_free() -> None:
    wanted = {"m1": ("a",), "m2": ("a",)}
    first = assign("cooperative-sticky", subscribed({"m1": ("a",)}), {"a": 4})
    second = assign("cooperative-sticky", keeping(first, wanted), {"a": 4})
    assert numbers(second) == {"m1": ["a0", "a1"], "m2": []}
    third = assign("cooperative-sticky", keeping(second, wanted, 2), {"a": 4})
    assert numbers(third) == {"m1": ["a0", "a1"], "m2": ["a2", "a3"]}


def test_an_unknown_assignor_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="range"):
        assign("best", {}, {})


@given(ALL, subscribing, counts)
def test_every_partition_goes_to_exactly_one_subscriber(
    name: str, wanted: dict[str, tuple[str, ...]], sizes: dict[str, int]
) -> None:
    assignments = assign(name, subscribed(wanted), sizes)
    handed_out = sorted(at for found in assignments.values() for at in found)
    read = {topic for names in wanted.values() for topic in names}
    assert handed_out == [TopicPartition(topic, number) for topic in sorted(read) for number in range(sizes.get(topic, 0))]
    assert all(at.topic in wanted[member] for member, found in assignments.items() for at in found)
    assert assignments.keys() == wanted.keys()


@given(ALL, subscribing, counts)
def test_the_order_in_which_members_come_makes_no_difference(
    name: str, wanted: dict[str, tuple[str, ...]], sizes: dict[str, int]
) -> None:
    backwards = dict(reversed(wanted.items()))
    assert assign(name, subscribed(wanted), sizes) == assign(name, subscribed(backwards), sizes)


@given(st.sampled_from(["sticky", "roundrobin", "cooperative-sticky"]), st.integers(1, 9), counts)
def test_members_with_one_subscription_differ_by_one_partition_at_most(name: str, size: int, sizes: dict[str, int]) -> None:
    wanted = {f"m{number}": ("a", "b", "c") for number in range(size)}
    loads = [len(found) for found in assign(name, subscribed(wanted), sizes).values()]
    assert max(loads) - min(loads) <= 1


@given(subscribing, subscribing, counts, counts)
def test_sticky_leaves_nobody_two_ahead_of_one_who_could_take_over(
    before: dict[str, tuple[str, ...]],
    after: dict[str, tuple[str, ...]],
    sizes: dict[str, int],
    new_sizes: dict[str, int],
) -> None:
    first = assign("sticky", subscribed(before), sizes)
    second = assign("sticky", keeping(first, after), new_sizes)
    for giver, found in second.items():
        for at in found:
            takers = [len(second[member]) for member, names in after.items() if at.topic in names and member != giver]
            assert all(len(found) - load < 2 for load in takers)


@given(subscribing, counts)
def test_sticky_changes_nothing_when_nothing_changed(wanted: dict[str, tuple[str, ...]], sizes: dict[str, int]) -> None:
    first = assign("sticky", subscribed(wanted), sizes)
    assert assign("sticky", keeping(first, wanted), sizes) == first


@given(subscribing, subscribing, counts)
def test_cooperative_never_gives_away_what_another_still_holds_and_ends_like_sticky(
    before: dict[str, tuple[str, ...]], after: dict[str, tuple[str, ...]], sizes: dict[str, int]
) -> None:
    held = assign("sticky", subscribed(before), sizes)
    second = assign("cooperative-sticky", keeping(held, after), sizes)
    for member, found in second.items():
        others = {
            at
            for other, theirs in held.items()
            if other != member and other in after
            for at in theirs
            if at.topic in after[other]
        }
        assert not found & others
    read = {topic for names in after.values() for topic in names}
    found_all = sum(sizes.get(topic, 0) for topic in read)
    for generation in range(2, 2 + len(after)):  # where subscriptions differ, what was let go of may make others move
        second = assign("cooperative-sticky", keeping(second, after, generation), sizes)
        if sum(map(len, second.values())) == found_all:
            break
    assert sum(map(len, second.values())) == found_all
