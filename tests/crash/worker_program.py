"""A worker in a process of its own, to be killed: it notes when each message is begun and when its handler has ended.

Run as ``python -m tests.crash.worker_program URL LEDGER``. Each note is one line written at once at the end of the ledger,
so several of these keep one ledger whose order is the order of what happened.
"""

import asyncio
import os
import random
import sys

from logbroker import Context, connect

QUEUE = "work"
CONCURRENCY = 16
TIMEOUT_S = 0.3
FAILS_EVERY, HANGS_EVERY = 50, 997
"""Messages that fail, and that run into the timeout, when they are delivered for the first time."""


async def work(url: str, ledger: int) -> None:
    """Work until SIGTERM."""
    async with connect(url) as lb:

        @lb.queue(QUEUE).worker(concurrency=CONCURRENCY, visibility_timeout="2s", timeout=TIMEOUT_S)
        async def handle(number: int, context: Context) -> None:
            note(ledger, "begin", number, context)
            await asyncio.sleep(random.uniform(0, 0.002))
            if context.deliveries == 1 and number % FAILS_EVERY == 0:
                raise ValueError("the first time")
            if context.deliveries == 1 and number % HANGS_EVERY == 0:
                await asyncio.sleep(60)
            note(ledger, "end", number, context)

        await lb.run()
        sys.stdout.write(f"{handle.stats.as_dict()}\n")


def note(ledger: int, what: str, number: int, context: Context) -> None:
    """One line, written whole."""
    key = (context.message.key or b"").decode()
    os.write(ledger, f"{what} {number} {key} {os.getpid()}\n".encode())


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)))
