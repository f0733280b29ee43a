"""Operations: work on many records that goes on by itself, can be stopped, and is gone on with after a restart.

What lives here: the operations and how far they have got; running them. What may not: formats of a door, and the work
itself, which each kind brings (``letter_jobs``, ``replay``).
Invariants: an operation and every change of its state are durable before they are answered; its cursor never passes what
is not done, and what it does twice has no effect the second time, so a crash or a resume loses and doubles nothing.

Each change is one record of the internal topic ``__operations``: the whole operation as JSON; the last record of an id
counts. At a start the topic is written anew, so it does not grow without end.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from logbroker.clock import Clock
from logbroker.config import INT32_MAX
from logbroker.engine.api import INTERNAL, Engine
from logbroker.errors import (
    DataDirectoryError,
    LogbrokerError,
    OperationNotFound,
    TopicAlreadyExists,
    UnknownTopicOrPartition,
)
from logbroker.filters import compile_filter
from logbroker.model import Record, TopicPartition
from logbroker.queues.peeks import PeekFilter

log = logging.getLogger(__name__)

OPERATIONS_TOPIC: Final = "__operations"
_WHERE: Final = TopicPartition(OPERATIONS_TOPIC, 0)
_TOPIC_CONFIG: Final = {"retention_ms": -1, "retention_bytes": -1, "durability": "fsync", "max_message_bytes": INT32_MAX}
_VERSION: Final = 1
_READ_BYTES: Final = 1 << 20
KEPT = 1_000
"""How many operations are remembered; the oldest that have ended go first."""

State = Literal["running", "done", "cancelled", "failed"]
Kind = Literal["redrive", "discard", "replay", "verify"]


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


class Into(msgspec.Struct, frozen=True):
    """Where a replay writes. ``identity`` tells it from another of its name that was made later."""

    kind: Literal["queue", "topic"]
    name: str
    identity: str


class ReplayPlan(msgspec.Struct, frozen=True):
    """What is replayed: of each partition of ``topic`` the offsets from ``starts`` up to, not including, ``ends``."""

    topic: str
    topic_id: str
    starts: list[int]
    ends: list[int]
    into: Into
    filter: str | None = None


class ReplayState(msgspec.Struct, frozen=True):
    """How far a replay is: all copies of what lies below ``positions`` are in the target; any copy of the rest stands at
    or above ``target_ends``. ``missed`` offsets were deleted before they were read.
    """

    positions: list[int]
    target_ends: list[int]
    missed: int = 0


class VerifyPlan(msgspec.Struct, frozen=True):
    """Which partitions are read and checked: the first ``done`` of them have been."""

    targets: list[tuple[str, int]]
    done: int = 0


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation. On the dead letters of a view, ``ends`` bounds it: letters that come later are not meant."""

    version: int = _VERSION
    id: str
    kind: Kind
    queue: str | None
    incarnation: int = 0
    selection: Selection = Selection()
    rate: float | None = None
    created_ms: int
    ended_ms: int | None = None
    state: State = "running"
    ends: list[int] = []
    cursor: tuple[int, int] = (0, -1)
    plan: ReplayPlan | None = None
    replay: ReplayState | None = None
    verify: VerifyPlan | None = None
    examined: int = 0
    matched: int = 0
    done: int = 0
    failed: int = 0
    error: str | None = None


Work: TypeAlias = Callable[[Operation], Awaitable[None]]
"""Goes on with an operation until it is done; tells ``Operations.store`` how far it is. May be cancelled at any wait."""


class Operations:
    """The operations of a broker. To be started when the queues are."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._works: dict[str, Work] = {}
        self._known: dict[str, Operation] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._next = 1

    def serve(self, kind: Kind, work: Work) -> None:
        """Say how operations of a kind are carried out, before ``start``."""
        self._works[kind] = work

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

    def new_id(self) -> str:
        """An id that no operation has had."""
        self._next += 1
        return f"op-{self._next - 1:012d}"

    def now_ms(self) -> int:
        """The time, for ``created_ms``."""
        return self._clock.now().wall_ms

    async def begin(self, operation: Operation) -> Operation:
        """Begin an operation; durable on return."""
        await self.store(operation)
        self._forget_old()
        self._run(operation)
        return operation

    async def cancel(self, operation_id: str) -> Operation:
        """Stop an operation where it is; one that has ended stays as it is."""
        operation = self.get(operation_id)
        if operation.state != "running":
            return operation
        task = self._tasks.get(operation_id)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        operation = self.get(operation_id)
        return operation if operation.state != "running" else await self._end(operation_id, "cancelled")

    async def resume(self, operation_id: str) -> Operation:
        """Go on with an operation that was cancelled or has failed."""
        operation = self.get(operation_id)
        if operation.state in ("running", "done"):
            return operation
        operation = msgspec.structs.replace(operation, state="running", ended_ms=None, error=None)
        await self.store(operation)
        self._run(operation)
        return operation

    # -- running ---------------------------------------------------------------------------------------------------------

    def _run(self, operation: Operation) -> None:
        task = asyncio.create_task(self._guarded(operation.id), name=f"operation {operation.id}")
        self._tasks[operation.id] = task
        task.add_done_callback(lambda done: self._tasks.pop(operation.id, None))

    async def _guarded(self, operation_id: str) -> None:
        try:
            operation = self.get(operation_id)
            await self._works[operation.kind](operation)
            await self._end(operation_id, "done", self.get(operation_id).error)
        except LogbrokerError as error:
            await self._end(operation_id, "failed", str(error))
        except Exception:
            log.exception("operation %s has failed", operation_id)
            await self._end(operation_id, "failed", "a defect of the broker; its log says more")

    async def _end(self, operation_id: str, state: State, error: str | None = None) -> Operation:
        operation = msgspec.structs.replace(
            self.get(operation_id), state=state, ended_ms=self._clock.now().wall_ms, error=error
        )
        await self.store(operation)
        return operation

    async def store(self, operation: Operation) -> None:
        """Keep how far an operation is; durable on return."""
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


def _decoded(value: bytes) -> Operation:
    try:
        operation = msgspec.json.decode(value, type=Operation)
    except msgspec.MsgspecError as error:
        raise DataDirectoryError(f"a record of {OPERATIONS_TOPIC} is not readable: {error}") from None
    if operation.version > _VERSION:
        raise DataDirectoryError(f"{OPERATIONS_TOPIC} was written by a newer logbroker: use that")
    return operation
