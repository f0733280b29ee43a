"""A worker: messages of a queue handed to a function, so many at a time, each settled by how the function ended.

What lives here: receiving, running handlers, keeping their leases, settling, stopping. What may not: what an end means
(``handling``), HTTP.
Invariants: a message is acknowledged only after its handler has returned; nothing is received that no slot is free for;
a stop acknowledges nothing that is unfinished: what does not end in time goes back uncounted.

Settlements are gathered: while one call is under way the next ones wait and then go together, so a busy worker settles many
messages by one call, and a slow one each at once. A handler's slot is free as soon as the handler has ended.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, ParamSpec, TypeVar

from logbroker.client.aio.driver import Driver
from logbroker.client.calls.messages import Delivery, SentMessage, Settlement, Verb
from logbroker.client.durations import Duration
from logbroker.client.handling import Settling, TimedOut, decoder_of, settling_of, wanted_by
from logbroker.client.payloads import HeadersGiven, Key
from logbroker.client.settling import message, receive, send_one, settle
from logbroker.errors import LeaseLost, LogbrokerError

log = logging.getLogger("logbroker.worker")

Given = ParamSpec("Given")
Returned = TypeVar("Returned")

POLL_S = 20.0
_SETTLE_AT_ONCE = 1_000
_SHORTEST_REST_S, _LONGEST_REST_S = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works. Durations are milliseconds; ``timeout_ms`` None lets a handler run as long as it likes."""

    concurrency: int = 1
    visibility_timeout_ms: int = 30_000
    timeout_ms: int | None = None
    drain_ms: int = 30_000
    consumer: str = "worker"


@dataclass(slots=True)
class WorkerStats:
    """What a worker has done. ``released`` went back unfinished at a stop; ``lease_lost`` went to others meanwhile."""

    received: int = 0
    acked: int = 0
    nacked: int = 0
    rejected: int = 0
    released: int = 0
    lease_lost: int = 0
    in_flight: int = 0
    busy_s: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """The counts by name."""
        return asdict(self)


class Context:
    """What a handler may ask about the delivery it works on."""

    __slots__ = ("_worker", "message")

    def __init__(self, message: Delivery, worker: "Worker[..., Any]") -> None:
        self.message = message
        self._worker = worker

    @property
    def id(self) -> str:
        """The id of the message, the same in every delivery."""
        return self.message.id

    @property
    def deliveries(self) -> int:
        """How often it was delivered, this time included."""
        return self.message.deliveries

    @property
    def failures(self) -> int:
        """How often it has failed before."""
        return self.message.failures

    @property
    def stopping(self) -> bool:
        """Whether the worker is stopping: a handler that takes long may end early."""
        return self._worker.stopping


@dataclass(slots=True)
class _Settlements:
    """What waits to be settled, and the task that does it."""

    waiting: dict[Verb, list[Settlement]] = field(default_factory=dict)
    task: "asyncio.Task[None] | None" = None


