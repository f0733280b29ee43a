"""Request-reply: a question asked through the log, and one answer to whoever waits for it.

What lives here: who waits, who listens, and how an answer finds its way. What may not: formats of a door.
A request is a message of the queue ``svc.{service}``, with the requester's timeout as its time to live, so that a
responder which dies loses its lease and another one gets the request. The answer is no record: its token names the waiting
requester in the memory of this process, and the lease of the request.

Invariants: a requester gets one answer or its timeout, whatever happens to responders; a request whose requester is gone
(it left, its time is over, the broker was restarted) is given to nobody; a request is sent only while somebody listens.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from logbroker.broker.queue_sends import QueueMessage, QueueSends, SendOutcome
from logbroker.broker.queues import Queues
from logbroker.broker.topics import check_topic_name
from logbroker.clock import Clock
from logbroker.errors import (
    InvalidTopic,
    LogbrokerError,
    NoResponders,
    QueueNotFound,
    Recovering,
    RemoteError,
    RequestGone,
    RequestTimeout,
)
from logbroker.metrics import Family, Metrics
from logbroker.model import Header, Record
from logbroker.queues.dispatcher import Dispatcher, Received, Sent, Want
from logbroker.queues.headers import TTL_MS
from logbroker.queues.positions import Receipt
from logbroker.queues.settings import DlqSettings, QueueSettings, RetrySettings

PREFIX = "svc."
MAX_NAME = 239
"""Of a service, so that its queue's name and ``.retry`` behind it fit."""
LISTENS_MS = 10_000
"""How long a responder counts as listening after its last serve ended."""
REQUEST_HEADER = "logbroker-request"
"""Names the waiting requester in a request's record."""
_OURS = (REQUEST_HEADER, TTL_MS)
_SETTINGS = QueueSettings(retry=RetrySettings(policy="none"), max_attempts=None, dlq=DlqSettings(max_size=1_000))


class Reply(NamedTuple):
    """What a responder answers: a value with its headers, or the text of an error."""

    value: bytes | None
    headers: tuple[Header, ...] = ()
    error: str | None = None


class Asked(NamedTuple):
    """A request as a responder gets it; ``token`` is what it answers by, until ``deadline_ms`` (wall clock)."""

    token: str
    deadline_ms: int
    received: Received


@dataclass(slots=True)
class _Waiting:
    """A requester."""

    service: str
    deadline_ms: int
    answer: "asyncio.Future[Reply]"


@dataclass(slots=True)
class _Responders:
    """Who listens to a service."""

    serving: int = 0
    last_ms: int | None = None
    """When the last serve ended (monotonic clock)."""

    def listen(self, now_ms: int) -> bool:
        return self.serving > 0 or (self.last_ms is not None and now_ms - self.last_ms <= LISTENS_MS)


