"""Many subscriptions over one topic: what one that fails, one that is slow and one that is dead cost the others.

A publisher writes at a steady rate; healthy subscribers stream and acknowledge. Rounds with and without the three take
turns on one broker. The latency of a record is from before it was published until a subscriber has read it, and it counts
from when it was to be published, so that a publisher that is held up hides nothing.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import Any

from tools.bench.http_load import request
from tools.bench.measure import Figure, at_most, percentile
from tools.bench.queue_client import QueueClient
from tools.bench.servers.logbroker import logbroker
from tools.bench.servers.process import HOST

HEALTHY = 5
RATE = 40
PARTITIONS = 4
SECONDS = 8.0
ROUNDS = 7
WARM_UP = 1
DRAINED = 20_000
READERS = 10
TOPIC = "/v1/topics/news"
_SLOW_S = 0.5


def run(directory: Path, rounds: int = ROUNDS, seconds: float = SECONDS) -> list[Figure]:
    """Measure."""
    with logbroker(directory) as server:
        return asyncio.run(_measure(server.port, rounds, seconds))


async def _measure(port: int, rounds: int, seconds: float) -> list[Figure]:
    api = await QueueClient.at(port, "")
    await api.call("PUT", TOPIC, {"partitions": PARTITIONS})
    calm: list[float] = []
    troubled: list[float] = []
    for number in range(rounds + WARM_UP):
        alone = await _round(port, api, seconds)
        async with _trouble(port, api):
            beside = await _round(port, api, seconds)
        if number >= WARM_UP:
            calm.append(percentile(alone, 99) * 1_000)
            troubled.append(percentile(beside, 99) * 1_000)
    ratio = median(with_them / without for with_them, without in zip(troubled, calm, strict=True))
    note = f"{HEALTHY} healthy subscribers, {RATE} records/s, {rounds} rounds of {seconds:g} s each, taking turns"
    drained, filtered = await _drain(port, api, None), await _drain(port, api, 'headers.n == "1"')
    api.close()
    return [
        Figure("publish to receive, p99, alone", median(calm), "ms", note=note),
        Figure("the same beside a failing, a slow and a dead subscriber", median(troubled), "ms"),
        Figure("ratio of the two, median of the rounds", ratio, "", [at_most(1.2)]),
        Figure(f"{READERS} subscriptions read and acknowledge a topic, together", drained, "records/s"),
        Figure(f"{READERS} subscriptions read a topic of which they want a tenth", filtered, "records/s"),
    ]


async def _round(port: int, api: QueueClient, seconds: float) -> list[float]:
    """The latencies of all records at all healthy subscribers."""
    names = [f"healthy-{number}" for number in range(HEALTHY)]
    for name in names:
        await api.call("PUT", f"/v1/subscriptions/{name}", {"topic": "news"})
    latencies: list[float] = []
    count = int(RATE * seconds)
    readers = [asyncio.create_task(_follow(port, name, count, latencies)) for name in names]
    await asyncio.sleep(0.2)
    begin = time.perf_counter()
    for number in range(count):
        due = begin + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await api.call("POST", f"{TOPIC}/records", {"records": [{"value_json": {"at": due}, "key": str(number)}]})
    await asyncio.wait_for(asyncio.gather(*readers), 30)
    for name in names:
        await api.call("DELETE", f"/v1/subscriptions/{name}")
    return latencies


async def _follow(port: int, name: str, count: int, latencies: list[float]) -> None:
    """Stream, and acknowledge what came together with one call."""
    settle = await QueueClient.at(port, f"/v1/subscriptions/{name}")
    reader, writer = await asyncio.open_connection(HOST, port, limit=1 << 24)
    writer.write(request("GET", f"/v1/subscriptions/{name}/stream"))
    receipts: list[str] = []
    acking: set[asyncio.Task[Any]] = set()
    while count:
        line = await reader.readline()
        if not line.startswith(b"{"):
            if receipts and not acking:
                acking = {asyncio.create_task(settle.ack(receipts))}
                receipts = []
            acking = {task for task in acking if not task.done()}
            continue
        message = json.loads(line)
        latencies.append(time.perf_counter() - message["value_json"]["at"])
        receipts.append(message["receipt"])
        count -= 1
    if acking:
        await asyncio.wait(acking)
    if receipts:
        await settle.ack(receipts)
    writer.close()
    settle.close()


@contextlib.asynccontextmanager
async def _trouble(port: int, api: QueueClient) -> AsyncIterator[None]:
    """One subscriber that fails at everything, one that takes half a second for each, one that never comes."""
    for name in ("failing", "slow", "dead"):
        await api.call("PUT", f"/v1/subscriptions/{name}", {"topic": "news"})
    working = [asyncio.create_task(work(port)) for work in (_fail, _dawdle)]
    try:
        await _until_it_fails(api)
        yield
    finally:
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        for name in ("failing", "slow", "dead"):
            await api.call("DELETE", f"/v1/subscriptions/{name}")


async def _until_it_fails(api: QueueClient) -> None:
    """Its retry and dead-letter topics are made at its first failures: that is not what is measured."""
    records = [{"value": "bad", "partition": number} for number in range(PARTITIONS)]
    await api.call("POST", f"{TOPIC}/records", {"records": records})
    while (await api.call("GET", "/v1/subscriptions/failing"))["counts"]["dead"] < PARTITIONS:  # noqa: ASYNC110 - over HTTP
        await asyncio.sleep(0.05)


async def _fail(port: int) -> None:
    client = await QueueClient.at(port, "/v1/subscriptions/failing")
    while True:
        pulled = await client.call("POST", ":pull", {"max": 100, "wait_ms": 1_000})
        await client.nack([message["receipt"] for message in pulled["messages"]])


async def _dawdle(port: int) -> None:
    client = await QueueClient.at(port, "/v1/subscriptions/slow")
    while True:
        pulled = await client.call("POST", ":pull", {"max": 1, "wait_ms": 1_000})
        await asyncio.sleep(_SLOW_S)
        await client.ack([message["receipt"] for message in pulled["messages"]])


async def _drain(port: int, api: QueueClient, expression: str | None) -> float:
    """Records a second that all subscriptions together have read, filters included."""
    await api.call("PUT", "/v1/topics/history", {"partitions": 1})
    for start in range(0, DRAINED, 500):
        records = [
            {"value": "x" * 100, "headers": [["n", str(number % 10)]]} for number in range(start, min(DRAINED, start + 500))
        ]
        await api.call("POST", "/v1/topics/history/records", {"records": records})
    names = [f"reader-{number}" for number in range(READERS)]
    body = {"topic": "history", "filter": expression, "start": {"at": "earliest"}}
    for name in names:
        await api.call("PUT", f"/v1/subscriptions/{name}", body)
    begin = time.perf_counter()
    wanted = DRAINED if expression is None else DRAINED // READERS
    await asyncio.gather(*(_read_all(port, name, wanted) for name in names))
    seconds = time.perf_counter() - begin
    for name in names:
        await api.call("DELETE", f"/v1/subscriptions/{name}")
    await api.call("DELETE", "/v1/topics/history")
    return READERS * DRAINED / seconds


async def _read_all(port: int, name: str, count: int) -> None:
    client = await QueueClient.at(port, f"/v1/subscriptions/{name}")
    while count:
        pulled = await client.call("POST", ":pull", {"max": 500, "wait_ms": 1_000})
        await client.ack([message["receipt"] for message in pulled["messages"]])
        count -= len(pulled["messages"])
    client.close()
