"""A taskiq broker: tasks are messages of a queue. Needs ``pip install logbroker[taskiq]``.

What lives here: taskiq's broker interface over the Python client. What may not: anything taskiq does itself (results,
schedules, middlewares).

What a task's labels mean here: ``delay`` (seconds) keeps it back, ``priority`` and ``key`` are the message's. A task is
acknowledged when taskiq says so, by default after it was saved; until then its lease is extended. A worker that dies loses
its leases, and its tasks are delivered again.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from taskiq import AckableMessage, AsyncBroker, BrokerMessage

from logbroker.client.aio.client import AsyncClient, connect
from logbroker.client.aio.queue import AsyncMessage
from logbroker.client.durations import Duration, to_ms
from logbroker.errors import LeaseLost, LogbrokerError

_WAIT_S = 20.0
_REST_S = 1.0


class LogbrokerBroker(AsyncBroker):
    """Tasks on the queue ``queue`` of the broker at ``url``; ``settings`` are the queue's, where it has to be made."""

    def __init__(
        self,
        url: str,
        queue: str = "taskiq",
        *,
        visibility_timeout: Duration = "60s",
        **settings: Any,
    ) -> None:
        super().__init__()
        self._lb: AsyncClient = connect(url)
        self._name = queue
        self._lease_s = to_ms(visibility_timeout) / 1_000
        self._settings = settings
        self._held: dict[str, AsyncMessage] = {}
        self._keeping: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Connect, and make the queue if it is not there."""
        await super().startup()
        await self._lb.__aenter__()
        await self._lb.queues.create(self._name, if_not_exists=True, **self._settings)
        self._keeping = asyncio.create_task(self._keep_leases(), name=f"leases of taskiq {self._name}")

    async def shutdown(self) -> None:
        """Give back what was not acknowledged, uncounted, and disconnect."""
        await super().shutdown()
        if self._keeping is None:
            return
        self._keeping.cancel()
        await asyncio.wait([self._keeping])
        self._keeping = None
        for message in list(self._held.values()):
            with contextlib.suppress(LogbrokerError):
                await message.release()
        self._held.clear()
        await self._lb.close()

    async def kick(self, message: BrokerMessage) -> None:
        """Send a task; it is durable on return."""
        labels = message.labels
        delay = labels.get("delay")
        key = labels.get("key")
        await self._lb.queue(self._name).send(
            message.message,
            key=None if key is None else str(key),
            headers={"task-id": message.task_id, "task-name": message.task_name},
            priority=int(labels.get("priority", 0)),
            delay=None if delay is None else float(delay),
            dedup_id=message.task_id,
        )

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        """Tasks as they come."""
        queue = self._lb.queue(self._name)
        while True:
            try:
                received = await queue.lease(wait=_WAIT_S, visibility_timeout=self._lease_s)
            except LogbrokerError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(_REST_S)
                continue
            for message in received:
                self._held[message.receipt] = message
                yield AckableMessage(data=message.value or b"", ack=partial(self._ack, message))

    async def _ack(self, message: AsyncMessage) -> None:
        if self._held.pop(message.receipt, None) is not None:
            await message.ack()

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            for message in list(self._held.values()):
                try:
                    await message.extend(self._lease_s)
                except LeaseLost:
                    self._held.pop(message.receipt, None)
                except LogbrokerError:
                    continue  # the next round comes before the lease is over
