"""``lb.producer(topic)``: records written one by one or many at once, in order.

What lives here: when a request leaves. What may not: the cutting and what a failure means (``batching``). There is no
thread behind it: what ``send_nowait`` takes leaves when a request is full, when ``linger`` is over at a later send, or with
``flush``.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple, Self

from logbroker.claims.reference import Claim
from logbroker.client.batching import Batch, Buffer, Writing
from logbroker.client.blocking.driver import Driver
from logbroker.client.calls.records import Outgoing, RecordMetadata
from logbroker.client.durations import Duration, Instant, instant_ms, to_ms
from logbroker.client.payloads import HeadersGiven, Key, record_of
from logbroker.errors import Closed, LogbrokerError

Ack = Future[RecordMetadata]


class Claiming(NamedTuple):
    """How values are kept in a store that are larger than ``above`` bytes."""

    above: int
    keep: Callable[[bytes], Claim]


class Producer:
    """Writes to one topic. Use it as a context; leaving it writes what was sent."""

    def __init__(
        self, driver: Driver, topic: str, *, idempotent: bool, linger: Duration, claiming: Claiming | None = None
    ) -> None:
        self._claiming = claiming
        self.topic = topic
        self._driver = driver
        self._writing = Writing(topic, idempotent=idempotent)
        self._linger_s = to_ms(linger) / 1_000
        self._buffer: Buffer[Ack] = Buffer()
        self._waits_since = 0.0
        self._first_error: Exception | None = None
        self._is_open = False

    def __enter__(self) -> Self:
        self._is_open = True
        self._driver.opened(self, self.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except LogbrokerError:
            if error is None:
                raise

    def send(
        self,
        value: object,
        *,
        key: Key = None,
        headers: HeadersGiven = (),
        partition: int | None = None,
        timestamp: Instant | None = None,
    ) -> RecordMetadata:
        """Write a record; it is durable on return.

        Raises UnknownTopicOrPartition, MessageTooLarge, InvalidRequest and what else the broker refuses with.
        """
        if self._claiming is not None:
            value, headers = self._claimed(self._claiming, value, headers)
        ack = self._take(value, key, headers, partition, timestamp)
        self._write()
        return ack.result()

    def send_nowait(
        self,
        value: object,
        *,
        key: Key = None,
        headers: HeadersGiven = (),
        partition: int | None = None,
        timestamp: Instant | None = None,
    ) -> "Future[RecordMetadata]":
        """Take a record to be written with others; the future says where it stands once it is durable.

        An error is raised by ``flush`` too, so a future that nobody looks at hides nothing.
        """
        ack = self._take(value, key, headers, partition, timestamp)
        ack.add_done_callback(self._note)
        if self._buffer.is_full_batch or time.monotonic() - self._waits_since > self._linger_s > 0:
            self._write()
        return ack

    @contextmanager
    def batch(self, *, partition: int | None = None) -> Iterator[Batch]:
        """Records of one partition that are written together when the context is left, or not at all.

        Nothing is written after an exception. Raises InvalidRequest when they belong to several partitions.
        """
        self._require_open()
        batch = Batch(partition)
        yield batch
        self.flush()
        batch.metadata = self._driver.run(self._writing.write_atomically(batch.records))

    def flush(self) -> None:
        """Return when everything that was sent has its answer. Raises the first error of ``send_nowait`` since the last."""
        self._write()
        error, self._first_error = self._first_error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Flush, and take no more. Raises as ``flush``."""
        if self._is_open:
            self._is_open = False
            self._driver.closed(self)
            self.flush()

    # -- sending ---------------------------------------------------------------------------------------------------------

    def _claimed(self, claiming: Claiming, value: object, headers: HeadersGiven) -> tuple[object, HeadersGiven]:
        """What is written: a value that is too large goes to the store, and a claim stands for it."""
        record = record_of(value, None, headers)
        if record.value is None or len(record.value) <= claiming.above:
            return value, headers
        return claiming.keep(record.value), [(header.name, header.value) for header in record.headers]

    def _require_open(self) -> None:
        if not self._is_open:
            raise Closed(f"the producer for {self.topic!r} is closed, or not open yet: use it inside its context")

    def _take(
        self, value: object, key: Key, headers: HeadersGiven, partition: int | None, timestamp: Instant | None
    ) -> Ack:
        self._require_open()
        record = record_of(value, key, headers, None if timestamp is None else instant_ms(timestamp))
        ack: Ack = Future()
        if not self._buffer:
            self._waits_since = time.monotonic()
        self._buffer.add(Outgoing(record, partition), ack)
        return ack

    def _note(self, ack: Ack) -> None:
        error = ack.exception()
        if isinstance(error, Exception):
            self._first_error = self._first_error or error

    def _write(self) -> None:
        """Write until nothing waits."""
        while batch := self._buffer.cut():
            try:
                outcomes: Sequence[RecordMetadata | Exception] = self._driver.run(
                    self._writing.write([one.record for one in batch])
                )
            except Exception as error:
                outcomes = [error] * len(batch)
            for one, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    one.ticket.set_exception(outcome)
                else:
                    one.ticket.set_result(outcome)
