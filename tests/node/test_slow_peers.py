"""Peers that connect and say nothing, half of it, or never read: they are closed in time, and the others are served."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from logbroker.config import MIB, BrokerConfig, TopicConfig
from logbroker.http_api import server as http_server
from logbroker.kafka_api import server as kafka_server
from logbroker.model import Record, TopicPartition
from logbroker.node import Node
from logbroker.wire.apis import Api
from tests.kafka_api.raw import fetch_body, request_frame
from tests.kafka_api.test_connection import VERSIONS_BODY

pytestmark = pytest.mark.asyncio

TIMEOUT_MS = 400
WHERE = TopicPartition("big", 0)


@pytest_asyncio.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(http_server, "_SWEEP_S", 0.02)
    monkeypatch.setattr(kafka_server, "_SWEEP_S", 0.02)
    config = BrokerConfig(
        data_dir=str(tmp_path),
        http="127.0.0.1:0",
        kafka="127.0.0.1:0",
        request_timeout_ms=TIMEOUT_MS,
        max_in_flight_bytes=16 * MIB,
        drain_ms=500,
    )
    started = Node(config, TopicConfig(max_message_bytes=2 * MIB))
    await started.start()
    yield started
    await started.stop()


async def connected(node: Node, door: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = node.listeners[door].removeprefix("http://").rsplit(":", 1)
    return await asyncio.open_connection(host, int(port))


async def trickled(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send a byte at a time, for ever."""
    for byte in data * 1_000_000:
        writer.write(bytes((byte,)))
        await asyncio.sleep(0.02)


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """A whole frame of the Kafka door."""
    size = struct.unpack(">i", await reader.readexactly(4))[0]
    return await reader.readexactly(size)


HEADER = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BODY = (
    b"POST /v1/topics/t/records HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: application/json\r\nContent-Length: 9000\r\n\r\n{"
)
KAFKA = struct.pack(">i", 5_000) + b"\0"


@pytest.mark.parametrize(
    ("door", "first", "then"),
    [
        ("http", b"", b""),
        ("http", HEADER, b"X-A: a\r\n"),
        ("http", BODY, b" "),
        ("kafka", b"", b""),
        ("kafka", KAFKA, b"\0"),
        ("kafka", request_frame(Api.API_VERSIONS, 3, 1, VERSIONS_BODY) + KAFKA, b"\0"),
    ],
)
async def test_who_sends_no_whole_request_in_time_is_closed(node: Node, door: str, first: bytes, then: bytes) -> None:
    reader, writer = await connected(node, door)
    writer.write(first)
    trickle = asyncio.ensure_future(trickled(writer, then))
    began = asyncio.get_running_loop().time()
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(10):
            while await reader.read(65536):
                pass
    took = asyncio.get_running_loop().time() - began
    trickle.cancel()
    writer.close()
    assert took >= TIMEOUT_MS / 1000 - 0.05


async def test_who_has_sent_a_request_may_be_quiet_between_two(node: Node) -> None:
    reader, writer = await connected(node, "kafka")
    writer.write(request_frame(Api.API_VERSIONS, 3, 1, VERSIONS_BODY))
    await answer_of(reader)
    async with aiohttp.ClientSession(node.listeners["http"]) as http:
        async with http.get("/livez") as answer:
            assert answer.status == 200
        await asyncio.sleep(2 * TIMEOUT_MS / 1000)
        async with http.get("/livez") as answer:
            assert answer.status == 200
        assert http.connector is not None
    writer.write(request_frame(Api.API_VERSIONS, 3, 2, VERSIONS_BODY))
    assert struct.unpack_from(">i", await answer_of(reader))[0] == 2
    writer.close()


async def test_consumers_that_do_not_read_share_a_bounded_memory_and_others_are_served(node: Node) -> None:
    assert node.services is not None
    engine, in_flight = node.services.engine, node.services.in_flight
    await engine.create_topic("big", 1, {})
    for _ in range(40):
        await engine.append(WHERE, [Record(bytes(1 << 20))])
    peers = [await connected(node, "kafka") for _ in range(20)]
    for _, writer in peers:
        writer.write(
            request_frame(Api.FETCH, 12, 1, fetch_body(12, "big", max_bytes=32 * MIB, partition_max_bytes=32 * MIB))
        )
    peak = 0
    for _ in range(40):
        await asyncio.sleep(0.01)
        peak = max(peak, in_flight.used)
    assert 8 * MIB < peak < 16 * MIB + 32 * MIB + 20 * 3 * MIB
    reader, writer = await connected(node, "kafka")
    writer.write(request_frame(Api.API_VERSIONS, 3, 1, VERSIONS_BODY))
    await asyncio.wait_for(answer_of(reader), 5)
    for _, one in [*peers, (reader, writer)]:
        one.transport.abort()
    async with asyncio.timeout(5):
        while in_flight.used:  # noqa: ASYNC110 - the connections have no event to wait for
            await asyncio.sleep(0.01)


async def test_large_requests_wait_while_memory_is_short_and_come_through_one_after_another(node: Node) -> None:
    assert node.services is not None
    in_flight = node.services.in_flight
    in_flight.changed(0, in_flight.limit)
    frames = [
        struct.pack(">i", 300_000) + request_frame(Api.API_VERSIONS, 3, number, VERSIONS_BODY)[4:] for number in (1, 2)
    ]
    whole = [frame + bytes(300_004 - len(frame)) for frame in frames]
    peers = [await connected(node, "kafka") for _ in whole]
    for (reader, writer), data in zip(peers, whole, strict=True):
        writer.write(request_frame(Api.API_VERSIONS, 3, 9, VERSIONS_BODY))
        await answer_of(reader)
        writer.write(data)
    answers = [await asyncio.wait_for(reader.read(100), 5) for reader, _ in peers]
    assert len(answers) == 2
    in_flight.changed(in_flight.limit, 0)
    for _, writer in peers:
        writer.close()


async def test_bodies_are_refused_while_memory_is_short(node: Node) -> None:
    assert node.services is not None
    in_flight = node.services.in_flight
    in_flight.changed(0, in_flight.limit)
    async with aiohttp.ClientSession(node.listeners["http"]) as http:
        async with http.post("/v1/topics/t/records", data=bytes(1 << 20), headers={"Content-Type": "text/plain"}) as answer:
            assert answer.status in (404, 429)
        async with http.post("/v1/topics", data=b"x") as answer:
            assert answer.status in (404, 405)
    assert in_flight.used == in_flight.limit
    in_flight.changed(in_flight.limit, 0)
