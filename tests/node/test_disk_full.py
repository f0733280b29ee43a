"""A broker on a disk that gets full, as its clients see it, and how it comes back by itself."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from logbroker import node as node_module
from logbroker.config import MIB, BrokerConfig, TopicConfig
from logbroker.log.files.disk import DiskFiles
from logbroker.node import Node

pytestmark = pytest.mark.asyncio


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what changes it is a thing of the broker's own
            await asyncio.sleep(0.005)


async def test_a_broker_on_a_full_disk_reads_commits_and_acks_and_comes_back_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [1 << 40]
    monkeypatch.setattr(DiskFiles, "free_bytes", lambda files: free[0])
    monkeypatch.setattr(node_module, "_DISK_LOOK_S", 0.005)
    config = BrokerConfig(data_dir=str(tmp_path), http="127.0.0.1:0", kafka="off", disk_reserve_bytes=MIB)
    node = Node(config, TopicConfig())
    await node.start()
    services = node.services
    assert services is not None
    async with aiohttp.ClientSession(node.listeners["http"]) as http:

        async def ask(method: str, path: str, body: object = None) -> tuple[int, str]:
            async with http.request(method, path, json=body) as answer:
                return answer.status, await answer.text()

        record = {"records": [{"value": "x"}]}
        assert (await ask("PUT", "/v1/queues/jobs", {}))[0] == 201
        assert (await ask("POST", "/v1/topics/jobs/records", record))[0] == 200
        assert (await ask("GET", "/readyz"))[0] == 200

        free[0] = 1000
        await until(lambda: not services.lifecycle.ready)
        status, text = await ask("GET", "/readyz")
        assert status == 503
        assert "the disk is full: 1000 bytes are free" in text
        status, text = await ask("POST", "/v1/topics/jobs/records", record)
        assert status == 507
        assert '"code":"DISK_FULL"' in text
        status, text = await ask("GET", "/metrics")
        assert "logbroker_readonly 1.0" in text
        assert "logbroker_disk_free_bytes 1000.0" in text

        assert (await ask("GET", "/v1/topics/jobs/partitions/0/records?offset=0"))[0] == 200
        commit = {"offsets": [{"topic": "jobs", "partition": 0, "offset": 1}]}
        assert (await ask("PUT", "/v1/groups/readers/offsets", commit))[0] == 200
        async with http.post("/v1/queues/jobs:receive", json={"max": 1}) as answer:
            receipts = [one["receipt"] for one in (await answer.json())["messages"]]
        assert len(receipts) == 1
        assert (await ask("POST", "/v1/queues/jobs:ack", {"receipts": receipts}))[0] == 200

        free[0] = 1 << 40
        await until(lambda: services.lifecycle.ready)
        assert (await ask("POST", "/v1/topics/jobs/records", record))[0] == 200
    await node.stop()
