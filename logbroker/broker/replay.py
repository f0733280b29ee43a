"""Replay: a bounded part of a topic is written again, into a queue or another topic, without touching who reads it.

What lives here: the job and its going on. What may not: how an operation is kept (``operations``), formats of a door.
Invariant: each record of the range that matches is in the target exactly once when the job is done, however often it was
cancelled, failed or killed and gone on with.

How: a copy carries two headers, the job (``logbroker-replay-job``) and where the record stands
(``logbroker-replay-source``, as ``flights:0:42``: topic, partition, offset). A checkpoint holds a position per partition of
the source and the ends of the target as they were when all copies below those positions were durable. So a copy of what
lies above the positions can only stand at or above those ends: going on reads the target from there and leaves out what it
finds. The unit of work is never broken off: a cancel waits for it and its checkpoint. Meanwhile nothing that is still to be
read, in the source or the target, is deleted.
"""

import asyncio
import contextlib
import re
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from logbroker.broker.filtering import READ_BYTES, Extent, Filtering
from logbroker.broker.operations import Into, Operation, Operations, ReplayPlan, ReplayState
from logbroker.broker.pace import Pace
from logbroker.broker.produce import Produce
from logbroker.broker.queue_sends import QueueMessage, QueueSends
from logbroker.broker.queues import Queues, Start, starts_in
from logbroker.broker.topics import check_changeable
from logbroker.config import MIB
from logbroker.engine.api import Engine, Isolation
from logbroker.errors import (
    InvalidTimestamp,
    LogbrokerError,
    MessageTooLarge,
    OffsetOutOfRange,
    QueueFull,
    QueueNotFound,
    UnknownTopicOrPartition,
)
from logbroker.filters import Filter, compile_filter
from logbroker.model import Header, Record, StoredRecord, TopicPartition
from logbroker.queues.bands import band_of
from logbroker.queues.headers import DEDUP_ID, plain

JOB: Final = "logbroker-replay-job"
"""Header of a copy: the id of the operation that made it."""
SOURCE: Final = "logbroker-replay-source"
"""Header of a copy: topic, partition and offset of its original."""

_STANDS = re.compile(rb"[^:]*:(\d{1,10}):(\d{1,19})")
AT_ONCE = 500
_UNIT_BYTES = MIB
_FULL_WAIT_S = (0.05, 1.0)
"""How long a full queue is waited for before it is tried again: at first, and at most."""
_OPEN_WAIT_S = 0.2
"""How long an open transaction is waited for before it is looked for again."""
_REFUSED = (MessageTooLarge, InvalidTimestamp)
"""What a target refuses a single record for."""

T = TypeVar("T")


