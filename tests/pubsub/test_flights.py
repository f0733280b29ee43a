"""Ten subscriptions with ten filters over real flights: each gets exactly what judging every flight directly gives."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import msgspec
import pytest

from logbroker.broker.positions import AtTime
from logbroker.cli.flight_data import Flight, flights_file, read_flights
from logbroker.clock import ManualClock
from logbroker.filters import compile_filter
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import Header, Record, StoredRecord, TopicPartition
from logbroker.queues.dispatcher import Received
from tests.pubsub.shell import Reader, reading

pytestmark = pytest.mark.asyncio

COUNT = 3_000
PARTITIONS = 4
NOON_MS = 1_357_059_600_000  # 2013-01-01T17:00Z

Row = dict[str, Any]
FILTERS: dict[str, tuple[str, Callable[[Flight], bool]]] = {
    "united": ('key == "UA"', lambda flight: flight.carrier == "UA"),
    "jfk": ('headers.origin == "JFK"', lambda flight: flight.row["origin"] == "JFK"),
    "late": ("value.dep_delay > 30", lambda flight: (flight.row["dep_delay"] or 0) > 30),
    "not-flown": ("value.dep_time == null", lambda flight: flight.row["dep_time"] is None),
    "west": ('value.dest in ["LAX", "SFO", "SEA"]', lambda flight: flight.row["dest"] in ("LAX", "SFO", "SEA")),
    "far-or-early": (
        "value.distance >= 2000 || value.arr_delay < -20",
        lambda flight: (
            flight.row["distance"] >= 2000 or (flight.row["arr_delay"] is not None and flight.row["arr_delay"] < -20)
        ),
    ),
    "afternoon": (
        f"timestamp >= {NOON_MS}",
        lambda flight: flight.timestamp_ms >= NOON_MS,
    ),
    "tail": (
        'value.tailnum.startsWith("N1")',
        lambda flight: (flight.row["tailnum"] or "").startswith("N1"),
    ),
    "none": ('value.dest == "XXX"', lambda flight: False),
    "all": ("true", lambda flight: True),
}


async def written(reader: Reader) -> dict[int, list[Flight]]:
    """The flights by partition, as they were written."""
    engine = reader.services.engine
    await engine.create_topic("flights", PARTITIONS, {})
    lanes: dict[int, list[Flight]] = {number: [] for number in range(PARTITIONS)}
    for flight in islice(read_flights(flights_file()), COUNT):
        lanes[sum(flight.carrier.encode()) % PARTITIONS].append(flight)
    for number, flights in lanes.items():
        for start in range(0, len(flights), 200):
            await engine.append(TopicPartition("flights", number), [record(one) for one in flights[start : start + 200]])
    return lanes


def record(flight: Flight) -> Record:
    headers = (Header("origin", flight.row["origin"].encode()),)
    return Record(msgspec.json.encode(flight.row), flight.carrier.encode(), headers, flight.timestamp_ms)


async def everything(reader: Reader, name: str) -> list[Received]:
    subscription = reader.other(name)
    found: list[Received] = []
    while received := await subscription.receive(500):
        found += received
        assert set(await subscription.ack(*received)) == {None}
    return found


def places(received: list[Received]) -> list[tuple[int, int | None]]:
    return sorted((one.partition, one.offset) for one in received)


async def test_each_of_ten_subscriptions_gets_exactly_what_its_filter_says() -> None:
    async with reading(MemoryFiles(), ManualClock()) as reader:
        lanes = await written(reader)
        for name, (text, _) in FILTERS.items():
            await reader.other(name).subscribe(topic="flights", filter=text)
        for name, (text, wanted) in FILTERS.items():
            received = await everything(reader, name)
            judge = compile_filter(text)
            expected, direct = [], []
            for number, flights in lanes.items():
                for offset, flight in enumerate(flights):
                    one = record(flight)
                    stored = StoredRecord(offset, flight.timestamp_ms, one.key, one.value, one.headers)
                    if judge.matches(stored, TopicPartition("flights", number)):
                        direct.append((number, offset))
                    if wanted(flight):
                        expected.append((number, offset))
            assert places(received) == direct == expected, name
            assert all(one.value == record(lanes[one.partition][one.offset or 0]).value for one in received)
            subscription = reader.other(name).queue
            assert subscription.tally.totals["filtered"] == COUNT - len(expected)
            assert (await subscription.size.counts()).backlog == 0


async def test_a_subscription_from_a_past_time_gets_all_from_the_first_offset_that_reaches_it() -> None:
    async with reading(MemoryFiles(), ManualClock()) as reader:
        lanes = await written(reader)
        await reader.other("since").subscribe(AtTime(NOON_MS), topic="flights")
        expected: list[tuple[int, int]] = []
        for number, flights in lanes.items():
            first = next(offset for offset, flight in enumerate(flights) if flight.timestamp_ms >= NOON_MS)
            expected += [(number, offset) for offset in range(first, len(flights))]
        assert places(await everything(reader, "since")) == expected
        assert 0 < len(expected) < COUNT
