"""Stopping the door: what waits is answered, what writes is finished, nothing new is taken."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from logbroker.broker.services import Services
from logbroker.http_api.server import HttpServer
from tests.http_api.conftest import Door, eventually

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def running(services: Services) -> AsyncIterator[tuple[HttpServer, Door]]:
    server = HttpServer(services)
    await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        yield server, Door(server.url, session, services)
    await server.stop()


async def test_a_stop_answers_long_polls_and_ends_tails_at_once(running: tuple[HttpServer, Door]) -> None:
    server, door = running
    await door.topic()
    poll = asyncio.create_task(door.values(query="?wait_ms=60000"))
    tail = asyncio.create_task(door("GET", "/v1/topics/orders/tail"))
    await eventually(lambda: door.services.waiting.count == 2)
    async with asyncio.timeout(1):
        await server.stop()
    assert await poll == []
    assert (await tail).body == b""


async def test_a_stop_lets_a_write_finish(running: tuple[HttpServer, Door], monkeypatch: pytest.MonkeyPatch) -> None:
    server, door = running
    await door.topic()
    entered, go_on = asyncio.Event(), asyncio.Event()
    append = type(door.services.engine).append

    async def slow(*given: object, **named: object) -> object:
        entered.set()
        await go_on.wait()
        return await append(*given, **named)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(type(door.services.engine), "append", slow)
    write = asyncio.create_task(door.produce({"value": "a"}))
    await entered.wait()
    stop = asyncio.create_task(server.stop())
    await eventually(lambda: door.services.lifecycle.closing.is_set())
    assert not write.done()
    go_on.set()
    assert (await write)[0]["index"] == 0
    async with asyncio.timeout(1):
        await stop


async def test_a_stopped_door_takes_nothing_more(running: tuple[HttpServer, Door]) -> None:
    server, door = running
    await server.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await door("GET", "/livez")
