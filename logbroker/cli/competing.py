"""``logbroker demo workers``: competing consumers of one queue, one of which dies with messages in its hands.

What lives here: the course of the demonstration and its verdict. What may not: how a worker works (``client.aio.worker``).
"""

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

import click

from logbroker.cli import failures
from logbroker.cli.framework import Command, Invocation, pass_invocation
from logbroker.cli.local_broker import local_broker
from logbroker.cli.output import note, print_item, print_rows

if TYPE_CHECKING:
    from logbroker.client.aio.client import AsyncClient

_QUEUE = "demo-jobs"
_LEASE_S = 1.0
_HELD = 5
_WHOLE_S = 300.0
_COLUMNS = ("consumer", "received", "processed", "errors")


@click.command(cls=Command)
@click.option("--messages", "count", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True, help="How many.")
@click.option("--workers", type=click.IntRange(1, 64), default=4, show_default=True, help="How many compete.")
@pass_invocation
def competing(invocation: Invocation, /, count: int, workers: int) -> int:
    """Let workers compete for messages: slower ones get fewer, what a dead one held goes to the others, nothing twice.

    Runs against the broker of --url, or, when none is given, against one of its own that leaves nothing behind.
    """
    with ExitStack() as stack:
        url = invocation.given_url or stack.enter_context(local_broker())
        return asyncio.run(_run(invocation, url, count, workers))


async def _run(invocation: Invocation, url: str, count: int, workers: int) -> int:
    from logbroker.cli.awaiting import until
    from logbroker.client.aio.client import connect

    done: Counter[int] = Counter()
    async with connect(url) as lb:
        queue = lb.queue(_QUEUE)
        await lb.queues.create(_QUEUE, retry={"policy": "none"}, visibility_timeout=_LEASE_S)
        try:
            await _send(lb, count)
            dead = await queue.lease(_HELD, consumer="worker 0, dies")
            began = time.perf_counter()
            async with AsyncExitStack() as stack:
                for number in range(1, workers + 1):
                    await _start(lb, stack, number, done)
                await until(lambda: _all_done(done, count), _WHOLE_S)
            took_s = time.perf_counter() - began
            consumers = await queue.consumers()
        finally:
            await lb.queues.delete(_QUEUE)
    rows = [{name: getattr(one, name) for name in _COLUMNS} for one in sorted(consumers, key=lambda one: one.consumer)]
    if invocation.output == "table":
        print_rows(invocation, rows, _COLUMNS)
        print()
    twice = sum(times > 1 for times in done.values())
    summary: dict[str, Any] = {"messages": count, "done": len(done), "done_twice": twice, "held_by_the_dead": len(dead)}
    summary |= {"seconds": round(took_s, 1)} if invocation.output == "table" else {"consumers": rows}
    print_item(invocation, summary)
    if (len(done), twice) == (count, 0):
        return 0
    note(invocation, "the numbers do not add up")
    return failures.FAILURE


async def _send(lb: "AsyncClient", count: int) -> None:
    from logbroker.client.settling import message

    await lb.queue(_QUEUE).send_many(message(number) for number in range(count))


async def _start(lb: "AsyncClient", stack: AsyncExitStack, number: int, done: Counter[int]) -> None:
    """A worker that takes ``number`` times as long as the first."""

    @lb.queue(_QUEUE).worker(concurrency=2, visibility_timeout=_LEASE_S, consumer=f"worker {number}")
    async def handle(job: int) -> None:
        await asyncio.sleep(random.uniform(0.5, 1.5) * number / 1_000)
        done[job] += 1

    await stack.enter_async_context(handle.running())


async def _all_done(done: Counter[int], count: int) -> bool:
    return len(done) == count
