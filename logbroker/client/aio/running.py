"""Running everything that a client has been given to run, until the process is told to end.

What lives here: signals and the end of the others when one fails. What may not: what a worker does.
Invariant: after SIGTERM or SIGINT nothing new is taken on, and what runs is drained; a second signal does what it
always did.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Generator, Sequence

from logbroker.client.aio.driver import Runnable


async def run_all(workers: Sequence[Runnable]) -> None:
    """Run workers until a signal comes, or until one ends. Raises what one of them ended with."""

    def stop_all() -> None:
        for worker in workers:
            worker.stop()

    with _on_signals(stop_all):
        tasks = [asyncio.create_task(worker.run()) for worker in workers]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop_all()
            await asyncio.wait(tasks)
        for task in tasks:
            task.result()


@contextlib.contextmanager
def _on_signals(stop: Callable[[], None]) -> Generator[None, None, None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears of signals
        return
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def heard(number: signal.Signals) -> None:
        loop.remove_signal_handler(number)
        stop()

    for number in numbers:
        loop.add_signal_handler(number, heard, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
