"""Streaming pull: deliveries without asking again, bounded by what is not settled."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.http_api.conftest import Door, eventually
from tests.http_api.test_subscriptions import Sub, values

pytestmark = pytest.mark.asyncio


class Lines:
    """Deliveries as a client reads them."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self, count: int = 1, wait_s: float = 5) -> list[Any]:
        async with asyncio.timeout(wait_s):
            return [json.loads(await self.response.content.readline()) for _ in range(count)]

    async def is_silent(self) -> bool:
        try:
            await self.next(1, 0.05)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def streaming(door: Door, query: str = "", **headers: str) -> AsyncIterator[Lines]:
    async with door.session.get(f"{door.url}/v1/subscriptions/audit/stream{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        yield Lines(response)


@pytest.fixture
def sub(door: Door) -> Sub:
    return Sub(door)


async def test_a_stream_gives_what_is_there_and_then_what_comes(door: Door, sub: Sub) -> None:
    await door.topic()
    await sub.create(filter='value != "b"')
    await door.produce({"value": "a"}, {"value": "b"}, {"value": "c"})
    async with streaming(door) as lines:
        assert lines.response.headers["Content-Type"] == "application/x-ndjson"
        taken = await lines.next(2)
        assert values(taken) == ["a", "c"]
        await door.produce({"value": "d"})
        assert values(await lines.next()) == ["d"]
        assert (await sub.ack(*taken)).status == 200


async def test_what_is_not_settled_is_bounded_and_a_settlement_makes_room(door: Door, sub: Sub) -> None:
    await door.topic()
    await sub.create(max_attempts=9, retry={"policy": "none"})
    await door.produce(*({"value": str(n)} for n in range(9)))
    async with streaming(door, "?max_outstanding=2") as lines:
        first, second = await lines.next(2)
        assert await lines.is_silent()
        await sub.ack(first)
        [third] = await lines.next()
        assert await lines.is_silent()
        await sub("nack", {"entries": [{"receipt": second["receipt"], "delay_ms": 60_000}]})
        [fourth] = await lines.next()
        await sub("reject", {"entries": [{"receipt": third["receipt"]}]})
        [fifth] = await lines.next()
        assert values([first, second, third, fourth, fifth]) == ["0", "1", "2", "3", "4"]
        assert (await sub.get())["counts"]["in_flight"] == 2


async def test_a_client_that_leaves_gives_back_what_it_holds_uncounted(door: Door, sub: Sub) -> None:
    await door.topic()
    await sub.create()
    await door.produce({"value": "a"}, {"value": "b"}, {"value": "c"})
    async with streaming(door) as lines:
        a, b, c = await lines.next(3)
        await sub.ack(b)
        lines.response.close()
    dispatcher = door.services.subscriptions.get("audit")
    await eventually(lambda: sum(one.machine.in_flight for one in dispatcher.partitions) == 0)
    assert (await sub.ack(a)).failure == (409, "LEASE_LOST")
    again = await sub.pull()
    assert [(one["value"], one["failures"], one["deliveries"]) for one in again] == [("a", 0, 2), ("c", 0, 2)]
    assert c["value"] == "c"


async def test_a_stream_can_be_server_sent_events(door: Door, sub: Sub) -> None:
    await door.topic()
    await sub.create()
    await door.produce({"value": "a"})
    async with streaming(door, Accept="text/event-stream") as lines:
        async with asyncio.timeout(5):
            read = [await lines.response.content.readline() for _ in range(3)]
    assert read[0].startswith(b"id: ")
    assert json.loads(read[1].removeprefix(b"data: "))["value"] == "a"
    assert read[2] == b"\n"


async def test_two_streams_share_the_messages(door: Door, sub: Sub) -> None:
    await door.topic()
    await sub.create()
    await door.produce(*({"value": str(n)} for n in range(4)))
    async with streaming(door, "?max_outstanding=2") as one, streaming(door, "?max_outstanding=2") as other:
        taken = values(await one.next(2)) + values(await other.next(2))
    assert sorted(taken) == ["0", "1", "2", "3"]


async def test_a_seek_voids_what_a_stream_holds_and_the_stream_goes_on(door: Door, sub: Sub) -> None:
    await door.topic()
    await sub.create()
    await door.produce({"value": "a"}, {"value": "b"})
    async with streaming(door, "?max_outstanding=2") as lines:
        held = await lines.next(2)
        await sub.seek({"at": "earliest"}, dry_run=False)
        assert values(await lines.next(2)) == ["a", "b"]
        assert (await sub.ack(*held)).failure == (409, "LEASE_LOST")


async def test_a_stream_ends_when_its_subscription_is_deleted(door: Door, sub: Sub) -> None:
    await door.topic()
    await sub.create()
    async with streaming(door) as lines:
        await asyncio.sleep(0.01)
        await door("DELETE", sub.path)
        async with asyncio.timeout(5):
            assert await lines.response.content.read() == b""
    answer = await door("GET", sub.path + "/stream?max_outstanding=0")
    assert answer.failure == (400, "INVALID_REQUEST")
    assert (await door("GET", sub.path + "/stream")).failure == (404, "SUBSCRIPTION_NOT_FOUND")
