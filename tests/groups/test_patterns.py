"""Patterns are RE2's: whole names, linear time, and what would take much memory is refused."""

import time

import pytest

from logbroker.errors import InvalidRegularExpression
from logbroker.groups.patterns import check_pattern, names_matching

NAMES = ["orders", "orders-eu", "payments", "my.orders"]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("orders", {"orders"}),
        ("orders.*", {"orders", "orders-eu"}),
        ("^orders$", {"orders"}),
        (".*orders|pay.*", {"orders", "my.orders", "payments"}),
        ("ORDERS", set()),
        ("(?i)ORDERS", {"orders"}),
    ],
)
def test_a_pattern_matches_whole_names(pattern: str, matched: set[str]) -> None:
    assert names_matching(pattern, NAMES) == matched


@pytest.mark.parametrize("pattern", ["a(", "(?=x)", "x\\1", "(a{1000}){1000}", "[[:nothing:]]"])
def test_what_re2_does_not_take_is_refused_with_a_reason(pattern: str) -> None:
    with pytest.raises(InvalidRegularExpression, match="RE2"):
        check_pattern(pattern)


def test_no_pattern_takes_long() -> None:
    started = time.perf_counter()
    assert names_matching("(a|a)*(a|aa)*(.*.*)*b", ["a" * 249] * 100) == frozenset()
    assert time.perf_counter() - started < 1
