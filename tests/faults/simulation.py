"""A loop without threads and without waiting: a broker that runs on it does the same things in the same order each time.

What lives here: the loop, and running a coroutine on it. What may not: anything about what runs there.
Invariant: whatever would run in a thread runs on the loop's thread; so nothing is under way when nothing is ready.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from unittest.mock import patch

Result = TypeVar("Result")
_TURNS_OF_A_FLUSH = 10
"""Enough for a caller that is answered too early to go on."""


class InlinePool:
    """A thread pool without threads. What it is given takes some turns of the loop, as a flush takes some time."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call ``function`` after some turns."""
        _after_turns(_TURNS_OF_A_FLUSH, lambda: function(*arguments))

    def shutdown(self, **_: object) -> None:
        """Who asks for this has waited for what is under way."""


def _after_turns(turns: int, call: Callable[[], object]) -> None:
    if turns:
        asyncio.get_running_loop().call_soon(_after_turns, turns - 1, call)
    else:
        call()


class InlineLoop(asyncio.SelectorEventLoop):
    """A loop whose executor calls at once, and whose own thread is the only one."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        super().__init__()
        self._idle_waiters: list[asyncio.Future[None]] = []

    def run_in_executor(  # type: ignore[override]  # the base class has type variables that cannot be named here
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def when_idle(self) -> "asyncio.Future[None]":
        """Done once nothing is ready to run; of several, the one asked for last is done first."""
        future: asyncio.Future[None] = self.create_future()
        self._idle_waiters.append(future)
        return future

    def _run_once(self) -> None:
        timers = self._scheduled
        if self._idle_waiters and not self._ready and not (timers and timers[0].when() <= self.time()):
            self._idle_waiters.pop().set_result(None)
        super()._run_once()  # type: ignore[misc]  # CPython has no public way to know that a loop is idle


async def settled() -> None:
    """Let everything that is under way come to where only time or a caller can move it on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, InlineLoop)
    await loop.when_idle()


async def attempted(work: Coroutine[Any, Any, None]) -> bool:
    """Do ``work`` as a client that leaves when no answer can come any more; whether there was one."""
    task = asyncio.ensure_future(work)
    await settled()
    if task.done():
        await task
        return True
    task.cancel()
    await asyncio.wait([task])
    return False


def simulate(main: Coroutine[Any, Any, Result]) -> Result:
    """Run ``main`` on a loop of its own."""
    with patch("logbroker.engine.flusher.ThreadPoolExecutor", InlinePool):
        with asyncio.Runner(loop_factory=InlineLoop) as runner:
            return runner.run(main)