class RequestReply:
    """The use cases of requesters and responders."""

    def __init__(self, queues: Queues, sends: QueueSends, clock: Clock, metrics: Metrics) -> None:
        self._queues = queues
        self._sends = sends
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._responders: dict[str, _Responders] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._duration = metrics.histogram("requestreply_duration_seconds", "From request to reply.", ("service",))
        self._no_responders = _counter(metrics, "no_responders", "Requests refused because nobody listened.")
        self._timeouts = _counter(metrics, "timeouts", "Requests not answered in time.")
        self._late = _counter(metrics, "late_replies", "Replies for which nobody waited any more.")
        self._gone = _counter(metrics, "gone", "Requests dropped before delivery because nobody waited any more.")
        metrics.gauge("requestreply_waiting", "Requesters that wait.", read=lambda: len(self._waiting))

    def end_waiting(self) -> None:
        """Send all requesters away now."""
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(Recovering("the broker is shutting down"))

    # -- asking ----------------------------------------------------------------------------------------------------------

    async def request(self, service: str, record: Record, timeout_ms: int) -> Reply:
        """Ask a service and wait for the answer.

        Raises InvalidTopic, NoResponders, RequestTimeout, RemoteError, and what a queue send raises.
        """
        queue = queue_of(service)
        now = self._clock.now()
        responders = self._responders.get(service)
        if responders is None or not responders.listen(now.mono_ms):
            self._no_responders.add(1, service)
            raise NoResponders(f"nobody listens to service {service!r}", service=service)
        name = secrets.token_hex(8)
        waiting = _Waiting(service, now.wall_ms + timeout_ms, asyncio.get_running_loop().create_future())
        self._waiting[name] = waiting
        message = QueueMessage(_named(record, name), ttl_ms=timeout_ms)
        sending = asyncio.ensure_future(self._sends.send(queue, [message]))
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                await _written(sending)
                reply = await waiting.answer
        except TimeoutError:
            self._timeouts.add(1, service)
            raise RequestTimeout(f"service {service!r} did not answer within {timeout_ms} ms", service=service) from None
        finally:
            del self._waiting[name]
            if not _is_answered(waiting):
                self._later(self._withdraw(queue, sending))
        self._duration.observe((self._clock.now().mono_ms - now.mono_ms) / 1_000, service)
        if reply.error is not None:
            raise RemoteError(reply.error, service=service)
        return reply

    async def _withdraw(self, queue: str, sending: "asyncio.Future[list[SendOutcome]]") -> None:
        """Nobody waits any more: what nobody has received is taken back; what somebody has is settled by its reply."""
        with contextlib.suppress(LogbrokerError):
            sent = await _written(sending)
            await self._queues.get(queue).cancel(sent.id)

    # -- answering -------------------------------------------------------------------------------------------------------

    async def serve(self, service: str, want: Want, wait_ms: int) -> list[Asked]:
        """Requests leased to a responder; after ``wait_ms`` perhaps none. The first serve makes the service.

        Raises InvalidTopic. One that is cancelled has leased nothing, and no longer listens once its time is over.
        """
        queue = await self._queue(service)
        responders = self._responders.setdefault(service, _Responders())
        responders.serving += 1
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_ms / 1_000
        try:
            while True:
                received = await queue.receive(want, max(0, round((until - loop.time()) * 1_000)))
                asked = await self._still_wanted(service, queue, received)
                if asked or not received:
                    return asked
        finally:
            responders.serving -= 1
            responders.last_ms = self._clock.now().mono_ms

    async def give_back(self, service: str, asked: Sequence[Asked]) -> None:
        """Release requests of which the responder never heard."""
        await (await self._queue(service)).give_back([one.received for one in asked])

    async def _queue(self, service: str) -> Dispatcher:
        name = queue_of(service)
        try:
            return self._queues.get(name)
        except QueueNotFound:
            return (await self._queues.ensure(name, _SETTINGS))[0]

    async def _still_wanted(self, service: str, queue: Dispatcher, received: Sequence[Received]) -> list[Asked]:
        asked: list[Asked] = []
        gone: list[Receipt] = []
        for one in received:
            name = _name_in(one.headers)
            waiting = self._waiting.get(name)
            if waiting is None or waiting.service != service:
                gone.append(one.receipt)
            else:
                asked.append(
                    Asked(f"{name}.{one.receipt}", waiting.deadline_ms, one._replace(headers=_others(one.headers)))
                )
        if gone:
            self._gone.add(len(gone), service)
            self._later(_settle(queue, gone))
        return asked

    async def reply(self, token: str, reply: Reply) -> None:
        """Answer the request that came with ``token``; its message is done when this returns.

        Whoever answers first is heard, also after its lease went to another responder. Raises InvalidRequest for what is no
        token, RequestGone when nobody waits any more.
        """
        name, _, text = token.partition(".")
        receipt = Receipt.parse(text)
        waiting = self._waiting.get(name)
        heard = waiting is not None and not waiting.answer.done()
        if waiting is not None and heard:
            waiting.answer.set_result(reply)
        queue = self._queue_with(receipt.incarnation)
        if queue is not None:
            await queue.settle.ack([receipt])  # a lease that was lost leaves nothing to settle
        if not heard:
            service = queue.definition.name.removeprefix(PREFIX) if queue is not None else "unknown"
            self._late.add(1, service)
            raise RequestGone("nobody waits for this reply: it was answered, its time is over, or the requester left")

    def _queue_with(self, incarnation: int) -> Dispatcher | None:
        for service in self._responders:
            with contextlib.suppress(LogbrokerError):
                queue = self._queues.get(queue_of(service))
                if queue.definition.incarnation == incarnation:
                    return queue
        return None

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what the caller need not wait for."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def queue_of(service: str) -> str:
    """The name of a service's queue. Raises InvalidTopic."""
    check_topic_name(service)
    if len(service) > MAX_NAME:
        raise InvalidTopic(f"the name of a service takes at most {MAX_NAME} characters, so that its queue's name fits")
    return PREFIX + service


async def _written(sending: "asyncio.Future[list[SendOutcome]]") -> Sent:
    outcome = (await asyncio.shield(sending))[0]
    if isinstance(outcome, LogbrokerError):
        raise outcome
    return outcome


async def _settle(queue: Dispatcher, receipts: Sequence[Receipt]) -> None:
    await queue.settle.ack(receipts)


def _is_answered(waiting: _Waiting) -> bool:
    answer = waiting.answer
    return answer.done() and not answer.cancelled() and answer.exception() is None


def _named(record: Record, name: str) -> Record:
    headers = (*_others(record.headers), Header(REQUEST_HEADER, name.encode()))
    return Record(record.value, record.key, headers, record.timestamp_ms)


def _name_in(headers: Iterable[Header]) -> str:
    return next(((value or b"").decode(errors="replace") for name, value in headers if name == REQUEST_HEADER), "")


def _others(headers: Iterable[Header]) -> tuple[Header, ...]:
    return tuple(header for header in headers if header.name not in _OURS)


def _counter(metrics: Metrics, name: str, doc: str) -> Family:
    return metrics.counter(f"requestreply_{name}_total", doc, ("service",))
