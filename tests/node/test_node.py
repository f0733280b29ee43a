"""A whole broker in this process: what it starts, keeps up and lets go."""

import asyncio
import socket
from pathlib import Path

import pytest

from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig, TopicConfig, configured
from logbroker.engine.api import Deleted
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.errors import DataDirectoryError, FlushFailed, InvalidConfig
from logbroker.model import Record, TopicPartition
from logbroker.node import Node, run

pytestmark = pytest.mark.asyncio

WHERE = TopicPartition("orders", 0)


@pytest.fixture
def config(tmp_path: Path) -> BrokerConfig:
    return BrokerConfig(data_dir=str(tmp_path), http="127.0.0.1:0", kafka="127.0.0.1:0", retention_check_ms=100)


async def test_every_door_is_open_after_the_start_and_shut_after_the_stop(config: BrokerConfig) -> None:
    node = Node(config, TopicConfig())
    await node.start()
    assert node.services is not None
    assert node.services.lifecycle.ready
    addresses = [url.removeprefix("http://").rsplit(":", 1) for url in node.listeners.values()]
    assert list(node.listeners) == ["http", "kafka"]
    for host, port in addresses:
        socket.create_connection((host, int(port))).close()
    await node.stop()
    assert node.services.lifecycle.closing.is_set()
    for host, port in addresses:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))


async def test_a_stopped_node_lets_its_directory_go(config: BrokerConfig) -> None:
    first = Node(config, TopicConfig())
    await first.start()
    with pytest.raises(DataDirectoryError):
        await Node(config, TopicConfig()).start()
    await first.stop()
    second = Node(config, TopicConfig())
    await second.start()
    await second.stop()


@pytest.mark.parametrize("door", ["http", "kafka"])
async def test_a_start_that_fails_leaves_nothing_open(config: BrokerConfig, door: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        blocked = configured(config, {door: f"127.0.0.1:{taken.getsockname()[1]}"})
        with pytest.raises(InvalidConfig, match=f"^{door} = .* cannot be opened"):
            await Node(blocked, TopicConfig()).start()
    node = Node(config, TopicConfig())
    await node.start()
    await node.stop()


async def test_old_segments_go_while_the_node_runs(config: BrokerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    maintain, rounds = EmbeddedEngine.maintain, asyncio.Queue[None]()

    async def observed(engine: EmbeddedEngine) -> list[Deleted]:
        deleted = await maintain(engine)
        rounds.put_nowait(None)
        return deleted

    monkeypatch.setattr(EmbeddedEngine, "maintain", observed)
    clock = ManualClock()
    node = Node(config, TopicConfig(retention_ms=1_000), clock)
    await node.start()
    assert node.services is not None
    engine = node.services.engine
    await engine.create_topic("orders", 1, {})
    await engine.append(WHERE, [Record(b"old")])
    await rounds.get()
    assert (await engine.bounds(WHERE)).log_start_offset == 0
    clock.advance(5_000)
    await rounds.get()
    await rounds.get()
    assert (await engine.bounds(WHERE)).log_start_offset == 1
    await node.stop()


async def test_a_node_that_has_failed_is_not_drained(config: BrokerConfig) -> None:
    node = Node(config, TopicConfig())

    def fail(started: Node) -> None:
        started.failed.set_result(FlushFailed("the disk is gone"))

    with pytest.raises(FlushFailed, match="the disk is gone"):
        await run(node, fail)
    assert node.services is not None
    assert not node.services.lifecycle.closing.is_set()
    await node.stop()
