"""The door under test: a real server on a free port, over each engine. Offsets are never assumed to be dense."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from logbroker.broker.services import Services, services_on
from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.api import Engine
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.http_api.server import HttpServer
from logbroker.log.files.memory import MemoryFiles
from tests.engine.fake import FakeEngine

CONFIG = BrokerConfig(max_request_bytes=256 * 1024, max_partitions=50, drain_ms=2_000, group_initial_rebalance_delay_ms=0)


class Answer(NamedTuple):
    """What the door answered."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def failure(self) -> tuple[int, str]:
        """Status and code, of an answer that has to be a whole problem document."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        problem = self.json
        assert problem["status"] == self.status
        assert problem["type"] == f"/docs/errors/{problem['code']}"
        assert problem["request_id"] == self.headers["X-Request-Id"]
        assert {"title", "detail", "instance", "retriable"} <= problem.keys()
        assert b"Traceback" not in self.body
        return self.status, problem["code"]


class Door:
    """A client of the door; paths are relative to it."""

    def __init__(self, url: str, session: aiohttp.ClientSession, services: Services) -> None:
        self.url = url
        self.session = session
        self.services = services

    async def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """Send ``body`` as JSON, or as it is when it is bytes."""
        if body is not None and not isinstance(body, bytes):
            options["json"] = body
        elif body is not None:
            options["data"] = body
        async with self.session.request(method, self.url + path, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def topic(self, name: str = "orders", partitions: int = 1, **config: Any) -> None:
        answer = await self("PUT", f"/v1/topics/{name}", {"partitions": partitions, "config": config})
        assert answer.status == 201, answer

    async def produce(self, *records: dict[str, Any], topic: str = "orders") -> list[Any]:
        answer = await self("POST", f"/v1/topics/{topic}/records", {"records": list(records)})
        assert answer.status == 200, answer
        results: list[Any] = answer.json["results"]
        return results

    async def read(self, partition: int = 0, topic: str = "orders", query: str = "") -> Any:
        answer = await self("GET", f"/v1/topics/{topic}/partitions/{partition}/records{query}")
        assert answer.status == 200, answer
        return answer.json

    async def values(self, partition: int = 0, topic: str = "orders", query: str = "") -> list[Any]:
        page = await self.read(partition, topic, query)
        return [record.get("value") for record in page["records"]]


async def eventually(condition: Callable[[], bool]) -> None:
    """Return when ``condition`` holds; fails after 5 s."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture(params=["fake", "memory"])
async def engine(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Engine]:
    if request.param == "fake":
        yield FakeEngine(clock)
        return
    embedded = EmbeddedEngine(MemoryFiles(), CONFIG, TopicConfig(), clock)
    await embedded.start()
    yield embedded
    await embedded.stop()


@pytest.fixture
def services(engine: Engine, clock: ManualClock) -> Services:
    return services_on(engine, clock, CONFIG, "cluster")


@pytest_asyncio.fixture
async def door(services: Services, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Door]:
    """The door, opened; at the end nothing may have been logged as an error, let alone with a traceback."""
    server = HttpServer(services)
    await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        yield Door(server.url, session, services)
    await server.stop()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info] == []
