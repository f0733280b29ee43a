"""One partition of a view: its lease machine, and the reading of its three topics for it.

What lives here: the order in which the machine is loaded and fed. What may not: any decision.
Invariants: the machine sees records only that no crash can take back, below the last stable offset, whatever the topic's
durability; one reader at a time feeds it.
"""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Protocol

from logbroker.clock import Clock
from logbroker.config import KIB
from logbroker.engine.api import Engine, Isolation, RecordsRead
from logbroker.errors import CorruptMessage, OffsetOutOfRange, PartitionDamaged, UnknownTopicOrPartition
from logbroker.journal import Journal
from logbroker.model import Bounds, StoredRecord, TopicPartition
from logbroker.queues import commands as c
from logbroker.queues.dispatcher.definition import View
from logbroker.queues.dispatcher.reads import KeptReads
from logbroker.queues.headers import decoded
from logbroker.queues.leases import LeaseMachine
from logbroker.queues.messages import FoundCopy, Message, arrived, came_back
from logbroker.queues.positions import Place, Position, Source

log = logging.getLogger(__name__)

READ_BYTES = 256 * KIB
NEAR = 64
"""Offsets that lie no further apart are read together."""
MAX_SUPPLY = 1_000

SCAN_S = 0.5
"""How long one receive reads on, past records that are not for it, before it gives what it has found."""


class Intake(Protocol):
    """Which records of the source are messages of a view."""

    async def chosen(self, where: TopicPartition, records: Sequence[StoredRecord]) -> Sequence[StoredRecord]:
        """Those that are; what is left out is done for this view."""
        ...

    async def takes(self, where: TopicPartition, record: StoredRecord) -> bool:
        """Whether one is, for somebody who only looks."""
        ...


LeaseJournal = Journal[LeaseMachine, c.LeaseReply]