class Worker(Generic[Given, Returned]):
    """A handler at work on a queue. Calling it calls the handler; ``run`` works until ``stop``."""

    def __init__(self, driver: Driver, queue: str, handler: Callable[Given, Returned], options: WorkerOptions) -> None:
        self.queue = queue
        self.options = options
        self.stats = WorkerStats()
        self.stopping = False
        self._driver = driver
        self._handler = handler
        self._calling: Callable[..., Any] = handler
        """The same, called with what its signature was read to want."""
        self._wanted = wanted_by(handler)
        self._decode = decoder_of(self._wanted.kind)
        self._handling: dict[str, asyncio.Task[None]] = {}
        """By receipt, what runs; its leases are kept."""
        self._settlements = _Settlements()
        self._changed = asyncio.Event()
        self._receiving: asyncio.Task[list[Delivery]] | None = None
        self._threads: ThreadPoolExecutor | None = None

    def __call__(self, *arguments: Given.args, **named: Given.kwargs) -> Returned:
        return self._handler(*arguments, **named)

    async def enqueue(
        self,
        value: object,
        *,
        key: Key = None,
        headers: HeadersGiven = (),
        priority: int = 0,
        delay: Duration | None = None,
        dedup_id: str | None = None,
        ttl: Duration | None = None,
    ) -> SentMessage:
        """Send a message to the queue, as the queue's ``send`` does."""
        one = message(value, key=key, headers=headers, priority=priority, delay=delay, dedup_id=dedup_id, ttl=ttl)
        return await self._driver.run(send_one(self.queue, one))

    # -- life ------------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Receive no more; ``run`` returns once what runs has ended, or ``drain_ms`` are over."""
        self.stopping = True
        self._changed.set()
        if self._receiving is not None:
            self._receiving.cancel()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Work while the context lasts, and drain at its end. Raises what ``run`` raises."""
        work = asyncio.create_task(self.run(), name=f"worker {self.queue}")
        try:
            yield
        finally:
            self.stop()
            await work

    async def run(self) -> None:
        """Work until ``stop``. Raises what a receive was refused for that trying again does not mend (QueueNotFound)."""
        if not self._wanted.is_async:
            self._threads = ThreadPoolExecutor(self.options.concurrency, thread_name_prefix=f"worker {self.queue}")
        keeping = asyncio.create_task(self._keep_leases(), name=f"leases of worker {self.queue}")
        try:
            await self._work()
        finally:
            try:
                await self._drain()
            finally:
                keeping.cancel()
                await asyncio.wait([keeping])
                if self._threads is not None:
                    self._threads.shutdown(wait=False)

    async def _work(self) -> None:
        rest_s = _SHORTEST_REST_S
        while not self.stopping:
            free = self.options.concurrency - len(self._handling)
            if free <= 0:
                self._changed.clear()
                await self._changed.wait()
                continue
            try:
                deliveries = await self._receive(free)
                rest_s = _SHORTEST_REST_S
            except LogbrokerError as error:
                if not error.retriable:
                    raise
                log.warning("worker %s: %s: %s; trying again", self.queue, error.code, error)
                await asyncio.sleep(rest_s * random.uniform(0.5, 1.0))
                rest_s = min(_LONGEST_REST_S, rest_s * 2)
                continue
            for delivery in deliveries:
                self._begin(delivery)

    async def _receive(self, limit: int) -> list[Delivery]:
        options = self.options
        flow = receive(self.queue, limit, POLL_S, options.visibility_timeout_ms / 1_000, options.consumer)
        receiving: asyncio.Task[list[Delivery]] = asyncio.create_task(self._driver.run(flow))
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
        """Let what runs end; what does not in time is broken off and goes back uncounted."""
        self.stopping = True
        running = list(self._handling.values())
        if running:
            _, late = await asyncio.wait(running, timeout=self.options.drain_ms / 1_000)
            for task in late:
                task.cancel()
            if late:
                log.warning("worker %s: %d handlers did not end in time; their messages go back", self.queue, len(late))
                await asyncio.wait(late)
        while self._settlements.task is not None:
            await asyncio.wait([self._settlements.task])

    # -- one message -----------------------------------------------------------------------------------------------------

    def _begin(self, delivery: Delivery) -> None:
        self.stats.received += 1
        self.stats.in_flight += 1
        task = asyncio.create_task(self._handle(delivery), name=f"worker {self.queue} {delivery.id}")
        self._handling[delivery.receipt] = task

    async def _handle(self, delivery: Delivery) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        error: BaseException | None = None
        try:
            await self._call(delivery)
        except (Exception, asyncio.CancelledError) as raised:
            error = raised
        self.stats.busy_s += loop.time() - began
        self.stats.in_flight -= 1
        del self._handling[delivery.receipt]
        self._settle(settling_of(delivery.receipt, error))
        self._changed.set()

    async def _call(self, delivery: Delivery) -> None:
        message = self._decode(delivery)
        arguments = (message, Context(delivery, self)) if self._wanted.context else (message,)
        timeout_ms = self.options.timeout_ms
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1_000) as limit:
                if self._threads is None:
                    await self._calling(*arguments)
                else:
                    await self._in_thread(self._threads, arguments)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimedOut(f"the handler ran longer than {timeout_ms} ms") from error

    async def _in_thread(self, threads: ThreadPoolExecutor, arguments: Sequence[Any]) -> None:
        await asyncio.get_running_loop().run_in_executor(threads, self._calling, *arguments)

    # -- leases and settlements ------------------------------------------------------------------------------------------

    async def _keep_leases(self) -> None:
        """Extend the leases of what runs, at a third of their length, so that one lost call does no harm."""
        lease_ms = self.options.visibility_timeout_ms
        while True:
            await asyncio.sleep(lease_ms / 3_000)
            if self._handling:
                await self._settled("extend", [Settlement(receipt, lease_ms=lease_ms) for receipt in self._handling])

    def _settle(self, settling: Settling) -> None:
        self._settlements.waiting.setdefault(settling.verb, []).append(settling.entry)
        if self._settlements.task is None:
            self._settlements.task = asyncio.create_task(self._settle_all(), name=f"settlements of worker {self.queue}")

    async def _settle_all(self) -> None:
        waiting = self._settlements.waiting
        try:
            while waiting:
                verb = next(iter(waiting))
                entries = waiting.pop(verb)
                for begin in range(0, len(entries), _SETTLE_AT_ONCE):
                    await self._settled(verb, entries[begin : begin + _SETTLE_AT_ONCE])
        finally:
            self._settlements.task = None

    async def _settled(self, verb: Verb, entries: list[Settlement]) -> None:
        try:
            outcomes: list[Any] = await self._driver.run(settle(self.queue, verb, entries))
        except LogbrokerError as error:
            outcomes = error.fields.get("results") or [error] * len(entries)
        for entry, outcome in zip(entries, outcomes, strict=True):
            self._count(verb, entry, outcome)

    def _count(self, verb: Verb, entry: Settlement, outcome: Any) -> None:
        if not isinstance(outcome, LogbrokerError):
            if verb != "extend":
                name = {"ack": "acked", "nack": "nacked", "reject": "rejected", "release": "released"}[verb]
                setattr(self.stats, name, getattr(self.stats, name) + 1)
            return
        if isinstance(outcome, LeaseLost):
            if verb != "extend":  # the settlement that follows an extension says so too
                self.stats.lease_lost += 1
                log.warning("worker %s: a lease was lost before its %s: another delivery follows", self.queue, verb)
            return
        log.warning("worker %s: %s failed: %s: %s", self.queue, verb, outcome.code, outcome)
