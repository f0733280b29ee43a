"""``lb.producer(topic)``: records written one by one or many at once, in order.

What lives here: when a request leaves, and who waits for it. What may not: the cutting and what a failure means
(``batching``). One request is under way at a time; what is sent meanwhile goes together in the next.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import NamedTuple, Self

from logbroker.claims.reference import Claim
from logbroker.client.aio.driver import Driver
from logbroker.client.batching import Batch, Buffer, Writing
from logbroker.client.calls.records import Outgoing, RecordMetadata
from logbroker.client.durations import Duration, Instant, instant_ms, to_ms
from logbroker.client.payloads import HeadersGiven, Key, record_of
from logbroker.errors import Closed, LogbrokerError

Ack = asyncio.Future[RecordMetadata]


class Claiming(NamedTuple):
    """How values are kept in a store that are larger than ``above`` bytes."""

    above: int
    keep: Callable[[bytes], Awaitable[Claim]]


class AsyncProducer:
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
        self._turn = asyncio.Lock()
        self._hurry = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._first_error: Exception | None = None
        self._is_open = False

    async def __aenter__(self) -> Self:
        self._is_open = True
        self._driver.opened(self, self.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except LogbrokerError:
            if error is None:
                raise

    async def send(
        self,
        value: object,
        *,
        key: Key = None,
        headers: HeadersGiven = (),
        partition: int | None = None,
        timestamp: Instant | None = None,
    ) -> RecordMetadata:
        """Write a record; it is durable on return. Cancelling the wait does not take the record back.

        Raises UnknownTopicOrPartition, MessageTooLarge, InvalidRequest and what else the broker refuses with.
        """
        if self._claiming is not None:
            value, headers = await self._claimed(self._claiming, value, headers)
        ack = self._take(value, key, headers, partition, timestamp)
        return await asyncio.shield(ack)

    def send_nowait(
        self,
        value: object,
        *,
        key: Key = None,
        headers: HeadersGiven = (),
        partition: int | None = None,
        timestamp: Instant | None = None,
    ) -> "asyncio.Future[RecordMetadata]":
        """Write a record without waiting; the future says where it stands once it is durable.

        An error is raised by ``flush`` too, so a future that nobody looks at hides nothing. Raises Throttled when too much
        waits already.
        """
        ack = self._take(value, key, headers, partition, timestamp)
        ack.add_done_callback(self._note)
        return ack

    @asynccontextmanager
    async def batch(self, *, partition: int | None = None) -> AsyncIterator[Batch]:
        """Records of one partition that are written together when the context is left, or not at all.

        Nothing is written after an exception. Raises InvalidRequest when they belong to several partitions.
        """
        self._require_open()
        batch = Batch(partition)
        yield batch
        await self.flush()
        async with self._turn:
            batch.metadata = await self._driver.run(self._writing.write_atomically(batch.records))

    async def flush(self) -> None:
        """Return when everything that was sent has its answer. Raises the first error of ``send_nowait`` since the last."""
        self._hurry.set()
        while self._sender is not None:
            await asyncio.shield(self._sender)
        error, self._first_error = self._first_error, None
        if error is not None:
            raise error

    async def close(self) -> None:
        """Flush, and take no more. Raises as ``flush``."""
        if self._is_open:
            self._is_open = False
            self._driver.closed(self)
            await self.flush()

    # -- sending ---------------------------------------------------------------------------------------------------------

    async def _claimed(self, claiming: Claiming, value: object, headers: HeadersGiven) -> tuple[object, HeadersGiven]:
        """What is written: a value that is too large goes to the store, and a claim stands for it."""
        record = record_of(value, None, headers)
        if record.value is None or len(record.value) <= claiming.above:
            return value, headers
        return await claiming.keep(record.value), [(header.name, header.value) for header in record.headers]

    def _require_open(self) -> None:
        if not self._is_open:
            raise Closed(f"the producer for {self.topic!r} is closed, or not open yet: use it inside its context")

    def _take(
        self, value: object, key: Key, headers: HeadersGiven, partition: int | None, timestamp: Instant | None
    ) -> Ack:
        self._require_open()
        record = record_of(value, key, headers, None if timestamp is None else instant_ms(timestamp))
        ack: Ack = asyncio.get_running_loop().create_future()
        self._buffer.add(Outgoing(record, partition), ack)
        if self._sender is None:
            self._hurry.clear()
            self._sender = asyncio.create_task(self._send_all(), name=f"producer for {self.topic}")
        if self._buffer.is_full_batch:
            self._hurry.set()
        return ack

    def _note(self, ack: Ack) -> None:
        error = None if ack.cancelled() else ack.exception()
        if isinstance(error, Exception):
            self._first_error = self._first_error or error

    async def _send_all(self) -> None:
        """Write until nothing waits."""
        try:
            while self._buffer:
                if self._linger_s and not self._hurry.is_set():
                    await self._lingered()
                async with self._turn:
                    await self._send_batch()
        finally:
            self._sender = None

    async def _lingered(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._linger_s):
                await self._hurry.wait()

    async def _send_batch(self) -> None:
        batch = self._buffer.cut()
        if not batch:
            return
        try:
            outcomes: Sequence[RecordMetadata | Exception] = await self._driver.run(
                self._writing.write([one.record for one in batch])
            )
        except Exception as error:
            outcomes = [error] * len(batch)
        except BaseException:
            for one in batch:
                one.ticket.cancel()
            raise
        for one, outcome in zip(batch, outcomes, strict=True):
            if one.ticket.done():
                continue
            if isinstance(outcome, Exception):
                one.ticket.set_exception(outcome)
                one.ticket.exception()  # it is told by flush, or by whoever awaits it
            else:
                one.ticket.set_result(outcome)
