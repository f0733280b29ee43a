"""Order by key under failures, and what workers gain: 20,000 messages of 10 ms, 100 keys, 5 % of the deliveries failing.

A worker receives a few messages, works on each for 10 ms, and settles them. Raises RuntimeError when a message of a key
succeeds before one that was sent earlier, or twice, or not at all.
"""

import asyncio
import random
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tools.bench.measure import Figure, at_least
from tools.bench.queue_client import QueueClient
from tools.bench.servers.logbroker import logbroker

KEYS = 100
FAILING = 0.05
WORK_S = 0.01
AT_ONCE = 5
WORKERS = 16
MESSAGES = 20_000
MESSAGES_OF_ONE = 1_000


def run(directory: Path) -> list[Figure]:
    """Many workers and one, beside each other on one broker."""
    with logbroker(directory) as server:
        one = asyncio.run(_rate(server.port, "one", 1, MESSAGES_OF_ONE))
        many = asyncio.run(_rate(server.port, "many", WORKERS, MESSAGES))
        again = asyncio.run(_rate(server.port, "again", 1, MESSAGES_OF_ONE))
    best = max(one, again)
    note = f"{many:,.0f} messages/s by {WORKERS} workers, {one:,.0f} and {again:,.0f} by one"
    return [Figure(f"{WORKERS} workers / one, ordered by {KEYS} keys", many / best, "x", [at_least(8)], note)]


async def _rate(port: int, queue: str, workers: int, count: int) -> float:
    clients = [await QueueClient.connect(port, queue) for _ in range(workers)]
    settings = {"ordering": "key", "partitions": 4, "max_attempts": None}
    await clients[0].call("PUT", "", settings)
    for start in range(0, count, 1_000):
        numbers = range(start, min(count, start + 1_000))
        await clients[0].send([{"value": str(number), "key": str(number % KEYS)} for number in numbers])
    done: dict[int, list[int]] = defaultdict(list)
    begin = time.monotonic()
    await asyncio.gather(*(_work(client, number, done, count) for number, client in enumerate(clients)))
    seconds = time.monotonic() - begin
    for key, worked_on in done.items():
        if worked_on != list(range(key, count, KEYS)):
            raise RuntimeError(f"key {key} was not worked on in order, each message once: {worked_on[:50]}")
    for client in clients:
        client.close()
    return count / seconds


async def _work(client: QueueClient, seed: int, done: dict[int, list[int]], count: int) -> None:
    chance = random.Random(seed)
    while sum(map(len, done.values())) < count:
        messages = await client.receive(AT_ONCE, wait_ms=200)
        failed: list[str] = []
        acked: list[str] = []
        for message in messages:
            await asyncio.sleep(WORK_S)
            if chance.random() < FAILING:
                failed.append(message["receipt"])
            else:
                _note(message, done)
                acked.append(message["receipt"])
        if acked:
            await client.ack(acked)
        if failed:
            await client.nack(failed)


def _note(message: dict[str, Any], done: dict[int, list[int]]) -> None:
    number = int(message["value"])
    done[number % KEYS].append(number)
