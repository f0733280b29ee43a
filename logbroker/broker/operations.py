"""Operations: work on many messages that goes on by itself, can be stopped, and is gone on with after a restart.

What lives here: the operations and how far they have got; running them. What may not: formats of a door.
Invariants: an operation and every change of its state are durable before they are answered; its cursor never passes what
is not done, and what it does twice has no effect the second time, so a crash or a resume loses and doubles nothing.

Each change is one record of the internal topic ``__operations``: the whole operation as JSON; the last record of an id
counts. At a start the topic is written anew, so it does not grow without end.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from logbroker.broker.views import NameSpace
from logbroker.clock import Clock
from logbroker.config import INT32_MAX
from logbroker.engine.api import INTERNAL, Engine
from logbroker.errors import (
    DataDirectoryError,
    LogbrokerError,
    MessageNotFound,
    OperationNotFound,
    QueueNotFound,
    TopicAlreadyExists,
    UnknownTopicOrPartition,
)
from logbroker.filters import compile_filter
from logbroker.model import Record, TopicPartition
from logbroker.queues.dispatcher import Dispatcher
from logbroker.queues.dispatcher.letters import Batch
from logbroker.queues.dispatcher.peeking import Cursor
from logbroker.queues.peeks import Peeked, PeekFilter

log = logging.getLogger(__name__)

OPERATIONS_TOPIC: Final = "__operations"
_WHERE: Final = TopicPartition(OPERATIONS_TOPIC, 0)
_TOPIC_CONFIG: Final = {"retention_ms": -1, "retention_bytes": -1, "durability": "fsync", "max_message_bytes": INT32_MAX}
_VERSION: Final = 1
_READ_BYTES: Final = 1 << 20
KEPT = 1_000
"""How many operations are remembered; the oldest that have ended go first."""
AT_ONCE = 50
"""Letters that are sent back at the same time."""

State = Literal["running", "done", "cancelled", "failed"]


class Selection(msgspec.Struct, frozen=True):
    """Which dead letters an operation means: the parts of a ``PeekFilter``, and at most ``limit`` of them."""

    key: bytes | None = None
    headers: dict[str, bytes] | None = None
    reason: str | None = None
    error: str | None = None
    ids: list[str] | None = None
    limit: int | None = None
    expression: str | None = None

    def filter(self) -> PeekFilter:
        """The filter. Raises FilterInvalid."""
        ids = None if self.ids is None else frozenset(self.ids)
        expression = None if self.expression is None else compile_filter(self.expression)
        return PeekFilter(self.key, self.headers, self.reason, self.error, ids, expression)


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation on the dead letters of a view. ``ends`` bounds it: letters that come later are not meant."""

    version: int = _VERSION
    id: str
    kind: Literal["redrive", "discard"]
    queue: str
    incarnation: int
    selection: Selection
    rate: float | None = None
    created_ms: int
    ended_ms: int | None = None
    state: State = "running"
    ends: list[int]
    cursor: tuple[int, int] = (0, -1)
    examined: int = 0
    matched: int = 0
    done: int = 0
    failed: int = 0
    error: str | None = None


