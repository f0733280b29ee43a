"""Retry policies against tables."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logbroker.queues.redelivery import GiveUp, Retry, RetryKind, RetryPolicy, after_failure, last_attempt, spread

EXPONENTIAL = RetryPolicy(jitter=0)


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (EXPONENTIAL, [100, 200, 400, 800, 1600]),
        (RetryPolicy(jitter=0, max_ms=300), [100, 200, 300, 300]),
        (RetryPolicy(jitter=0, factor=1.5), [100, 150, 225, 338]),
        (RetryPolicy(RetryKind.NONE), [0, 0, 0]),
        (RetryPolicy(RetryKind.FIXED, initial_ms=250, jitter=0), [250, 250, 250]),
        (RetryPolicy(RetryKind.LINEAR, initial_ms=250, jitter=0), [250, 500, 750]),
        (RetryPolicy(RetryKind.LINEAR, initial_ms=250, jitter=0, max_ms=600), [250, 500, 600]),
        (RetryPolicy(RetryKind.LIST, delays_ms=(5, 70, 9), jitter=0), [5, 70, 9, 9, 9]),
        (RetryPolicy(RetryKind.LIST, delays_ms=(5, 70), jitter=0, max_ms=50), [5, 50, 50]),
    ],
)
def test_the_delay_after_each_failure_follows_the_policy(policy: RetryPolicy, delays: list[int]) -> None:
    assert [policy.delay_ms(n, 0.999) for n in range(1, len(delays) + 1)] == delays


def test_jitter_comes_on_top_of_the_cap() -> None:
    policy = RetryPolicy(max_ms=1000, jitter=0.5)
    assert [policy.delay_ms(n, 0.5) for n in (1, 2, 20)] == [125, 250, 1250]


@given(st.sampled_from(RetryKind), st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(1, 100))
def test_jitter_only_adds_and_never_more_than_its_share(kind: RetryKind, n: int, u: float, factor: float) -> None:
    policy = RetryPolicy(kind, factor=factor, jitter=0.3, delays_ms=(10, 20))
    plain = policy.delay_ms(n, 0)
    assert plain <= policy.delay_ms(n, u) <= plain * 1.3 + 1


def test_the_ten_thousandth_failure_waits_the_maximum() -> None:
    assert EXPONENTIAL.delay_ms(10_000, 0) == 60_000


@pytest.mark.parametrize(
    ("max_attempts", "failures", "verdict"),
    [(3, 1, Retry(100)), (3, 2, Retry(200)), (3, 3, GiveUp()), (1, 1, GiveUp()), (None, 10_000, Retry(60_000))],
)
def test_attempts_end_at_the_limit(max_attempts: int | None, failures: int, verdict: object) -> None:
    assert after_failure(EXPONENTIAL, max_attempts, failures, 0) == verdict


def test_a_consumers_own_delay_is_taken_as_it_is() -> None:
    assert after_failure(RetryPolicy(jitter=1), 10, 3, 0.9, delay_ms=5) == Retry(5)
    assert after_failure(RetryPolicy(jitter=1), 10, 3, 0.9, delay_ms=0) == Retry(0)


def test_a_consumers_own_delay_does_not_lift_the_limit() -> None:
    assert after_failure(EXPONENTIAL, 3, 3, 0, delay_ms=5) == GiveUp()


@pytest.mark.parametrize(
    ("max_attempts", "failures", "last"), [(3, 1, False), (3, 2, True), (1, 0, True), (None, 99, False)]
)
def test_the_last_attempt_is_the_one_whose_failure_ends_it(max_attempts: int | None, failures: int, last: bool) -> None:
    assert last_attempt(max_attempts, failures) is last


def test_the_spread_of_neighbouring_numbers_is_even() -> None:
    drawn = sorted(spread(n) for n in range(1000))
    assert all(0 <= u < 1 for u in drawn)
    assert max(b - a for a, b in pairwise(drawn)) < 0.003
