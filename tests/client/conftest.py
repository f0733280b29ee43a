"""The same client over each carrier: in process and over HTTP to a served node, asynchronous and synchronous."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio

from logbroker import AsyncClient, Broker, Client, connect
from tests.client.shim import Facade

ASYNCHRONOUS = ("embedded", "http")
CARRIERS = (*ASYNCHRONOUS, "sync-http", "sync-embedded")
SETTINGS: dict[str, Any] = {"max_partitions": 100}


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[Broker]:
    """A broker in memory that serves HTTP too."""
    async with Broker.memory(http="127.0.0.1:0", **SETTINGS) as broker:
        yield broker


@pytest_asyncio.fixture(params=CARRIERS)
async def lb(request: pytest.FixtureRequest, broker: Broker, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    """A client, over each carrier."""
    url = broker.listeners["http"]
    if request.param == "embedded":
        yield broker
    elif request.param == "http":
        async with connect(url) as client:
            yield client
    else:
        sync = Client(url) if request.param == "sync-http" else Broker.open_sync(tmp_path, **SETTINGS)
        await asyncio.to_thread(sync.__enter__)
        yield cast(AsyncClient, Facade(sync))
        await asyncio.to_thread(sync.close)
