"""A small machine with everything a machine can have, and engines that crash, stall and forget for it."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from logbroker.clock import ManualClock
from logbroker.engine.api import Engine
from logbroker.errors import AppendUnknown, InvalidRequest
from logbroker.journal import Journal, MachineKind, Mover
from logbroker.machine import Answer, Decision, HardEvent, Move, Moved, MoveFailed, Park, Recipe, SoftEvent
from logbroker.model import Appended, Now, Record, StoredRecord, TopicPartition
from tests.engine.fake import FakeEngine, FakeWriter

WHERE = TopicPartition("__tallies", 0)


class Added(HardEvent, frozen=True, tag="added"):
    """A number was added."""

    number: int


class Cleared(HardEvent, frozen=True, tag="cleared"):
    """All numbers are gone."""


@dataclass(frozen=True, slots=True)
class Waiting(SoftEvent):
    token: int


@dataclass(frozen=True, slots=True)
class Answered(SoftEvent):
    token: int


@dataclass(frozen=True, slots=True)
class AlarmSet(SoftEvent):
    mono_ms: int | None


@dataclass(frozen=True, slots=True)
class Add:
    """Add a number; negative ones are refused."""

    number: int
    wait_for_flush: bool = True


@dataclass(frozen=True, slots=True)
class Clear:
    pass


@dataclass(frozen=True, slots=True)
class Look:
    """What are the numbers?"""


@dataclass(frozen=True, slots=True)
class AwaitNext:
    """Wait for the next number to be added."""

    token: int


@dataclass(frozen=True, slots=True)
class SetAlarm:
    """Add 1000 at that time."""

    mono_ms: int


@dataclass(frozen=True, slots=True)
class Send:
    """Move a record; its offset, or -1 if it failed, is added when it is there."""

    where: TopicPartition
    record: Record | Recipe


@dataclass(frozen=True, slots=True)
class Break:
    """Fail to decide."""


Command: TypeAlias = Add | Clear | Look | AwaitNext | SetAlarm | Send | Break | Moved | MoveFailed
Numbers: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CopyOf:
    """A recipe: the value of the original in capitals."""

    original: tuple[TopicPartition, int]

    def make(self, original: StoredRecord) -> Record:
        return Record((original.value or b"").upper())


class Tally:
    """A list of numbers (hard), callers who wait and an alarm (soft)."""

    def __init__(self, name: str) -> None:
        self.numbers: list[int] = []
        self.waiting: list[int] = []
        self.alarm: int | None = None
        self.resumed = False

    def decide(self, command: Command, now: Now) -> Decision[Numbers]:
        match command:
            case Add(number=number, wait_for_flush=wait):
                return self._add(number, wait)
            case Clear():
                return Decision((Cleared(),), ())
            case Look():
                return Decision(reply=tuple(self.numbers))
            case AwaitNext(token=token):
                return Decision((Waiting(token),), Park(token))
            case SetAlarm(mono_ms=mono_ms):
                return Decision((AlarmSet(mono_ms),), ())
            case Send(where=where, record=record):
                return Decision((), (), moves=(Move(1, where, record),))
            case Moved(offset=offset):
                return Decision((Added(offset),))
            case MoveFailed():
                return Decision((Added(-1),))
            case Break():
                raise ZeroDivisionError

    def _add(self, number: int, wait_for_flush: bool) -> Decision[Numbers]:
        if number < 0:
            return Decision(reply=InvalidRequest("negative"))
        total = (*self.numbers, number)
        answers = tuple(Answer(token, total) for token in self.waiting)
        soft = tuple(Answered(token) for token in self.waiting)
        return Decision((Added(number), *soft), total, answers, wait_for_flush=wait_for_flush)

    def apply(self, event: Any) -> None:
        match event:
            case Added(number=number):
                self.numbers.append(number)
            case Cleared():
                self.numbers.clear()
            case Waiting(token=token):
                self.waiting.append(token)
            case Answered(token=token):
                self.waiting.remove(token)
            case AlarmSet(mono_ms=mono_ms):
                self.alarm = mono_ms
                self.resumed = mono_ms is None

    def expire(self, now: Now) -> Decision[Numbers]:
        if self.alarm is None or self.alarm > now.mono_ms:
            return Decision()
        return Decision((Added(1000), AlarmSet(None)))

    def next_deadline(self, now: Now) -> int | None:
        return self.alarm

    def resume(self, now: Now) -> Decision[Numbers]:
        return Decision((AlarmSet(None),))

    def snapshot(self) -> Iterator[HardEvent]:
        return (Added(number) for number in self.numbers)


KIND = MachineKind(Tally, Added | Cleared, lambda tally: not tally.numbers and not tally.waiting)


async def opened(engine: Engine, clock: ManualClock, mover: Mover | None = None) -> Journal[Tally, Numbers]:
    """An open journal of tallies; the topic is made if need be."""
    if not any(info.name == WHERE.topic for info in engine.topics()):
        await engine.create_topic(WHERE.topic, 1, {}, owner="internal")
    journal: Journal[Tally, Numbers] = Journal(engine, WHERE, KIND, clock, mover)
    await journal.open()
    journal.resume()
    return journal


class Image:
    """What a disk holds at one moment, and what the machines had decided by then."""

    def __init__(self, records: Sequence[StoredRecord], start: int, end: int) -> None:
        self.records = list(records)
        self.start = start
        self.end = end

    async def engine(self, clock: ManualClock) -> FakeEngine:
        """A machine that starts with this disk."""
        engine = FakeEngine(clock)
        await engine.create_topic(WHERE.topic, 1, {}, owner="internal")
        log = engine._logs[WHERE]
        log.records, log.start, log.end = list(self.records), self.start, self.end
        return engine


class CrashingEngine(FakeEngine):
    """Keeps an image of the disk after every write, as if the power had gone then."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.images: list[Image] = []

    def _keep(self) -> None:
        log = self._logs[WHERE]
        self.images.append(Image(log.records, log.start, log.end))

    def append_claimed(self, where: TopicPartition, claim: object, records: Sequence[Record]) -> Appended:
        appended = super().append_claimed(where, claim, records)
        self._keep()
        return appended

    async def trim(self, where: TopicPartition, before_offset: int) -> int:
        start = await super().trim(where, before_offset)
        self._keep()
        return start


class StallingEngine(FakeEngine):
    """Flushes only when the test says so; can lose an append without telling."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.may_flush = asyncio.Event()
        self.lose_next = False

    def append_claimed(self, where: TopicPartition, claim: object, records: Sequence[Record]) -> Appended:
        if self.lose_next:
            self.lose_next = False
            raise AppendUnknown("nobody knows")
        return super().append_claimed(where, claim, records)

    async def writer(self, where: TopicPartition) -> FakeWriter:
        log = self._log(where)
        log.claim = object()
        return StallingWriter(self, where, log.claim)


class StallingWriter(FakeWriter):
    """A writer of the stalling engine."""

    async def flushed(self) -> None:
        assert isinstance(self._engine, StallingEngine)
        await self._engine.may_flush.wait()
