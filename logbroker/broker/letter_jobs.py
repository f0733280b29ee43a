"""Redrive and discard: operations on the dead letters of a queue or subscription.

What lives here: beginning them, counting what they would mean, and carrying them out batch by batch. What may not: how
an operation is kept (``operations``), formats of a door. Invariant: the cursor of an operation moves on when all of its
batch is durable; a letter that is gone was sent back or dropped before, and is no failure.
"""

from typing import Literal

import msgspec

from logbroker.broker.operations import Operation, Operations, Selection
from logbroker.broker.pace import Pace
from logbroker.broker.views import NameSpace
from logbroker.errors import MessageNotFound, QueueNotFound
from logbroker.queues.dispatcher import Dispatcher
from logbroker.queues.dispatcher.letters import Batch
from logbroker.queues.dispatcher.peeking import Cursor
from logbroker.queues.peeks import Peeked

AT_ONCE = 50
"""Letters that are sent back at the same time."""


class LetterJobs:
    """The use case of working on many dead letters."""

    def __init__(self, operations: Operations, names: NameSpace) -> None:
        self._operations = operations
        self._names = names
        operations.serve("redrive", self._work)
        operations.serve("discard", self._work)

    async def begin(
        self, kind: Literal["redrive", "discard"], queue: str, selection: Selection, rate: float | None = None
    ) -> Operation:
        """Begin an operation; durable on return. Raises QueueNotFound, FilterInvalid."""
        selection.filter()
        dispatcher = self._names.find(queue)
        operation = Operation(
            id=self._operations.new_id(),
            kind=kind,
            queue=queue,
            incarnation=dispatcher.definition.incarnation,
            selection=selection,
            rate=rate,
            created_ms=self._operations.now_ms(),
            ends=await dispatcher.letters.ends(),
        )
        return await self._operations.begin(operation)

    async def count(self, queue: str, selection: Selection) -> tuple[int, list[Peeked]]:
        """How many letters an operation would mean, and the first of them. Raises as ``begin``."""
        letters = self._names.find(queue).letters
        matched, sample = 0, list[Peeked]()
        async for batch in letters.batches(selection.filter(), Cursor(), await letters.ends()):
            matched += len(batch.letters)
            sample += batch.letters[: max(0, 10 - len(sample))]
        return matched if selection.limit is None else min(matched, selection.limit), sample

    async def _work(self, operation: Operation) -> None:
        assert operation.queue is not None, "it names a view"
        dispatcher = self._names.find(operation.queue)
        if dispatcher.definition.incarnation != operation.incarnation:
            raise QueueNotFound(f"{operation.queue!r} was deleted meanwhile; this is another of that name")
        pace = Pace(operation.rate, AT_ONCE)
        wanted = operation.selection.filter()
        async for batch in dispatcher.letters.batches(wanted, Cursor(*operation.cursor), operation.ends):
            operation = await self._take(dispatcher, operation, batch, pace)
            if operation.selection.limit is not None and operation.matched >= operation.selection.limit:
                break

    async def _take(self, dispatcher: Dispatcher, operation: Operation, batch: Batch, pace: Pace) -> Operation:
        """Carry the operation out on one batch; its cursor moves on when all of that is durable."""
        limit = operation.selection.limit
        letters = batch.letters if limit is None else batch.letters[: limit - operation.matched]
        done = failed = 0
        for begin in range(0, len(letters), pace.at_once):
            part = letters[begin : begin + pace.at_once]
            await pace.wait(len(part))
            if operation.kind == "discard":
                done += await dispatcher.letters.discard(part)
                continue
            outcomes = await dispatcher.letters.redrive(part)
            done += outcomes.count(None)
            failed += sum(one is not None and not isinstance(one, MessageNotFound) for one in outcomes)
        operation = msgspec.structs.replace(
            operation,
            cursor=batch.cursor[:2],
            examined=operation.examined + batch.examined,
            matched=operation.matched + len(letters),
            done=operation.done + done,
            failed=operation.failed + failed,
        )
        await self._operations.store(operation)
        return operation
