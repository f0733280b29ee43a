"""Following a topic: SSE and NDJSON, resuming, gaps, the end of the broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import pytest

from logbroker.clock import ManualClock
from tests.http_api.conftest import Door, eventually

pytestmark = pytest.mark.asyncio

TAIL = "/v1/topics/orders/tail"


class Event(NamedTuple):
    name: str
    id: str
    data: Any


class Stream:
    """Server-sent events as a client reads them."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> Event:
        fields: dict[str, str] = {}
        while True:
            line = (await asyncio.wait_for(self.response.content.readline(), 5)).decode().rstrip("\n")
            if line.startswith(":"):
                continue
            if not line:
                if fields:
                    return Event(fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"]))
                assert not self.response.content.at_eof(), "the stream has ended"
                continue
            name, _, value = line.partition(": ")
            fields[name] = value

    async def values(self, count: int) -> list[Any]:
        return [(await self.next()).data["value"] for _ in range(count)]


@asynccontextmanager
async def tailing(door: Door, query: str = "", **headers: str) -> AsyncIterator[Stream]:
    async with door.session.get(f"{door.url}{TAIL}{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["X-Request-Id"]
        yield Stream(response)


async def test_a_tail_gives_what_is_there_and_then_what_comes(door: Door) -> None:
    await door.topic()
    await door.produce({"value": "a"}, {"value": "b"})
    async with tailing(door, "?from=earliest") as stream:
        assert await stream.values(2) == ["a", "b"]
        await door.produce({"value": "c"})
        assert await stream.values(1) == ["c"]


async def test_a_tail_starts_at_the_end_unless_told_otherwise(door: Door) -> None:
    await door.topic()
    await door.produce({"value": "old"})
    async with tailing(door) as stream:
        await door.produce({"value": "new"})
        assert await stream.values(1) == ["new"]


async def test_a_tail_can_start_at_a_time_or_an_offset(door: Door) -> None:
    await door.topic()
    for number in (10, 20, 30):
        [last] = await door.produce({"value": str(number), "timestamp_ms": number})
    async with tailing(door, "?from=ts:20") as stream:
        assert await stream.values(2) == ["20", "30"]
    async with tailing(door, f"?from={last['offset']}") as stream:
        assert await stream.values(1) == ["30"]


async def test_last_event_id_resumes_exactly_after_that_event(door: Door) -> None:
    await door.topic(partitions=2)
    for number in range(6):
        await door.produce({"value": str(number), "partition": number % 2})
    seen: list[str] = []
    resume: dict[str, str] = {}
    for _ in range(6):
        async with tailing(door, "?from=earliest", **resume) as stream:
            event = await stream.next()
            seen.append(event.data["value"])
            resume = {"Last-Event-ID": event.id}
    assert sorted(seen) == [str(number) for number in range(6)]
    assert [value for value in seen if int(value) % 2] == ["1", "3", "5"]


async def test_only_the_chosen_partitions_are_followed(door: Door) -> None:
    await door.topic(partitions=3)
    await door.produce(*({"value": str(number), "partition": number} for number in range(3)))
    async with tailing(door, "?from=earliest&partitions=2,0") as stream:
        events = [await stream.next() for _ in range(2)]
    assert [event.data["value"] for event in events] == ["0", "2"]
    assert {part.partition(":")[0] for part in events[-1].id.split(",")} == {"0", "2"}


async def test_what_sampling_leaves_out_is_told_as_a_gap(door: Door, clock: ManualClock) -> None:
    await door.topic()
    results = await door.produce(*({"value": str(number)} for number in range(10)))
    async with tailing(door, "?from=earliest&max_rate=3") as stream:
        assert await stream.values(3) == ["0", "1", "2"]
        gap = await stream.next()
        assert gap.name == "gap"
        assert gap.data == {
            "partition": 0,
            "from_offset": results[3]["offset"],
            "to_offset": results[9]["offset"] + 1,
            "dropped": 7,
            "reason": "sampled",
        }
        clock.advance(1_000)
        await door.produce({"value": "later"})
        assert await stream.values(1) == ["later"]
    async with tailing(door, **{"Last-Event-ID": gap.id}) as stream:
        assert await stream.values(1) == ["later"]


async def test_what_was_trimmed_before_it_was_read_is_told_as_a_gap(door: Door) -> None:
    await door.topic()
    results = await door.produce({"value": "a"}, {"value": "b"})
    trim = {"partitions": [{"partition": 0, "before_offset": results[1]["offset"]}]}
    await door("POST", "/v1/topics/orders:trim", trim)
    async with tailing(door, "?from=0") as stream:
        gap = await stream.next()
        assert (gap.name, gap.data["reason"], gap.data["to_offset"]) == ("gap", "trimmed", results[1]["offset"])
        assert await stream.values(1) == ["b"]


async def test_a_tail_can_be_ndjson(door: Door) -> None:
    await door.topic()
    await door.produce({"value": "a"}, {"value": "b"}, {"value": "c"})
    accept = {"Accept": "application/x-ndjson"}
    async with door.session.get(f"{door.url}{TAIL}?from=earliest&max_rate=2", headers=accept) as response:
        assert response.headers["Content-Type"] == "application/x-ndjson"
        lines = [json.loads(await response.content.readline()) for _ in range(3)]
    assert [line["value"] for line in lines[:2]] == ["a", "b"]
    assert lines[2]["gap"]["dropped"] == 1


async def test_a_tail_ends_when_the_broker_stops(door: Door) -> None:
    await door.topic()
    async with tailing(door) as stream:
        await eventually(lambda: door.services.waiting.count == 1)
        door.services.lifecycle.closing.set()
        assert await asyncio.wait_for(stream.response.read(), 5) == b""


async def test_a_tail_of_a_topic_that_is_deleted_says_so_and_ends(door: Door) -> None:
    await door.topic()
    async with tailing(door) as stream:
        await eventually(lambda: door.services.waiting.count == 1)
        await door("DELETE", "/v1/topics/orders")
        event = await stream.next()
        assert (event.name, event.data["error"]["code"]) == ("error", "UNKNOWN_TOPIC_OR_PARTITION")
        assert await asyncio.wait_for(stream.response.read(), 5) == b""


async def test_a_tail_whose_client_has_gone_leaves_nothing_behind(door: Door) -> None:
    await door.topic()
    async with aiohttp.ClientSession() as other:
        async with other.get(f"{door.url}{TAIL}"):
            await eventually(lambda: door.services.waiting.count == 1)
    await eventually(lambda: door.services.waiting.count == 0)


@pytest.mark.parametrize(
    ("query", "headers", "failure"),
    [
        ("?from=nix", {}, (400, "INVALID_OFFSET")),
        ("?from=ts:x", {}, (400, "INVALID_OFFSET")),
        ("?from=99999999999999999999", {}, (400, "INVALID_OFFSET")),
        ("?partitions=a", {}, (400, "INVALID_REQUEST")),
        ("?partitions=", {}, (400, "INVALID_REQUEST")),
        ("?partitions=7", {}, (404, "UNKNOWN_TOPIC_OR_PARTITION")),
        ("?filter=x", {}, (400, "FILTER_INVALID")),
        ("?max_rate=0", {}, (400, "INVALID_REQUEST")),
        ("", {"Last-Event-ID": "x"}, (400, "INVALID_OFFSET")),
        ("", {"Last-Event-ID": "0:1:2"}, (400, "INVALID_OFFSET")),
        ("", {"Last-Event-ID": "9:1"}, (404, "UNKNOWN_TOPIC_OR_PARTITION")),
    ],
)
async def test_a_tail_that_makes_no_sense_is_refused(
    door: Door, query: str, headers: dict[str, str], failure: tuple[int, str]
) -> None:
    await door.topic()
    assert (await door("GET", TAIL + query, headers=headers)).failure == failure
