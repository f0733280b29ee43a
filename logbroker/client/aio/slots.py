"""So many handlers at a time: what workers of queues and responders of services have in common.

What lives here: receiving for free slots, running handlers (in threads where they are not async), timeouts, stopping. What
may not: what is received, and what becomes of it when its handler has ended.
Invariants: nothing is received that no slot is free for; every item that was begun is ended exactly once; a stop waits for
what runs, and what does not end in time is broken off and ended with a cancellation.
"""

import asyncio
import contextlib
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

from logbroker.client.aio.driver import Driver
from logbroker.client.durations import Duration, to_ms
from logbroker.client.flows import Flow
from logbroker.client.handling import TimedOut, wanted_by
from logbroker.errors import InvalidRequest, LogbrokerError

log = logging.getLogger("logbroker.worker")

Item = TypeVar("Item")
Given = ParamSpec("Given")
Returned = TypeVar("Returned")

POLL_S = 20.0
_SHORTEST_REST_S, _LONGEST_REST_S = 0.1, 5.0


class SlotOptions(NamedTuple):
    """How many at a time, how long one may run (None: as long as it likes), and how long a stop waits. Milliseconds."""

    concurrency: int = 1
    timeout_ms: int | None = None
    drain_ms: int = 30_000

    @classmethod
    def of(cls, concurrency: int, timeout: Duration | None, drain: Duration) -> "SlotOptions":
        """The same from what a caller gives. Raises InvalidRequest."""
        if not isinstance(concurrency, int) or concurrency < 1:
            raise InvalidRequest(f"concurrency is a number from 1, not {concurrency!r}")
        timeout_ms = None if timeout is None else to_ms(timeout)
        if timeout_ms is not None and timeout_ms < 1:
            raise InvalidRequest(f"a timeout is longer than nothing, not {timeout!r}; leave it out for none")
        return cls(concurrency, timeout_ms, to_ms(drain))


