"""``lb.queue(name).dlq`` and ``lb.operations``: dead letters, and the work on many of them."""

from collections.abc import Sequence

from logbroker.client.aio.driver import Driver
from logbroker.client.calls.letters import (
    CancelOperation,
    Discard,
    GetOperation,
    ListOperations,
    Operation,
    Redrive,
    Redriven,
    Selection,
)
from logbroker.client.calls.messages import Kind, PeekedMessage
from logbroker.client.flows import all_pages
from logbroker.client.settling import peek


class AsyncDeadLetters:
    """The dead letters of one queue. Without ``ids``, a CEL ``filter`` or a part to match, all of them are meant."""

    def __init__(self, driver: Driver, queue: str, kind: Kind = "queues") -> None:
        self._driver = driver
        self._queue = queue
        self._kind: Kind = kind

    async def list(
        self,
        *,
        limit: int = 100,
        key: str | None = None,
        reason: str | None = None,
        error: str | None = None,
        filter: str | None = None,
    ) -> list[PeekedMessage]:
        """The dead letters, at most ``limit``."""
        return await self._driver.run(peek(self._queue, "dead", limit, key, reason, error, filter, self._kind))

    async def redrive(
        self,
        *,
        ids: Sequence[str] | None = None,
        key: str | None = None,
        reason: str | None = None,
        error: str | None = None,
        filter: str | None = None,
        max: int | None = None,
        rate: float | None = None,
        dry_run: bool = True,
    ) -> Redriven:
        """Send dead letters back, at most ``max`` and ``rate`` a second; by default only count them.

        What is sent back goes behind newer messages. The work goes on after the return; ``operation`` says how far it is.
        """
        return await self._driver(
            Redrive(self._queue, Selection(ids, key, reason, error, filter, max), rate, dry_run, self._kind)
        )

    async def discard(
        self,
        *,
        ids: Sequence[str] | None = None,
        key: str | None = None,
        reason: str | None = None,
        error: str | None = None,
        filter: str | None = None,
        max: int | None = None,
    ) -> Operation:
        """Drop dead letters for good. The work goes on after the return."""
        return await self._driver(Discard(self._queue, Selection(ids, key, reason, error, filter, max), self._kind))


class AsyncOperations:
    """Work that goes on by itself, also after a restart of the broker."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def get(self, id: str) -> Operation:
        """How far one is. Raises OperationNotFound."""
        return await self._driver(GetOperation(id))

    async def list(self) -> list[Operation]:
        """All that are remembered, the oldest first."""
        return await self._driver.run(all_pages(ListOperations))

    async def cancel(self, id: str) -> Operation:
        """Stop one where it is. Raises OperationNotFound."""
        return await self._driver(CancelOperation(id))