class Operations:
    """The operations of a broker. To be started when the queues are."""

    def __init__(self, engine: Engine, names: NameSpace, clock: Clock) -> None:
        self._engine = engine
        self._names = names
        self._clock = clock
        self._known: dict[str, Operation] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._next = 1

    # -- life ------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load what there was, and go on with what had not ended. Raises DataDirectoryError for a newer logbroker's."""
        try:
            self._engine.topic(OPERATIONS_TOPIC)
        except UnknownTopicOrPartition:
            return
        await self._load()
        for operation in list(self._known.values()):
            if operation.state == "running":
                self._run(operation)

    async def _load(self) -> None:
        offset, end, _ = await self._engine.bounds(_WHERE)
        while offset < end:
            read = await self._engine.read(_WHERE, offset, max_bytes=_READ_BYTES)
            for record in read.records:
                operation = _decoded(record.value or b"")
                self._known.pop(operation.id, None)
                self._known[operation.id] = operation
                self._next = max(self._next, int(operation.id.removeprefix("op-")) + 1)
            offset = read.next_offset
        self._forget_old()
        if self._known:
            records = [Record(msgspec.json.encode(one)) for one in self._known.values()]
            written = await self._engine.append(_WHERE, records)
            await self._engine.trim(_WHERE, written.base_offset)

    async def stop(self) -> None:
        """Stop what runs; the next start goes on with it."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- for callers -----------------------------------------------------------------------------------------------------

    def all(self) -> Sequence[Operation]:
        """All that are remembered, the oldest first."""
        return sorted(self._known.values(), key=lambda one: one.id)

    def get(self, operation_id: str) -> Operation:
        """One operation. Raises OperationNotFound."""
        found = self._known.get(operation_id)
        if found is None:
            raise OperationNotFound(f"there is no operation {operation_id[:100]!r}")
        return found

    async def begin(
        self, kind: Literal["redrive", "discard"], queue: str, selection: Selection, rate: float | None = None
    ) -> Operation:
        """Begin an operation; durable on return. Raises QueueNotFound, FilterInvalid."""
        selection.filter()
        dispatcher = self._names.find(queue)
        operation = Operation(
            id=f"op-{self._next:012d}",
            kind=kind,
            queue=queue,
            incarnation=dispatcher.definition.incarnation,
            selection=selection,
            rate=rate,
            created_ms=self._clock.now().wall_ms,
            ends=await dispatcher.letters.ends(),
        )
        self._next += 1
        await self._store(operation)
        self._forget_old()
        self._run(operation)
        return operation

    async def count(self, queue: str, selection: Selection) -> tuple[int, list[Peeked]]:
        """How many letters an operation would mean, and the first of them."""
        letters = self._names.find(queue).letters
        matched, sample = 0, list[Peeked]()
        async for batch in letters.batches(selection.filter(), Cursor(), await letters.ends()):
            matched += len(batch.letters)
            sample += batch.letters[: max(0, 10 - len(sample))]
        return matched if selection.limit is None else min(matched, selection.limit), sample

    async def cancel(self, operation_id: str) -> Operation:
        """Stop an operation where it is; one that has ended stays as it is."""
        operation = self.get(operation_id)
        if operation.state != "running":
            return operation
        task = self._tasks.get(operation_id)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        return await self._end(operation_id, "cancelled")

    async def resume(self, operation_id: str) -> Operation:
        """Go on with an operation that was cancelled or has failed."""
        operation = self.get(operation_id)
        if operation.state in ("running", "done"):
            return operation
        operation = msgspec.structs.replace(operation, state="running", ended_ms=None, error=None)
        await self._store(operation)
        self._run(operation)
        return operation

    # -- running ---------------------------------------------------------------------------------------------------------

    def _run(self, operation: Operation) -> None:
        task = asyncio.create_task(self._guarded(operation.id), name=f"operation {operation.id}")
        self._tasks[operation.id] = task
        task.add_done_callback(lambda done: self._tasks.pop(operation.id, None))

    async def _guarded(self, operation_id: str) -> None:
        try:
            await self._work(operation_id)
        except LogbrokerError as error:
            await self._end(operation_id, "failed", str(error))
        except Exception:
            log.exception("operation %s has failed", operation_id)
            await self._end(operation_id, "failed", "a defect of the broker; its log says more")

    async def _work(self, operation_id: str) -> None:
        operation = self.get(operation_id)
        dispatcher = self._names.find(operation.queue)
        if dispatcher.definition.incarnation != operation.incarnation:
            raise QueueNotFound(f"{operation.queue!r} was deleted meanwhile; this is another of that name")
        pace = _Pace(operation.rate)
        wanted = operation.selection.filter()
        async for batch in dispatcher.letters.batches(wanted, Cursor(*operation.cursor), operation.ends):
            operation = await self._take(dispatcher, self.get(operation_id), batch, pace)
            if operation.selection.limit is not None and operation.matched >= operation.selection.limit:
                break
        await self._end(operation_id, "done")

    async def _take(self, dispatcher: Dispatcher, operation: Operation, batch: Batch, pace: "_Pace") -> Operation:
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
        await self._store(operation)
        return operation

    async def _end(self, operation_id: str, state: State, error: str | None = None) -> Operation:
        operation = msgspec.structs.replace(
            self.get(operation_id), state=state, ended_ms=self._clock.now().wall_ms, error=error
        )
        await self._store(operation)
        return operation

    async def _store(self, operation: Operation) -> None:
        self._known[operation.id] = operation
        record = [Record(msgspec.json.encode(operation))]
        try:
            await self._engine.append(_WHERE, record)
        except UnknownTopicOrPartition:
            with contextlib.suppress(TopicAlreadyExists):
                await self._engine.create_topic(OPERATIONS_TOPIC, 1, _TOPIC_CONFIG, owner=INTERNAL)
            await self._engine.append(_WHERE, record)

    def _forget_old(self) -> None:
        ended = [one.id for one in self.all() if one.state != "running"]
        for operation_id in ended[: max(0, len(self._known) - KEPT)]:
            del self._known[operation_id]


class _Pace:
    """At most ``rate`` letters a second, by the loop's clock."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._free_at = 0.0
        self.at_once = AT_ONCE if rate is None else min(AT_ONCE, max(1, int(rate)))
        """Letters to send together: never more than the rate gives in a second, so that the first are no burst."""

    async def wait(self, count: int) -> None:
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        delay = max(0.0, self._free_at - now)
        self._free_at = max(now, self._free_at) + count / self._rate
        await asyncio.sleep(delay)


def _decoded(value: bytes) -> Operation:
    try:
        operation = msgspec.json.decode(value, type=Operation)
    except msgspec.MsgspecError as error:
        raise DataDirectoryError(f"a record of {OPERATIONS_TOPIC} is not readable: {error}") from None
    if operation.version > _VERSION:
        raise DataDirectoryError(f"{OPERATIONS_TOPIC} was written by a newer logbroker: use that")
    return operation
