"""The memory of all connections together: what it lets through, and that nobody stands still for ever."""

import pytest

from logbroker.broker.in_flight import LEAST, InFlight
from logbroker.errors import Throttled
from logbroker.metrics import Metrics

LIMIT = 1 << 20


@pytest.fixture
def in_flight() -> InFlight:
    return InFlight(LIMIT, Metrics())


def test_answers_get_smaller_as_it_gets_full_but_never_nothing(in_flight: InFlight) -> None:
    assert in_flight.grant(LIMIT // 2) == LIMIT // 2
    in_flight.changed(0, LIMIT - 100_000)
    assert in_flight.grant(LIMIT // 2) == 100_000
    in_flight.changed(0, 1 << 30)
    assert in_flight.grant(LIMIT // 2) == LEAST
    assert in_flight.grant(10) == 10


def test_requests_are_refused_when_it_is_full(in_flight: InFlight) -> None:
    in_flight.take(LIMIT)
    with pytest.raises(Throttled, match="max_in_flight_bytes"):
        in_flight.take(1)
    in_flight.changed(LIMIT, 0)
    in_flight.take(1)


def test_when_it_is_full_one_large_request_at_a_time_goes_on(in_flight: InFlight) -> None:
    one, other = object(), object()
    assert in_flight.may_grow(one)
    in_flight.changed(0, LIMIT)
    assert in_flight.may_grow(one)
    assert not in_flight.may_grow(other)
    assert in_flight.may_grow(one)
    in_flight.has_grown(other)
    assert not in_flight.may_grow(other)
    in_flight.has_grown(one)
    assert in_flight.may_grow(other)
