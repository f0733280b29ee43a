"""Thousands of peers that say nothing, half of it, or never read, beside one client that works; and what it notices.

What lives here: the attackers (one event loop), the client, and what the system says of the broker's memory. What may not:
anything of how the broker is built.
"""

import asyncio
import contextlib
import resource
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from logbroker.wire.apis import Api
from tests.crash.broker import Broker
from tests.crash.clients import Client
from tests.kafka_api.raw import fetch_body, request_frame
from tools.bench.servers.process import HOST

_HEADER = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n"
_TRICKLE_S = 3.0
_TIMEOUT_S = 30
_LATE_S = 6.0
"""The door looks every five seconds, and the attackers share the processor."""
_RECORD = {"records": [{"value": "x" * 1000}]}
_BIG = 40
_FETCH_BYTES = 32 << 20


@dataclass
class Outcome:
    """What was seen."""

    half_open: int
    slow: int
    deaf: int
    rate_before: float
    rate_during: float
    grown_bytes: int
    grown_by_silent_bytes: int
    closed: int
    """Half-open and slow peers that the broker had closed when they were due."""

    @property
    def per_connection(self) -> float:
        """Memory of the broker per peer that had sent no whole request."""
        return self.grown_by_silent_bytes / max(1, self.half_open + self.slow)

    def summary(self) -> str:
        """In one line."""
        return (
            f"{self.half_open} half-open, {self.slow} slow, {self.deaf} deaf peers: the other client "
            f"{self.rate_during:.0f} requests/s instead of {self.rate_before:.0f} "
            f"({100 * self.rate_during / self.rate_before:.0f} %), {self.per_connection / 1024:.1f} KiB for each that had "
            f"sent no request, {self.grown_bytes / (1 << 20):.0f} MiB in all, {self.closed} of "
            f"{self.half_open + self.slow} closed within {_TIMEOUT_S + _LATE_S:.0f} s"
        )


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def _rate(port: int, seconds: float) -> float:
    """Requests a second of a client that works, one after another."""
    count, end = 0, time.monotonic() + seconds
    with closing(Client(port)) as client:
        while time.monotonic() < end:
            assert client.call("POST", "/v1/topics/work/records", _RECORD)[0] == 200
            count += 1
    return count / seconds


class _Peer(asyncio.Protocol):
    """A connection that notes when it was closed."""

    def __init__(self) -> None:
        self.is_closed = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True


async def _peers(port: int, count: int) -> list[_Peer]:
    loop = asyncio.get_running_loop()
    made = []
    for start in range(0, count, 100):
        wanted = [loop.create_connection(_Peer, HOST, port) for _ in range(min(100, count - start))]
        made += [protocol for _, protocol in await asyncio.gather(*wanted)]
    return made


async def _trickle(peers: list[_Peer]) -> None:
    for peer in peers:
        peer.transport.write(_HEADER)  # type: ignore[union-attr]  # it is connected
    while True:
        await asyncio.sleep(_TRICKLE_S)
        for peer in peers:
            if not peer.is_closed:
                peer.transport.write(b"X-A: a\r\n")  # type: ignore[union-attr]  # as above


def run(directory: Path, half_open: int = 5_000, slow: int = 500, deaf: int = 100, seconds: float = 8.0) -> Outcome:
    """Let that many peers of each kind trouble a broker for a while."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    broker = Broker(directory, kafka=True)
    broker.start({"LOGBROKER_LOG_LEVEL": "error"})
    try:
        broker.wait_until_ready()
        with closing(Client(broker.port)) as client:
            for topic in ("work", "big"):
                client.call("PUT", f"/v1/topics/{topic}", {"partitions": 1, "config": {"max_message_bytes": 2 << 20}})
            for _ in range(_BIG):
                client.call("POST", "/v1/topics/big/records", {"records": [{"value": "x" * 1_000_000}]})
        _rate(broker.port, 1.0)
        return asyncio.run(_attack(broker, half_open, slow, deaf, seconds))
    finally:
        broker.stop()


async def _attack(broker: Broker, half_open: int, slow: int, deaf: int, seconds: float) -> Outcome:
    before = await asyncio.to_thread(_rate, broker.port, seconds)
    at_rest = resident(broker.pid)
    silent = [*await _peers(broker.port, half_open // 2), *await _peers(broker.kafka_port, half_open - half_open // 2)]
    trickling = await _peers(broker.port, slow)
    opened = time.monotonic()
    trickle = asyncio.ensure_future(_trickle(trickling))
    await asyncio.sleep(1)
    by_silent = resident(broker.pid) - at_rest
    deaf_peers = await _peers(broker.kafka_port, deaf)
    body = fetch_body(12, "big", max_bytes=_FETCH_BYTES, partition_max_bytes=_FETCH_BYTES)
    for peer in deaf_peers:
        peer.transport.pause_reading()  # type: ignore[union-attr]  # it is connected
        peer.transport.write(request_frame(Api.FETCH, 12, 1, body))  # type: ignore[union-attr]  # as above
    await asyncio.sleep(1)
    during = await asyncio.to_thread(_rate, broker.port, seconds)
    grown = resident(broker.pid) - at_rest
    await asyncio.sleep(max(0.0, opened + _TIMEOUT_S + _LATE_S - time.monotonic()))
    closed = sum(peer.is_closed for peer in (*silent, *trickling))
    trickle.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await trickle
    for peer in (*silent, *trickling, *deaf_peers):
        peer.transport.abort()  # type: ignore[union-attr]  # as above
    await asyncio.sleep(0)
    return Outcome(half_open, slow, deaf, before, during, grown, by_silent, closed)
