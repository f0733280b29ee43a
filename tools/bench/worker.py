"""What a worker costs beside a bare loop that receives and acks, both over HTTP with the Python client.

The bare loop receives batches of 16 and acks each batch by one call; the worker has 16 handlers that do nothing. Both run
in this process against one broker, and take turns; a value is that of the best round. The worker receives while it acks, so
it can be quicker than the loop.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from logbroker import AsyncClient, connect, message
from tools.bench.measure import Figure
from tools.bench.servers.logbroker import logbroker
from tools.bench.servers.process import HOST

QUEUE = "bench"
MESSAGES = 3_000
CONCURRENCY = 16
ROUNDS = 5
WARM_UP = 1
VALUE = {"id": 1, "text": "x" * 100}
Round = Callable[[AsyncClient], Awaitable[None]]


def run(directory: Path) -> list[Figure]:
    """Start a broker, and measure."""
    with logbroker(directory) as server:
        return asyncio.run(_measured(f"http://{HOST}:{server.port}"))


async def _measured(url: str) -> list[Figure]:
    rounds: dict[str, Round] = {"bare loop": _bare, "@worker, 16 handlers": _worker}
    rates, costs = dict.fromkeys(rounds, 0.0), dict.fromkeys(rounds, float("inf"))
    async with connect(url) as lb:
        await lb.queues.create(QUEUE)
        for number in range(WARM_UP + ROUNDS):
            for name, work in rounds.items():
                await lb.queue(QUEUE).send_many(message(VALUE) for _ in range(MESSAGES))
                begin, cpu = time.perf_counter(), time.process_time()
                await work(lb)
                took, spent = time.perf_counter() - begin, time.process_time() - cpu
                if number >= WARM_UP:
                    rates[name] = max(rates[name], MESSAGES / took)
                    costs[name] = min(costs[name], spent / MESSAGES * 1e6)
    return [
        *(Figure(f"{name}: rate", rate, "messages/s") for name, rate in rates.items()),
        *(Figure(f"{name}: CPU of the client", cost, "us a message") for name, cost in costs.items()),
    ]


async def _bare(lb: AsyncClient) -> None:
    done = 0
    while done < MESSAGES:
        async with lb.queue(QUEUE).receive(CONCURRENCY, wait=1) as received:
            done += len([one.json() for one in received])


async def _worker(lb: AsyncClient) -> None:
    left, over = MESSAGES, asyncio.Event()

    @lb.queue(QUEUE).worker(concurrency=CONCURRENCY)
    async def handle(value: dict[str, object]) -> None:
        nonlocal left
        left -= 1
        if not left:
            over.set()

    async with handle.running():
        await over.wait()
