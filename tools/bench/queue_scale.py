"""A million messages waiting, a third each ready, delayed and dead, beside a thousand: what a receive and an ack cost then.

Both queues are in one broker, which is started again before anything is measured; the cases take turns.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tools.bench.measure import ROUNDS, WARM_UP, Figure, at_most
from tools.bench.queue_client import QueueClient
from tools.bench.servers.logbroker import logbroker
from tools.bench.servers.process import Server

MANY = 999_000
FEW = 999
BATCH = 1_000
CALLS = 300
_HOUR_MS = 3_600_000
_QUEUES = {"many": MANY, "few": FEW}


def run(directory: Path, many: int = MANY) -> list[Figure]:
    """Fill, start again, measure."""
    with logbroker(directory) as server:
        begin = time.monotonic()
        for queue, count in {**_QUEUES, "many": many}.items():
            asyncio.run(_fill(server.port, queue, count // 3))
        filled = time.monotonic() - begin
    with logbroker(directory) as server:
        ready = time.monotonic() - server.started_at
        memory = server.resident_bytes()
        costs = asyncio.run(_costs(server))
    told = f"{many:,} messages; filling took {filled:.0f} s"
    return [
        Figure("a start with them until ready", ready, "s", [at_most(10)], told),
        Figure("memory after the start", memory / 1e6, "MB"),
        *(
            Figure(
                f"{name}, many / few waiting", many / few, "x", [at_most(1.5)], f"{many * 1e6:.0f} and {few * 1e6:.0f} us"
            )
            for name, (many, few) in costs.items()
        ),
    ]


async def _fill(port: int, queue: str, each: int) -> None:
    client = await QueueClient.connect(port, queue)
    await client.call("PUT", "", {"dlq": {"max_size": 10_000_000}, "visibility_timeout_ms": _HOUR_MS})
    body = {"value": "x" * 100}
    for start in range(0, each, BATCH):
        count = min(BATCH, each - start)
        await client.send([body] * count)
        messages = await client.receive(count)
        await client.call("POST", ":reject", {"entries": [{"receipt": one["receipt"]} for one in messages]})
    for start in range(0, each, BATCH):
        count = min(BATCH, each - start)
        await client.send([body] * count)
        await client.send([{**body, "delay_ms": _HOUR_MS}] * count)
    client.close()


async def _costs(server: Server) -> dict[str, tuple[float, float]]:
    """Processor seconds of the broker for each call, by case: with many waiting, and with few."""
    clients = {queue: await QueueClient.connect(server.port, queue) for queue in _QUEUES}
    for client in clients.values():
        await client.ack([one["receipt"] for one in await client.receive(1)])
    best: dict[tuple[str, str], float] = {}
    for number in range(WARM_UP + ROUNDS):
        for queue, client in clients.items():
            receipts: list[str] = []
            await client.send([{"value": "x" * 100}] * CALLS)

            async def receive(client: QueueClient = client, receipts: list[str] = receipts) -> None:
                receipts.append((await client.receive(1))[0]["receipt"])

            async def ack(client: QueueClient = client, receipts: list[str] = receipts) -> None:
                await client.ack([receipts.pop()])

            for name, call in (("receive", receive), ("ack", ack)):
                cost = await _cpu(server, call)
                if number >= WARM_UP:
                    best[name, queue] = min(cost, best.get((name, queue), cost))
    return {name: (best[name, "many"], best[name, "few"]) for name in ("receive", "ack")}


async def _cpu(server: Server, call: Callable[[], Awaitable[None]]) -> float:
    before = server.cpu_seconds()
    for _ in range(CALLS):
        await call()
    return (server.cpu_seconds() - before) / CALLS
