"""One message kept back for 30 days and a million retries of 1 KB: how large the topics get, and how soon they load.

Without upkeep the message kept back, the oldest record of the topic, would keep all retries that came after it.
"""

import asyncio
import time
from pathlib import Path

from tools.bench.log_setup import MEBIBYTE
from tools.bench.measure import Figure, at_most
from tools.bench.queue_client import QueueClient
from tools.bench.servers.logbroker import logbroker

RETRIES = 1_000_000
TOGETHER = 1_000
LONGEST_MS = 30 * 24 * 3_600_000
QUEUE = "failing"


def run(directory: Path, retries: int = RETRIES) -> list[Figure]:
    """Fail, start again, measure."""
    topics = directory / "data" / "topics"
    with logbroker(directory) as server:
        begin = time.monotonic()
        largest = asyncio.run(_fail(server.port, topics, retries))
        seconds = time.monotonic() - begin
    with logbroker(directory) as server:
        ready = time.monotonic() - server.started_at
        left = asyncio.run(_left(server.port))
    if left != (1, TOGETHER):
        raise RuntimeError(f"delayed and others: {left}")
    note = f"{retries:,} retries, {retries / seconds:,.0f}/s"
    return [
        Figure("largest size of all logs", largest / MEBIBYTE, "MiB", [at_most(256)], note),
        Figure("a start with it until ready", ready, "s", [at_most(10)]),
    ]


async def _fail(port: int, topics: Path, retries: int) -> int:
    client = await QueueClient.connect(port, QUEUE)
    await client.call("PUT", "", {"max_attempts": None, "retry": {"policy": "none"}})
    await client.send([{"value": "long", "delay_ms": LONGEST_MS}])
    await client.send([{"value": "x" * 1_024}] * TOGETHER)
    largest = failed = 0
    while failed < retries:
        receipts = [one["receipt"] for one in await client.receive(TOGETHER, wait_ms=1_000)]
        await client.nack(receipts)
        failed += len(receipts)
        largest = max(largest, _size(topics))
    client.close()
    return largest


def _size(topics: Path) -> int:
    """Bytes of all logs: the retry topic, and little besides."""
    total = 0
    for path in topics.glob("**/*.log"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # it was trimmed just now
    return total


async def _left(port: int) -> tuple[int, int]:
    client = await QueueClient.connect(port, QUEUE)
    counts = (await client.call("GET", ""))["counts"]
    client.close()
    return counts["delayed"], counts["ready"] + counts["in_flight"] + counts["retrying"]