class Slots(ABC, Generic[Item, Given, Returned]):
    """A handler at work. Calling it calls the handler; ``run`` works until ``stop``."""

    def __init__(self, driver: Driver, name: str, handler: Callable[Given, Returned], options: SlotOptions) -> None:
        self.name = name
        self.stopping = False
        self._driver = driver
        self._slots = options
        self._handler = handler
        self._calling: Callable[..., Any] = handler
        """The same, called with what its signature was read to want."""
        self._wanted = wanted_by(handler)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stuck = 0
        """Threads whose handler was given up on, but still runs: nothing is received for them."""
        self._changed = asyncio.Event()
        self._receiving: asyncio.Task[list[Item]] | None = None
        self._threads: ThreadPoolExecutor | None = None

    def __call__(self, *arguments: Given.args, **named: Given.kwargs) -> Returned:
        return self._handler(*arguments, **named)

    # -- what kinds differ in --------------------------------------------------------------------------------------------

    @abstractmethod
    def _fetch(self, limit: int) -> Flow[list[Item]]:
        """Receive at most ``limit``, waiting for the first up to ``POLL_S``."""

    @abstractmethod
    def _id(self, item: Item) -> str:
        """What tells an item from others that run."""

    @abstractmethod
    def _arguments(self, item: Item) -> tuple[Any, ...]:
        """What the handler is called with. What it raises counts as raised by the handler."""

    @abstractmethod
    def _ended(self, item: Item, returned: Any, error: BaseException | None) -> None:
        """A handler has ended."""

    @abstractmethod
    async def _finish(self) -> None:
        """Everything has ended: return when what follows from it is done too."""

    async def _prepare(self) -> None:
        """What has to be done before anything is received."""

    async def _beside(self) -> None:
        """Runs beside the handlers, and is cancelled at their end."""

    # -- life ------------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Receive no more; ``run`` returns once what runs has ended, or the time to drain is over."""
        self.stopping = True
        self._changed.set()
        if self._receiving is not None:
            self._receiving.cancel()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Work while the context lasts, and drain at its end. Raises what ``run`` raises."""
        work = asyncio.create_task(self.run(), name=f"worker {self.name}")
        try:
            yield
        finally:
            self.stop()
            await work

    def run(self) -> Coroutine[Any, Any, None]:
        """Work until ``stop``. Raises what a receive was refused for that trying again does not mend (QueueNotFound)."""
        self.stopping = False  # now, not when the work begins: a stop before that counts
        return self._run()

    async def _run(self) -> None:
        await self._prepare()
        if not self._wanted.is_async:
            self._threads = ThreadPoolExecutor(self._slots.concurrency, thread_name_prefix=f"worker {self.name}")
        beside = asyncio.create_task(self._beside(), name=f"beside worker {self.name}")
        try:
            await self._work()
        finally:
            try:
                await self._drain()
            finally:
                beside.cancel()
                await asyncio.wait([beside])
                if self._threads is not None:
                    self._threads.shutdown(wait=False)

    async def _work(self) -> None:
        rest_s = _SHORTEST_REST_S
        while not self.stopping:
            free = self._slots.concurrency - len(self._running) - self._stuck
            if free <= 0:
                self._changed.clear()
                await self._changed.wait()
                continue
            try:
                items = await self._receive(free)
                rest_s = _SHORTEST_REST_S
            except LogbrokerError as error:
                if not error.retriable:
                    raise
                log.warning("worker %s: %s: %s; trying again", self.name, error.code, error)
                await self._rest(rest_s * random.uniform(0.5, 1.0))
                rest_s = min(_LONGEST_REST_S, rest_s * 2)
                continue
            for item in items:
                task = asyncio.create_task(self._handle(item), name=f"worker {self.name} {self._id(item)}")
                self._running[self._id(item)] = task

    async def _rest(self, seconds: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _receive(self, limit: int) -> list[Item]:
        receiving = asyncio.create_task(self._driver.run(self._fetch(limit)))
        self._receiving = receiving
        try:
            return await receiving
        except asyncio.CancelledError:
            if self.stopping and receiving.cancelled():
                return []  # broken off by ``stop``: the broker takes back what it would have given
            receiving.cancel()
            raise
        finally:
            self._receiving = None

    async def _drain(self) -> None:
        self.stopping = True
        running = list(self._running.values())
        if running:
            await asyncio.sleep(0)  # a task that is cancelled before it has begun would never end its item
            _, late = await asyncio.wait(running, timeout=self._slots.drain_ms / 1_000)
            for task in late:
                task.cancel()
            if late:
                log.warning("worker %s: %d handlers did not end in time and are broken off", self.name, len(late))
                await asyncio.wait(late)
        await self._finish()

    # -- one item --------------------------------------------------------------------------------------------------------

    async def _handle(self, item: Item) -> None:
        returned, error = None, None
        try:
            returned = await self._call(item)
        except (Exception, asyncio.CancelledError) as raised:
            error = raised
        del self._running[self._id(item)]
        self._changed.set()
        self._ended(item, returned, error)

    async def _call(self, item: Item) -> Any:
        arguments, timeout_ms = self._arguments(item), self._slots.timeout_ms
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1_000) as limit:
                if self._threads is None:
                    return await self._calling(*arguments)
                return await self._in_thread(self._threads, arguments)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimedOut(f"the handler ran longer than {timeout_ms} ms") from error

    async def _in_thread(self, threads: ThreadPoolExecutor, arguments: tuple[Any, ...]) -> Any:
        called = threads.submit(self._call_plain, arguments)
        try:
            return await asyncio.wrap_future(called)
        finally:
            if called.running():
                self._stuck += 1
                loop = asyncio.get_running_loop()
                called.add_done_callback(lambda _: self._thread_is_back(loop))

    def _call_plain(self, arguments: tuple[Any, ...]) -> Any:
        try:
            return self._calling(*arguments)
        except StopIteration as error:  # no future can carry it
            raise RuntimeError("the handler raised StopIteration") from error

    def _thread_is_back(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._free_thread)

    def _free_thread(self) -> None:
        self._stuck -= 1
        self._changed.set()
