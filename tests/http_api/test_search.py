"""Searching over HTTP: ranges, cursors, budgets, clients that leave."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest

from logbroker.broker import search as module
from tests.http_api.conftest import Door, eventually

pytestmark = pytest.mark.asyncio

SEARCH = "/v1/topics/orders/search"
SSE = {"Accept": "text/event-stream"}


async def fill(door: Door, count: int, partitions: int = 1) -> None:
    await door.topic(partitions=partitions)
    records = [
        {
            "value_json": {"n": n},
            "key": f"k{n % 4}",
            "headers": [["to", "eu" if n % 3 == 0 else "us"]],
            "timestamp_ms": 1_000 + n,
            "partition": n % partitions,
        }
        for n in range(count)
    ]
    await door.produce(*records)


async def searched(door: Door, query: str) -> tuple[list[int], Any]:
    """The numbers that are found, and the end."""
    answer = await door("GET", f"{SEARCH}?{query}")
    assert answer.status == 200, answer
    lines = answer.lines
    return [line["value_json"]["n"] for line in lines if "offset" in line], lines[-1]["end"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", list(range(20))),
        ("filter=" + quote("value.n > 17"), [18, 19]),
        ("key=k1", [1, 5, 9, 13, 17]),
        ("header=to=eu&key=k0", [0, 12]),
        ("filter=" + quote("value.n > 5 || value.n == 1") + "&key=k1&header=to=us", [1, 13, 17]),
        ("from=ts:1005&to=ts:1008", [5, 6, 7]),
        ("direction=back&key=k1", [17, 13, 9, 5, 1]),
        ("from=latest", []),
        ("to=earliest", []),
    ],
)
async def test_a_search_finds_what_matches_in_its_range(door: Door, query: str, found: list[int]) -> None:
    await fill(door, 20)
    numbers, end = await searched(door, query)
    assert numbers == found
    assert (end["complete"], end["reason"], end["cursor"], end["matched"]) == (True, "complete", None, len(found))


@pytest.mark.parametrize("direction", ["forward", "back"])
async def test_a_cursor_goes_on_where_the_limit_stopped_it(door: Door, direction: str) -> None:
    await fill(door, 40, partitions=3)
    found: list[int] = []
    cursor = ""
    for _ in range(20):
        numbers, end = await searched(door, f"header=to=eu&limit=3&direction={direction}{cursor}")
        found += numbers
        if end["complete"]:
            break
        assert end["reason"] == "limit"
        cursor = f"&cursor={end['cursor']}"
    assert sorted(found) == [n for n in range(40) if n % 3 == 0]
    await door.produce({"value_json": {"n": 99}, "headers": [["to", "eu"]]})
    assert (await searched(door, f"header=to=eu&direction={direction}{cursor}"))[0] == numbers, "its range had an end"


async def test_a_search_ends_at_its_budget_and_goes_on(door: Door) -> None:
    await door.topic()
    for number in range(20):
        await door.produce({"value_json": {"n": number, "fill": "x" * 30_000}})
    found: list[int] = []
    cursor, parts = "", 0
    while True:
        numbers, end = await searched(door, f"filter={quote('value.n % 5 == 0')}&budget_bytes=100000{cursor}")
        found, parts = found + numbers, parts + 1
        assert end["scanned_bytes"] < 100_000 + 600_000
        if end["complete"]:
            break
        assert end["reason"] == "budget"
        cursor = f"&cursor={end['cursor']}"
    assert found == [0, 5, 10, 15]
    assert parts > 1


async def test_progress_comes_as_events_with_a_cursor(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRESS_BYTES", 1)
    await fill(door, 5)
    answer = await door("GET", f"{SEARCH}?key=k1", headers=SSE)
    assert answer.headers["Content-Type"] == "text/event-stream"
    events = [
        dict(line.split(": ", 1) for line in block.splitlines()) for block in answer.body.decode().strip().split("\n\n")
    ]
    assert [event.get("event", "message") for event in events] == ["message", "progress", "end"]
    assert json.loads(events[0]["data"])["value_json"] == {"n": 1}
    progress = json.loads(events[1]["data"])
    assert (progress["scanned"], progress["matched"], progress["offsets_left"] >= 0) == (5, 1, True)


async def test_a_client_that_leaves_stops_its_search(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(door, 50)
    running = 0
    original = module.Search._forward

    async def slow(self: module.Search, partition: int, room: int) -> Any:
        nonlocal running
        running += 1
        await asyncio.sleep(0.005)
        self._step = slow.__get__(self)
        found = await original(self, partition, 1)
        self.left[partition] = (0, 50)  # it would never end
        return found[:0]

    monkeypatch.setattr(module.Search, "_forward", slow)
    async with door.session.get(door.url + SEARCH) as response:
        assert response.status == 200
        await eventually(lambda: running > 3)
        response.close()
    async with asyncio.timeout(10):
        before = 0
        while running > before:
            before = running
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("query", "failure"),
    [
        ("filter=nix", (400, "FILTER_INVALID")),
        ("header=x", (400, "INVALID_REQUEST")),
        ("from=x", (400, "INVALID_OFFSET")),
        ("limit=0", (400, "INVALID_REQUEST")),
        ("direction=up", (400, "INVALID_REQUEST")),
        ("partitions=9", (404, "UNKNOWN_TOPIC_OR_PARTITION")),
        ("cursor=x", (400, "INVALID_REQUEST")),
        ("cursor=eJyLNtAxiFVISU1LLC4GABUaBBI", (400, "INVALID_REQUEST")),
    ],
)
async def test_a_search_that_makes_no_sense_is_refused(door: Door, query: str, failure: tuple[int, str]) -> None:
    await fill(door, 2)
    assert (await door("GET", f"{SEARCH}?{query}")).failure == failure


async def test_a_cursor_goes_with_its_search_alone(door: Door) -> None:
    await fill(door, 20)
    cursor = (await searched(door, "key=k1&limit=1"))[1]["cursor"]
    for other in ("key=k2", "key=k1&direction=back", "key=k1&from=0", ""):
        assert (await door("GET", f"{SEARCH}?{other}&cursor={cursor}")).failure == (400, "INVALID_REQUEST")
    assert (await searched(door, f"key=k1&cursor={cursor}"))[0] == [5, 9, 13, 17]
