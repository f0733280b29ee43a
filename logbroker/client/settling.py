"""A batch of messages that was received: which of them are settled, and what becomes of the others at its end.

What lives here: the decisions, equal for both clients. What may not: sending them.
Invariants: a message is settled once; at the end of a batch everything is settled, unless its lease was lost meanwhile.
"""

import os
import platform
from collections.abc import Iterable, Sequence
from uuid import uuid4

from logbroker.client.calls.messages import (
    MAX_RECEIVE,
    Delivery,
    Kind,
    MessageState,
    OutgoingMessage,
    Peek,
    PeekedMessage,
    Receive,
    Send,
    SentMessage,
    Settle,
    Settlement,
    Verb,
)
from logbroker.client.durations import Duration, to_ms
from logbroker.client.flows import Flow, all_pages, do, succeeded
from logbroker.client.payloads import HeadersGiven, Key, record_of, told_text
from logbroker.errors import InvalidRequest, LogbrokerError

MAX_WAIT_MS = 60_000
SEND_AT_ONCE = 1_000


def default_consumer() -> str:
    """How a consumer is called that does not say: by machine and process."""
    return f"{platform.node()}-{os.getpid()}"[:255]


def message(
    value: object,
    *,
    key: Key = None,
    headers: HeadersGiven = (),
    priority: int = 0,
    delay: Duration | None = None,
    dedup_id: str | None = None,
    ttl: Duration | None = None,
) -> OutgoingMessage:
    """A message for ``send_many``, with what ``send`` takes. Raises InvalidRequest."""
    return OutgoingMessage(
        record_of(value, key, headers),
        priority,
        None if delay is None else to_ms(delay),
        dedup_id,
        None if ttl is None else to_ms(ttl),
    )


def send_all(queue: str, messages: Iterable[OutgoingMessage]) -> Flow[list[SentMessage]]:
    """Send messages, in as many calls as needed. Raises the first error, with all outcomes in ``fields["results"]``."""
    wanted = list(messages)
    for one in wanted:
        if not isinstance(one, OutgoingMessage):
            raise InvalidRequest(f"send_many takes what logbroker.message(value) makes, not {type(one).__name__}")
    outcomes: list[SentMessage | LogbrokerError] = []
    for begin in range(0, len(wanted), SEND_AT_ONCE):
        outcomes += yield from do(Send(queue, wanted[begin : begin + SEND_AT_ONCE]))
    return succeeded(outcomes)


def send_one(queue: str, message: OutgoingMessage) -> Flow[SentMessage]:
    """Send one message."""
    [sent] = succeeded((yield from do(Send(queue, [message]))))
    return sent


def receive(
    queue: str, limit: int, wait: Duration, visibility_timeout: Duration | None, consumer: str, kind: Kind = "queues"
) -> Flow[list[Delivery]]:
    """Lease messages. A wait that is longer than one call takes is made of several."""
    if not 1 <= limit <= MAX_RECEIVE:
        raise InvalidRequest(f"max is from 1 to {MAX_RECEIVE}, not {limit}")
    lease_ms = None if visibility_timeout is None else to_ms(visibility_timeout)
    left_ms = to_ms(wait)
    while True:
        wait_ms = min(left_ms, MAX_WAIT_MS)
        got = yield from do(Receive(queue, limit, wait_ms, consumer, uuid4().hex, lease_ms, kind))
        left_ms -= wait_ms
        if got or left_ms <= 0:
            return got


def settle(queue: str, verb: Verb, entries: Sequence[Settlement], kind: Kind = "queues") -> Flow[list[int | None]]:
    """Settle deliveries. Raises the first error, with all outcomes in ``fields["results"]``."""
    return succeeded((yield from do(Settle(queue, verb, entries, kind)))) if entries else []


def peek(
    queue: str,
    state: MessageState,
    limit: int,
    key: str | None,
    reason: str | None,
    error: str | None,
    filter: str | None,
    kind: Kind = "queues",
) -> Flow[list[PeekedMessage]]:
    """Messages of a state, at most ``limit``."""
    size = max(1, min(limit, MAX_RECEIVE))
    return all_pages(lambda token: Peek(queue, state, size, key, reason, error, filter, token, kind), limit)


class OpenReceipts:
    """The receipts of a batch that are not settled yet."""

    def __init__(self, queue: str, kind: Kind = "queues") -> None:
        self.queue = queue
        self.kind = kind
        self._open: dict[str, None] = {}

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Deliveries that were received."""
        self._open.update(dict.fromkeys(one.receipt for one in deliveries))

    def settled(self, receipt: str) -> None:
        """One was settled by the caller, or is being settled."""
        self._open.pop(receipt, None)

    def end(self, error: BaseException | None) -> Flow[None]:
        """What the end of the batch does with the rest: ack; after an exception nack with its text, for the work failed.

        A caller that is being cancelled, or a process that ends, has not failed: then the rest is released, uncounted.
        """
        rest, self._open = list(self._open), {}
        if not rest:
            return
        if error is None:
            yield from settle(self.queue, "ack", [Settlement(receipt) for receipt in rest], self.kind)
            return
        try:
            if isinstance(error, Exception):
                text = told_text(f"{type(error).__name__}: {error}")
                yield from settle(self.queue, "nack", [Settlement(receipt, error=text) for receipt in rest], self.kind)
            else:
                yield from settle(self.queue, "release", [Settlement(receipt) for receipt in rest], self.kind)
        except LogbrokerError:
            return  # the exception of the caller says more; the leases run out by themselves
