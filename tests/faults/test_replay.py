"""No crash takes back what a whole broker has promised, whatever part of the rest the disk kept.

Records, commits, messages, leases, topics: all short lives at every crash point, and long random ones.
"""

import random

import pytest

from tests.faults.life import SHORT
from tests.faults.replay import replay_random, replay_short, short_workloads
from tests.faults.scale import scaled

LENGTH = scaled(1, 2)
RANDOM_STATES = scaled(600, 2_000)


@pytest.mark.timeout(600)
def test_no_crash_in_any_short_life_breaks_a_promise() -> None:
    tally = replay_short(LENGTH, seed=1)
    assert tally.violations == [], tally.summary()
    assert set(tally.states) == set("abcdefghi"), f"a class was not met: {tally.summary()}"
    assert tally.states.total() > 500 * LENGTH**3


@pytest.mark.timeout(600)
def test_no_crash_in_a_long_random_life_breaks_a_promise() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    tally = replay_random(RANDOM_STATES, seed)
    assert tally.violations == [], f"seed {seed}: {tally.summary()}"
    assert tally.states["c"] > RANDOM_STATES / 4


def test_short_workloads_are_all_there_are_but_for_deletions_of_nothing() -> None:
    steps = len(SHORT)
    assert len(list(short_workloads(1))) == steps - 1
    assert ("create", "delete") in set(short_workloads(2))
    assert ("delete", "create") not in set(short_workloads(2))
    assert len(list(short_workloads(2))) == (steps - 1) ** 2 + 1
