"""A dramatiq broker: each of its queues is a queue here. Needs ``pip install logbroker[dramatiq]``.

What lives here: dramatiq's broker and consumer interfaces over the synchronous client. What may not: anything dramatiq does
itself (retries, time limits, results, pipelines).

How the two fit: an actor that fails is retried by dramatiq, which sends the message again; a message that dramatiq has
given up on is nacked and becomes a dead letter here, to be looked at and redriven. Delays are the queue's own, so there is
no second queue for delayed messages. Leases are extended while a message is with a worker; a worker that dies loses them,
and its messages are delivered again.
"""

import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from dramatiq import Message
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.errors import ConnectionClosed, QueueJoinTimeout, QueueNotFound
from dramatiq.middleware import Middleware

from logbroker import Client
from logbroker.client.blocking.client import SyncClient
from logbroker.client.blocking.queue import Message as Leased
from logbroker.client.durations import Duration, to_ms
from logbroker.errors import LeaseLost, LogbrokerError, Unreachable

_JOIN_LOOK_S = 0.05


class LogbrokerBroker(Broker):
    """dramatiq's messages on the broker at ``url``. ``settings`` are those of queues that have to be made."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "",
        visibility_timeout: Duration = "60s",
        middleware: list[Middleware] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(middleware=middleware)
        self._lb: SyncClient = Client(url)
        self._lb.__enter__()
        self._prefix = prefix
        self._lease_s = to_ms(visibility_timeout) / 1_000
        self._settings = settings

    def close(self) -> None:
        """Disconnect."""
        self._lb.close()

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5_000) -> "LogbrokerConsumer":
        """Messages of a queue, at most ``prefetch`` unsettled at a time; ``timeout`` (ms) is how long one call waits."""
        self._declared(queue_name)
        return LogbrokerConsumer(self._lb, self._prefix + queue_name, self._lease_s, prefetch, timeout / 1_000)

    def declare_queue(self, queue_name: str) -> None:
        """Make the queue, unless it is there."""
        if queue_name in self.queues:
            return
        self.emit_before("declare_queue", queue_name)
        self._lb.queues.create(self._prefix + queue_name, if_not_exists=True, **self._settings)
        self.queues[queue_name] = None
        self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: "Message[Any]", *, delay: int | None = None) -> "Message[Any]":
        """Send a message, after ``delay`` ms; it is durable on return."""
        self._declared(message.queue_name)
        self.emit_before("enqueue", message, delay)
        queue = self._lb.queue(self._prefix + message.queue_name)
        queue.send(message.encode(), delay=None if delay is None else delay / 1_000, dedup_id=_dedup_id(message))
        self.emit_after("enqueue", message, delay)
        return message

    def flush(self, queue_name: str) -> None:
        """Drop everything that waits in a queue."""
        self._declared(queue_name)
        self._lb.queue(self._prefix + queue_name).purge()

    def flush_all(self) -> None:
        """Drop everything that waits in any queue."""
        for queue_name in list(self.queues):
            self.flush(queue_name)

    def join(self, queue_name: str, *, timeout: int | None = None) -> None:
        """Wait until a queue is worked off, for tests. Raises QueueJoinTimeout after ``timeout`` ms."""
        self._declared(queue_name)
        waited = threading.Event()
        left_s = None if timeout is None else timeout / 1_000
        while True:
            counts = self._lb.queue(self._prefix + queue_name).stats().counts
            if not (counts.ready or counts.in_flight or counts.delayed or counts.retrying):
                return
            if left_s is not None:
                left_s -= _JOIN_LOOK_S
                if left_s < 0:
                    raise QueueJoinTimeout(queue_name)  # type: ignore[no-untyped-call]  # dramatiq's errors are untyped
            waited.wait(_JOIN_LOOK_S)

    def _declared(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]  # as above


def _dedup_id(message: "Message[Any]") -> str:
    """One send of a message: a retry has its id, but another count of retries or time."""
    options = message.options
    return f"{message.message_id}-{options.get('retries', 0)}-{options.get('requeue_timestamp', message.message_timestamp)}"


class LogbrokerMessage(MessageProxy):
    """A message of dramatiq, and the lease it is held by."""

    def __init__(self, message: "Message[Any]", leased: Leased) -> None:
        super().__init__(message)
        self.leased = leased


class LogbrokerConsumer(Consumer):
    """The messages of one queue. Its leases are extended by a thread of its own."""

    def __init__(self, lb: SyncClient, queue: str, lease_s: float, prefetch: int, wait_s: float) -> None:
        self._queue = lb.queue(queue)
        self._lease_s = lease_s
        self._prefetch = prefetch
        self._wait_s = wait_s
        self._ready: deque[LogbrokerMessage] = deque()
        self._held: dict[str, Leased] = {}
        self._closed = threading.Event()
        self._keeping = threading.Thread(target=self._keep_leases, name=f"leases of {queue}", daemon=True)
        self._keeping.start()

    def __next__(self) -> MessageProxy | None:
        if self._ready:
            return self._ready.popleft()
        room = self._prefetch - len(self._held)
        if room <= 0:
            self._closed.wait(min(self._wait_s, _JOIN_LOOK_S))
            return None
        try:
            received = self._queue.lease(room, wait=self._wait_s, visibility_timeout=self._lease_s)
        except Unreachable as error:
            # dramatiq waits a little and consumes anew
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]  # as above
        for leased in received:
            self._held[leased.receipt] = leased
            self._ready.append(LogbrokerMessage(Message.decode(leased.value or b""), leased))
        return self._ready.popleft() if self._ready else None

    def ack(self, message: MessageProxy) -> None:
        """The message is done."""
        self._settled(message, lambda leased: leased.ack())

    def nack(self, message: MessageProxy) -> None:
        """dramatiq has given the message up: it becomes a dead letter."""
        reason = str(message.options.get("traceback") or "the actor failed")
        self._settled(message, lambda leased: leased.reject(reason[-4_000:]))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Messages that no actor has begun go back, uncounted."""
        for message in messages:
            self._settled(message, lambda leased: leased.release())

    def close(self) -> None:
        """Give back what was prefetched, and stop."""
        self.requeue(list(self._ready))
        self._ready.clear()
        self._closed.set()
        self._keeping.join()

    def _settled(self, message: MessageProxy, settle: Any) -> None:
        assert isinstance(message, LogbrokerMessage), "it came from here"
        self._held.pop(message.leased.receipt, None)
        with suppress(LeaseLost):  # it was delivered again meanwhile, and dramatiq has nobody to tell
            settle(message.leased)

    def _keep_leases(self) -> None:
        while not self._closed.wait(self._lease_s / 3):
            for leased in list(self._held.values()):
                try:
                    leased.extend(self._lease_s)
                except LeaseLost:
                    self._held.pop(leased.receipt, None)
                except LogbrokerError:
                    continue  # the next round comes before the lease is over
