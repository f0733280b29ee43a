"""The main job on real input: every flight in, and the same flights out again."""

import pytest

from logbroker.cli.flight_data import Flight, Tally, flights_file, read_flights
from logbroker.cli.flights import FLIGHTS, SINCE_MS
from tests.cli.conftest import CommandLine


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_flights_go_in_and_come_out_equal_and_in_order(logbroker: CommandLine) -> None:
    done = logbroker("demo", "flights", "-o", "json")
    assert done.code == 0, done.err
    result = done.json
    assert result["records"] == FLIGHTS
    assert result["counts_equal"]
    assert result["order_and_content_equal"]
    assert result["counts_from_time_equal"]
    carriers = {row["carrier"]: row for row in result["carriers"]}
    assert len(carriers) == 16
    assert carriers["UA"]["replayed"] == carriers["UA"]["in_file"] == 58_665
    assert 0 < carriers["UA"]["replayed_since_july"] < 58_665
    again = logbroker("demo", "flights")
    assert (again.code, again.err.split(":")[0]) == (5, "error[TOPIC_ALREADY_EXISTS]")


def test_the_first_row_of_the_file_is_the_first_scheduled_departure() -> None:
    first = next(iter(read_flights(flights_file())))
    assert first.carrier == "UA"
    assert first.timestamp_ms == 1_357_035_300_000  # 2013-01-01 05:15 in New York, which is 10:15 UTC
    assert first.row["tailnum"] == "N14228"
    assert first.row["dep_delay"] == 2


def flight(number: int, timestamp_ms: int = SINCE_MS) -> Flight:
    return Flight("UA", timestamp_ms, {"flight": number, "carrier": "UA"})


def tally(*flights: Flight) -> Tally:
    counted = Tally(SINCE_MS)
    for one in flights:
        counted.add(one)
    return counted


def test_a_tally_sees_what_counts_alone_do_not() -> None:
    whole = tally(flight(1), flight(2))
    assert tally(flight(1), flight(2)).digests() == whole.digests()
    for other in (tally(flight(2), flight(1)), tally(flight(1), flight(3)), tally(flight(1), flight(2, SINCE_MS - 1))):
        assert other.counts() == whole.counts()
        assert other.digests() != whole.digests()
    assert tally(flight(1), flight(2, SINCE_MS - 1)).since() == {"UA": 1}
