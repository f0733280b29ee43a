"""The same client over each carrier: in process, and over HTTP to a served node."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from logbroker import AsyncClient, Broker, connect

CARRIERS = ("embedded", "http")


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[Broker]:
    """A broker in memory that serves HTTP too."""
    async with Broker.memory(http="127.0.0.1:0", max_partitions=100) as broker:
        yield broker


@pytest_asyncio.fixture(params=CARRIERS)
async def lb(request: pytest.FixtureRequest, broker: Broker) -> AsyncIterator[AsyncClient]:
    """A client of the broker, over each carrier."""
    if request.param == "embedded":
        yield broker
        return
    async with connect(broker.listeners["http"]) as client:
        yield client
