"""A worker: messages of a queue or a subscription handed to a function, each settled by how the function ended.

What lives here: leases, settlements, and the counts. What may not: slots and threads (``slots``), what an end means
(``handling``), HTTP.
Invariants: a message is acknowledged only after its handler has returned; a stop acknowledges nothing that is unfinished:
what does not end in time goes back uncounted.

Settlements are gathered: while one call is under way the next ones wait and then go together, so a busy worker settles many
messages by one call, and a slow one each at once. A handler's slot is free as soon as the handler has ended.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from logbroker.client.aio.driver import Driver
from logbroker.client.aio.slots import POLL_S, Given, Returned, SlotOptions, Slots, log
from logbroker.client.calls.messages import Delivery, Kind, SentMessage, Settlement, Verb
from logbroker.client.durations import Duration
from logbroker.client.flows import Flow
from logbroker.client.handling import Settling, decoder_of, settling_of
from logbroker.client.payloads import HeadersGiven, Key
from logbroker.client.settling import message, receive, send_one, settle
from logbroker.errors import LeaseLost, LogbrokerError

_SETTLE_AT_ONCE = 1_000
_COUNTED = {"ack": "acked", "nack": "nacked", "reject": "rejected", "release": "released"}


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works; ``lease_ms`` is how long a lease lasts that is not extended."""

    slots: SlotOptions
    lease_ms: int = 30_000
    consumer: str = "worker"
    kind: Kind = "queues"


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


class Worker(Slots[Delivery, Given, Returned]):
    """A handler at work on a queue. Calling it calls the handler; ``run`` works until ``stop``."""

    def __init__(self, driver: Driver, name: str, handler: Callable[Given, Returned], options: WorkerOptions) -> None:
        super().__init__(driver, name, handler, options.slots)
        self.options = options
        self.stats = WorkerStats()
        self._decode = decoder_of(self._wanted.kind)
        self._held: dict[str, float] = {}
        """By receipt, when the handler was begun; their leases are kept."""
        self._settlements = _Settlements()

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
        return await self._driver.run(send_one(self.name, one))

    # -- one message -----------------------------------------------------------------------------------------------------

    def _fetch(self, limit: int) -> Flow[list[Delivery]]:
        options = self.options
        return receive(self.name, limit, POLL_S, options.lease_ms / 1_000, options.consumer, options.kind)

    def _id(self, item: Delivery) -> str:
        return item.receipt

    def _arguments(self, item: Delivery) -> tuple[Any, ...]:
        self.stats.received += 1
        self.stats.in_flight += 1
        self._held[item.receipt] = asyncio.get_running_loop().time()
        message = self._decode(item)
        return (message, Context(item, self)) if self._wanted.context else (message,)

    def _ended(self, item: Delivery, returned: Any, error: BaseException | None) -> None:
        began = self._held.pop(item.receipt, None)
        if began is not None:
            self.stats.in_flight -= 1
            self.stats.busy_s += asyncio.get_running_loop().time() - began
        self._settle(settling_of(item.receipt, error))

    async def _finish(self) -> None:
        while self._settlements.task is not None:
            await asyncio.wait([self._settlements.task])

    # -- leases and settlements ------------------------------------------------------------------------------------------

    async def _beside(self) -> None:
        """Extend the leases of what runs, at a third of their length, so that one lost call does no harm."""
        lease_ms = self.options.lease_ms
        while True:
            await asyncio.sleep(lease_ms / 3_000)
            if self._held:
                await self._settled("extend", [Settlement(receipt, lease_ms=lease_ms) for receipt in self._held])

    def _settle(self, settling: Settling) -> None:
        self._settlements.waiting.setdefault(settling.verb, []).append(settling.entry)
        if self._settlements.task is None:
            self._settlements.task = asyncio.create_task(self._settle_all(), name=f"settlements of worker {self.name}")

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
            outcomes: list[Any] = await self._driver.run(settle(self.name, verb, entries, self.options.kind))
        except LogbrokerError as error:
            outcomes = error.fields.get("results") or [error] * len(entries)
        for entry, outcome in zip(entries, outcomes, strict=True):
            self._count(verb, entry, outcome)

    def _count(self, verb: Verb, entry: Settlement, outcome: Any) -> None:
        if not isinstance(outcome, LogbrokerError):
            if verb != "extend":
                setattr(self.stats, _COUNTED[verb], getattr(self.stats, _COUNTED[verb]) + 1)
            return
        if isinstance(outcome, LeaseLost):
            if verb != "extend":  # the settlement that follows an extension says so too
                self.stats.lease_lost += 1
                log.warning("worker %s: a lease was lost before its %s: another delivery follows", self.name, verb)
            return
        log.warning("worker %s: %s failed: %s: %s", self.name, verb, outcome.code, outcome)