class QueuePartition:
    """The shell of one lease machine."""

    def __init__(
        self, engine: Engine, journal: LeaseJournal, clock: Clock, number: int, reads: KeptReads, intake: Intake | None
    ) -> None:
        self.number = number
        self.unreadable = 0
        """How many batches were passed over because their records cannot be decoded."""
        self.gone = 0
        """How many offsets were passed over because retention took the records before they were done."""
        self.is_behind = False
        """Whether there was more to read than the last look had time for."""
        self.noticed = 0
        """The end of the source when it was last looked at: who waits is not woken for the same records again."""
        self._engine = engine
        self._journal = journal
        self._clock = clock
        self._reads = reads
        self._intake = intake
        self.feeding = asyncio.Lock()
        """Held while the machine is fed: whoever changes what it is fed with holds it too."""

    @property
    def machine(self) -> LeaseMachine:
        """The machine, to be looked at."""
        return self._journal.machine(str(self.number))

    @property
    def place(self) -> Place:
        """What it stands on."""
        return self.machine.place

    async def ask(self, command: c.LeaseCommand) -> Any:
        """The machine's reply, once what it says may be said. Raises the machine's refusals."""
        return await self._journal.ask(str(self.number), command)

    def new_token(self) -> int:
        """A token for a command that may have to wait."""
        return self._journal.new_token()

    # -- loading ---------------------------------------------------------------------------------------------------------

    async def load(self, view: View) -> None:
        """Bring the replayed machine up to the ends of its copy topics; a new one learns where to start."""
        seek = view.seek_first(self.number, self.machine.generation)
        if seek is not None:
            await self.ask(seek)
        await self._take_over(Source.RETRY, self.machine.floor(Source.RETRY))
        await self._take_over(Source.DEAD, self.machine.seen(Source.DEAD))

    async def _take_over(self, source: Source, offset: int) -> None:
        bounds = await self.bounds(source)
        offset = max(offset, bounds.log_start_offset)
        ordered = self.machine.ordered
        while offset < bounds.high_watermark:
            read = await self._engine.read(self.place.topic(source), offset, max_bytes=READ_BYTES)
            copies: list[FoundCopy] = []
            strange: list[Position] = []
            for record in read.records:
                try:
                    copies.append(FoundCopy(record.offset, decoded(record.headers), record.key if ordered else None))
                except CorruptMessage as error:
                    log.error("%s at offset %d: %s", self.place.topic(source), record.offset, error)
                    strange.append(Position(source, record.offset))
            await self.ask(c.TakeOver(source, tuple(copies), read.next_offset))
            if strange:
                await self.ask(c.Lose(tuple(strange)))
            offset = read.next_offset

    async def bounds(self, source: Source) -> Bounds:
        """Where a topic can be read; a copy topic that is not there yet is empty."""
        try:
            return await self._engine.bounds(self.place.topic(source))
        except UnknownTopicOrPartition:
            if source is Source.SOURCE:
                raise
            return Bounds(0, 0, 0)

    # -- feeding ---------------------------------------------------------------------------------------------------------

    async def has_something(self) -> bool:
        """Whether an attempt to lease may find anything; cheap, and True rather than wrong."""
        if self.machine.available(self._clock.now()):
            return True
        intake = self.machine.intake
        return intake is not None and intake < await self.end()

    async def end(self) -> int:
        """Where the source can be read up to. A damaged one holds nothing for now, so that the others are served."""
        try:
            return (await self.bounds(Source.SOURCE)).last_stable_offset
        except PartitionDamaged:
            return 0

    async def feed(self, enough: int) -> None:
        """Read until ``enough`` messages can be leased, there are no more, or the time is over."""
        async with self.feeding:
            await self._supply(min(enough, MAX_SUPPLY))
            self.is_behind = not await self._take_in(enough)

    async def _take_in(self, enough: int) -> bool:
        """Whether there was time for all."""
        loop, where = asyncio.get_running_loop(), self.place.source
        until = loop.time() + SCAN_S
        while self.machine.fresh < enough:
            offset = self.machine.intake
            read = None if offset is None else await self._read_source(offset)
            if offset is None or read is None:
                return True
            records, next_offset = read
            await self._engine.flushed(where, next_offset)
            chosen = records if self._intake is None else await self._intake.chosen(where, records)
            await self.ask(c.TakeIn(offset, tuple(map(arrived, chosen)), next_offset))
            if loop.time() >= until:
                return False
        return True

    async def is_message(self, source: Source, record: StoredRecord) -> bool:
        """Whether a record that was perhaps not read yet is a message of this view."""
        if source is not Source.SOURCE or self._intake is None or record.offset < self.machine.read_next:
            return True
        return await self._intake.takes(self.place.source, record)

    async def _read_source(self, offset: int) -> tuple[list[StoredRecord], int] | None:
        """The records from ``offset`` and where to go on; None at the end."""
        where = self.place.source
        try:
            read = await self._engine.read(where, offset, max_bytes=READ_BYTES, isolation=Isolation.READ_COMMITTED)
        except CorruptMessage as error:
            self.unreadable += 1
            log.error("%s: a record batch at offset %d is passed over, its records are malformed: %s", where, offset, error)
            return [], error.fields["next_offset"]
        except OffsetOutOfRange as error:
            start = error.fields["log_start_offset"]
            if start <= offset:
                return None
            log.error("%s: records from offset %d to %d are gone before they were done", where, offset, start)
            self.gone += start - offset
            return [], start
        return (read.records, read.next_offset) if read.next_offset > offset else None

    async def _supply(self, enough: int) -> None:
        machine = self.machine
        while machine.back < enough:
            positions = machine.wanted(self._clock.now(), enough)
            if not positions:
                return
            messages = await self.messages_at(positions)
            lost = sorted(set(positions) - {message.position for message in messages})
            if messages:
                await self.ask(c.Supply(tuple(messages)))
            if lost:
                log.error("%s: no records at %s any more: these messages are lost", self.place.queue, lost[:10])
                await self.ask(c.Lose(tuple(lost)))

    # -- looking up ------------------------------------------------------------------------------------------------------

    async def messages_at(self, positions: Sequence[Position]) -> list[Message]:
        """The messages at positions of source and retry topic, as far as their records are there."""
        messages: list[Message] = []
        for source, offset in sorted(positions):
            record = await self._record_at(source, offset)
            if record is not None:
                messages.append(arrived(record) if source is Source.SOURCE else came_back(record))
        return messages

    async def _record_at(self, source: Source, offset: int) -> StoredRecord | None:
        try:
            return await self._reads.one(self.place.topic(source), offset)
        except (OffsetOutOfRange, UnknownTopicOrPartition, CorruptMessage):
            return None

    async def records_at(self, source: Source, offsets: Sequence[int]) -> list[StoredRecord]:
        """The records at ascending offsets, as far as they are there."""
        found: list[StoredRecord] = []
        at = 0
        while at < len(offsets):
            near = at + 1 < len(offsets) and offsets[at + 1] - offsets[at] <= NEAR
            read = await self._read_at(source, offsets[at], READ_BYTES if near else 1)
            if read is None:
                at += 1
                continue
            wanted = set(offsets[at : bisect_left(offsets, read.next_offset, at)])
            found += [record for record in read.records if record.offset in wanted]
            at = max(at + 1, bisect_left(offsets, read.next_offset, at))
        return found

    async def _read_at(self, source: Source, offset: int, max_bytes: int) -> RecordsRead | None:
        try:
            return await self._engine.read(
                self.place.topic(source), offset, max_bytes=max_bytes, isolation=Isolation.READ_COMMITTED
            )
        except (OffsetOutOfRange, UnknownTopicOrPartition, CorruptMessage):
            return None