class Replays:
    """The use case of replaying."""

    def __init__(
        self,
        engine: Engine,
        operations: Operations,
        filtering: Filtering,
        queues: Queues,
        sends: QueueSends,
        produce: Produce,
    ) -> None:
        self._engine = engine
        self._operations = operations
        self._filtering = filtering
        self._queues = queues
        self._sends = sends
        self._produce = produce
        operations.serve("replay", self._work)

    async def begin(
        self, topic: str, start: Start, end: Start, into: tuple[str, str], *, text: str | None, rate: float | None
    ) -> Operation:
        """Begin a replay of ``topic`` into ("queue" or "topic", name); durable on return.

        Raises UnknownTopicOrPartition, QueueNotFound, TopicReserved, InvalidOffset, FilterInvalid.
        """
        if text is not None:
            compile_filter(text)
        source = self._engine.topic(topic)
        target = self._into(*into)
        starts, ends = await starts_in(self._engine, source, start), await starts_in(self._engine, source, end)
        begun = [
            max(offset, (await self._engine.bounds(TopicPartition(topic, at))).log_start_offset)
            for at, offset in starts.items()
        ]
        plan = ReplayPlan(topic, str(source.id), begun, [ends[at] for at in starts], target, text)
        operation = Operation(
            id=self._operations.new_id(),
            kind="replay",
            queue=target.name if target.kind == "queue" else None,
            rate=rate,
            created_ms=self._operations.now_ms(),
            plan=plan,
            replay=ReplayState(begun, await self._target_ends(target)),
        )
        return await self._operations.begin(operation)

    def _into(self, kind: str, name: str) -> Into:
        if kind == "queue":
            return Into("queue", name, f"{self._queues.get(name).definition.incarnation:x}")
        check_changeable(name)
        return Into("topic", name, str(self._engine.topic(name).id))

    # -- going on ------------------------------------------------------------------------------------------------------

    async def _work(self, operation: Operation) -> None:
        plan, state = _parts(operation)
        if str(self._engine.topic(plan.topic).id) != plan.topic_id:
            raise UnknownTopicOrPartition(f"topic {plan.topic!r} was deleted meanwhile; this is another of that name")
        if self._into(plan.into.kind, plan.into.name) != plan.into:
            gone = QueueNotFound if plan.into.kind == "queue" else UnknownTopicOrPartition
            raise gone(f"{plan.into.kind} {plan.into.name!r} was deleted meanwhile; this is another of that name")
        try:
            self._hold(operation)
            run = _Run(operation, await self._there(operation.id, plan, state), plan)
            while run.open:
                for partition in list(run.open):
                    await self._turn(run, partition)
        finally:
            self._let_go(operation)

    async def _there(self, job: str, plan: ReplayPlan, state: ReplayState) -> set[tuple[int, int]]:
        """The records whose copies stand in the target above the checkpoint: partition and offset in the source."""
        found: set[tuple[int, int]] = set()
        for where in self._targets(plan.into):
            bounds = await self._engine.bounds(where)
            offset = max(bounds.log_start_offset, _at(state.target_ends, where.partition))
            while offset < bounds.high_watermark:
                read = await self._engine.read(where, offset, max_bytes=READ_BYTES)
                found.update(_sources(read.records, job))
                if read.next_offset <= offset:
                    break
                offset = read.next_offset
                await asyncio.sleep(0)
        return found

    async def _turn(self, run: "_Run", partition: int) -> None:
        """Replay the next records of one partition."""
        plan, state = _parts(run.operation)
        where, position, end = TopicPartition(plan.topic, partition), state.positions[partition], plan.ends[partition]
        extent = Extent(run.pace.at_once, _UNIT_BYTES, isolation=Isolation.READ_COMMITTED, end=end)
        try:
            scanned = await self._filtering.scan(where, position, run.wanted, extent)
        except OffsetOutOfRange as error:
            await self._miss(run, partition, min(end, error.fields["log_start_offset"]))
            return
        following = scanned.next_offset
        if following == position:
            if scanned.bounds.last_stable_offset < end:  # a transaction is open: what it holds is to come, or will be void
                await asyncio.sleep(_OPEN_WAIT_S)
                return
            following = end
        left, examined = scanned.records, scanned.scanned
        size, wait_s = len(left), _FULL_WAIT_S[0]
        while True:
            part, rest = left[:size], left[size:]
            await run.pace.wait(sum((partition, one.offset) not in run.there for one in part))
            unit = self._unit(run, partition, part, rest[0].offset if rest else following, 0 if rest else examined)
            try:
                await _whole(unit)
            except QueueFull:
                if size == 1:
                    await asyncio.sleep(wait_s)
                    wait_s = min(2 * wait_s, _FULL_WAIT_S[1])
                size = max(1, len(part) // 2)
                continue
            left, wait_s = rest, _FULL_WAIT_S[0]
            if not left:
                return

    async def _miss(self, run: "_Run", partition: int, log_start: int) -> None:
        """Go on behind what was deleted before it was read."""
        state = _parts(run.operation)[1]
        missed = max(1, log_start - state.positions[partition])
        moved = msgspec.structs.replace(state, missed=state.missed + missed)
        await _whole(self._checkpoint(run, moved, partition, max(log_start, state.positions[partition] + 1)))

    async def _unit(self, run: "_Run", partition: int, part: Sequence[StoredRecord], position: int, examined: int) -> None:
        """Write copies, wait until they are durable, and move the checkpoint to ``position``. Raises QueueFull."""
        plan, state = _parts(run.operation)
        copies = [one for one in part if (partition, one.offset) not in run.there]
        refused = await self._write(run, partition, copies) if copies else []
        for where in self._targets(plan.into):
            await self._engine.flushed(where, (await self._engine.bounds(where)).high_watermark)
        run.operation = msgspec.structs.replace(
            run.operation,
            examined=run.operation.examined + examined,
            matched=run.operation.matched + len(part),
            done=run.operation.done + len(part) - len(refused),
            failed=run.operation.failed + len(refused),
            error=str(refused[-1]) if refused else run.operation.error,
        )
        moved = msgspec.structs.replace(state, target_ends=await self._target_ends(plan.into))
        await self._checkpoint(run, moved, partition, position)

    async def _checkpoint(self, run: "_Run", state: ReplayState, partition: int, position: int) -> None:
        positions = [*state.positions]
        positions[partition] = position
        run.operation = msgspec.structs.replace(run.operation, replay=msgspec.structs.replace(state, positions=positions))
        await self._operations.store(run.operation)
        self._hold(run.operation)
        run.there = {(at, offset) for at, offset in run.there if at != partition or offset >= position}
        if position >= run.plan.ends[partition]:
            run.open.remove(partition)

    # -- writing -------------------------------------------------------------------------------------------------------

    async def _write(self, run: "_Run", partition: int, records: Sequence[StoredRecord]) -> list[LogbrokerError]:
        """Write the copies of records, all of them but those that the target refuses for themselves; returns why.

        Raises QueueFull, and whatever a write fails with; ``run.there`` then knows what was written before.
        """
        try:
            await self._send(run.plan, run.operation.id, partition, records)
        except _REFUSED as error:
            if len(records) == 1:
                return [error]
            refused: list[LogbrokerError] = []
            for record in records:
                refused += await self._write(run, partition, [record])
            return refused
        run.there.update((partition, record.offset) for record in records)
        return []

    async def _send(self, plan: ReplayPlan, job: str, partition: int, records: Sequence[StoredRecord]) -> None:
        copies = [_copy(record, job, TopicPartition(plan.topic, partition)) for record in records]
        name = plan.into.name
        outcomes: Sequence[object]
        if plan.into.kind == "queue":
            band = band_of(partition, self._queues.priorities_of(plan.topic))
            priority = min(band, self._queues.priorities_of(name) - 1)
            outcomes = await self._sends.send(name, [QueueMessage(copy, priority) for copy in copies])
        else:
            same = self._engine.topic(name).partitions == len(plan.starts)
            outcomes = await self._produce.produce(name, copies, [partition if same else None] * len(copies))
        for outcome in outcomes:
            if isinstance(outcome, LogbrokerError):
                raise outcome

    def _targets(self, into: Into) -> Iterable[TopicPartition]:
        return (TopicPartition(into.name, number) for number in range(self._engine.topic(into.name).partitions))

    async def _target_ends(self, into: Into) -> list[int]:
        return [(await self._engine.bounds(where)).high_watermark for where in self._targets(into)]

    # -- keeping what is still needed ----------------------------------------------------------------------------------

    def _hold(self, operation: Operation) -> None:
        plan, state = _parts(operation)
        for partition, (position, end) in enumerate(zip(state.positions, plan.ends, strict=True)):
            where = TopicPartition(plan.topic, partition)
            self._engine.hold(where, f"replay source {operation.id}", position if position < end else None)
        for where in self._targets(plan.into):
            self._engine.hold(where, f"replay target {operation.id}", _at(state.target_ends, where.partition))

    def _let_go(self, operation: Operation) -> None:
        plan, _ = _parts(operation)
        with contextlib.suppress(UnknownTopicOrPartition):
            for partition in range(len(plan.starts)):
                self._engine.hold(TopicPartition(plan.topic, partition), f"replay source {operation.id}", None)
        with contextlib.suppress(UnknownTopicOrPartition):
            for where in self._targets(plan.into):
                self._engine.hold(where, f"replay target {operation.id}", None)


class _Run:
    """One going on with a replay."""

    def __init__(self, operation: Operation, there: set[tuple[int, int]], plan: ReplayPlan) -> None:
        self.operation = operation
        self.there = there
        self.plan = plan
        self.pace = Pace(operation.rate, AT_ONCE)
        self.wanted: Filter | None = None if plan.filter is None else compile_filter(plan.filter)
        positions = _parts(operation)[1].positions
        self.open = [at for at, (position, end) in enumerate(zip(positions, plan.ends, strict=True)) if position < end]
        """Partitions that are not done."""


def _parts(operation: Operation) -> tuple[ReplayPlan, ReplayState]:
    assert operation.plan is not None, "a replay has a plan"
    assert operation.replay is not None, "a replay has a state"
    return operation.plan, operation.replay


def _copy(record: StoredRecord, job: str, where: TopicPartition) -> Record:
    """A copy keeps key, value, time stamp and its own headers, but no deduplication id: it is no repeated send."""
    own = plain(record.headers, without=(DEDUP_ID, JOB, SOURCE))
    marks = (Header(JOB, job.encode()), Header(SOURCE, f"{where.topic}:{where.partition}:{record.offset}".encode()))
    timestamp_ms = record.timestamp_ms if record.timestamp_ms >= 0 else None
    return Record(record.value, record.key, (*own, *marks), timestamp_ms)


def _sources(records: Iterable[StoredRecord], job: str) -> Iterable[tuple[int, int]]:
    """Where the originals of a job's copies stand."""
    name = job.encode()
    for record in records:
        marks = dict(record.headers)
        if marks.get(JOB) == name:
            stands = _STANDS.fullmatch(marks.get(SOURCE) or b"")
            if stands is not None:
                yield int(stands[1]), int(stands[2])


def _at(offsets: Sequence[int], partition: int) -> int:
    """The offset of a partition; of one that was added later, its start."""
    return offsets[partition] if partition < len(offsets) else 0


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """The outcome of ``work``, which is not broken off: a cancel takes effect when it has ended."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        task.exception()
        raise
