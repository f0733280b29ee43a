"""One view of a topic at work: loading it, and the verbs of its consumers and producers.

What lives here: who is asked, in which order, and what is told. What may not: decisions about messages (the lease
machines'), HTTP.
Invariants: nothing is served before every partition has loaded; what is answered about a settlement is durable.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from logbroker.clock import Clock
from logbroker.engine.api import Engine
from logbroker.errors import LogbrokerError, MessageNotFound
from logbroker.journal import Journal, MachineKind
from logbroker.machine import Event
from logbroker.model import Record
from logbroker.queues import commands as c
from logbroker.queues import events as e
from logbroker.queues.acquire import MAX_EXPIRING
from logbroker.queues.dispatcher.bell import Bell
from logbroker.queues.dispatcher.definition import View
from logbroker.queues.dispatcher.letters import DeadLetters
from logbroker.queues.dispatcher.mover import QueueMover
from logbroker.queues.dispatcher.partition import Intake, QueuePartition
from logbroker.queues.dispatcher.peeking import Peek
from logbroker.queues.dispatcher.reads import KeptReads
from logbroker.queues.dispatcher.receiver import Leased, Receiver
from logbroker.queues.dispatcher.receiving import Received, Want, told
from logbroker.queues.dispatcher.sending import Deduplication
from logbroker.queues.dispatcher.settling import Settlements
from logbroker.queues.dispatcher.size import QueueSize
from logbroker.queues.dispatcher.tally import Counters, Tally
from logbroker.queues.dispatcher.upkeep import Upkeep
from logbroker.queues.dispatcher.watch import Watch
from logbroker.queues.leases import LeaseMachine
from logbroker.queues.positions import MessageId, Place, Receipt, Source, index_of
from logbroker.queues.rules import LeaseRules

log = logging.getLogger(__name__)

UPKEEP_S = 1.0
_SETTLING = (e.Acked, e.Released, e.Copied, e.Finished, e.Purged, e.Sought)
_WAKING = (e.Released, e.Waiting, e.Purged, e.Sought, e.MoveDropped, e.Finished, e.Copied, e.Voided)


class _WatchedMachine(LeaseMachine):
    """A lease machine whose events its dispatcher hears of."""

    def __init__(self, place: Place, rules: LeaseRules, hear: Callable[[LeaseMachine, Event], None]) -> None:
        super().__init__(place, rules)
        self._hear = hear

    def apply(self, event: Event) -> None:
        self._hear(self, event)
        super().apply(event)


class Dispatcher:
    """A queue or subscription. Made closed; ``start`` loads it."""

    def __init__(self, engine: Engine, clock: Clock, definition: View, counters: Counters, run: int) -> None:
        self.definition = definition
        self.settings = definition.settings
        self.tally = Tally(definition.name, counters)
        self.closing = False
        self.has_ttl = False
        """Whether a message with a time to live of its own was sent."""
        self._engine = engine
        self._clock = clock
        self._run = run
        self._reads = KeptReads(engine)
        kind = MachineKind(self._new_machine, e.LeaseEvent)
        self._journal: Journal[LeaseMachine, c.LeaseReply] = Journal(
            engine, definition.journal, kind, clock, QueueMover(engine, definition, self._reads)
        )
        self.partitions: list[QueuePartition] = []
        self._receiver = Receiver(self.partitions, self.settings, clock)
        self._watch = Watch(engine, clock, self.partitions, self._receiver.bell)
        self.deduplication = Deduplication(engine, clock, self.partitions, self.settings.dedup_window_ms)
        deduplication = self.deduplication if definition.IS_SENT_TO else None
        self._upkeep = Upkeep(engine, self._journal, definition, self.partitions, deduplication)
        self.peek = Peek(self.partitions, clock, self.settings.priorities, self.tally)
        self.letters = DeadLetters(self.partitions, self.peek)
        self.settle = Settlements(self.partitions, clock, definition.incarnation)
        self.size = QueueSize(self.partitions, clock, self.settings.max_size)
        self.settled = Bell()
        """Rung when a lease may have ended."""
        self._heard = asyncio.Event()
        self._has_died = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def _new_machine(self, name: str) -> LeaseMachine:
        place = self.definition.place(int(name), self._run)
        return _WatchedMachine(place, self.definition.rules(), self._hear)

    def _hear(self, machine: LeaseMachine, event: Event) -> None:
        self.tally.before(machine, event)
        if not self.tally.counting:
            return
        self._heard.set()
        if type(event) in _WAKING or (type(event) is e.Acked and self._acks_free_others()):
            self._watch.look_again()
        if type(event) in _SETTLING:
            self.settled.ring_all()
        if isinstance(event, e.Copied) and event.to.source is Source.DEAD:
            self._has_died.set()

    def _acks_free_others(self) -> bool:
        settings = self.settings
        return settings.ordering == "key" or self._receiver.in_flight >= settings.max_in_flight

    # -- life ------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the journal and the copy topics. Raises PartitionDamaged, DataDirectoryError."""
        await self._journal.open()
        await self.grow(self._engine.topic(self.definition.topic).partitions)
        self._journal.resume()
        self._receiver.is_paused = self.definition.paused
        self.tally.counting = True
        await self._upkeep.let_go()
        await self._upkeep.bound_dead_letters()
        for work in (self._watch.run, self._keep_up, self._bound_dead_letters):
            self._tasks.append(asyncio.create_task(self._guarded(work), name=self.definition.key))

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Background work that ends with its queue only; what goes wrong is tried again, and told."""
        while not self.closing:
            try:
                await work()
            except LogbrokerError as error:
                log.warning("%s: background work is tried again: %s", self.definition.key, error)
            except Exception:  # a defect there must not end it, and must be seen
                log.exception("%s: background work has failed", self.definition.key)
            await asyncio.sleep(UPKEEP_S)

    async def grow(self, partitions: int) -> None:
        """Serve so many partitions."""
        more = range(len(self.partitions), partitions)
        for number in more:
            partition = QueuePartition(self._engine, self._journal, self._clock, number, self._reads, self._intake())
            await partition.load(self.definition)
            self.partitions.append(partition)
        if more:
            self._watch.look_again()
            self._heard.set()  # so that they are held

    def _intake(self) -> Intake | None:
        """Which records are messages; None for all of them."""
        return None

    async def _look_after(self) -> None:
        """What a kind of view has to see to again and again."""

    async def close(self) -> None:
        """Answer whoever waits, and stop."""
        self.end_waiting()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._journal.close()

    def end_waiting(self) -> None:
        """Answer long polls now."""
        self.closing = True
        self._receiver.bell.ring_all()
        self.settled.ring_all()

    def release_holds(self) -> None:
        """The queue is being deleted: its topics are held no more."""
        self._upkeep.release_holds()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way and nothing is due."""
        return self._journal.is_settled

    def wake(self) -> None:
        """Look at the clock again: for clocks that are moved by hand."""
        self._journal.wake()
        self._receiver.bell.ring_all()

    async def configure(self, definition: View) -> None:
        """Be as ``definition`` says from now on."""
        self.definition, self.settings = definition, definition.settings
        for partition in self.partitions:
            await partition.ask(c.Configure(definition.rules()))
        self._receiver.is_paused = definition.paused
        self._receiver.configure(self.settings)
        self._upkeep.settings = self.settings
        self.size.max_size = self.settings.max_size
        self.deduplication.configure(self.settings.dedup_window_ms)
        self._has_died.set()

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_S)
            if self.has_ttl or self.settings.message_ttl_ms is not None:
                for partition in self.partitions:  # what nobody receives must not outlive its time either
                    if await partition.has_something():
                        await partition.feed(MAX_EXPIRING)
            if self._heard.is_set():
                self._heard.clear()
                await self._upkeep.let_go()
                await self._upkeep.rewrite()
            await self._look_after()

    async def _bound_dead_letters(self) -> None:
        while True:
            await self._has_died.wait()
            self._has_died.clear()
            await self._upkeep.bound_dead_letters()

    # -- receiving -------------------------------------------------------------------------------------------------------

    async def receive(self, want: Want, wait_ms: int = 0) -> list[Received]:
        """Messages leased to the caller; after ``wait_ms`` perhaps none. One that is cancelled has leased nothing."""
        now_ms = self._clock.now().wall_ms
        self.tally.saw(want.consumer, now_ms)
        leased = await self._receiver.receive(want, wait_ms / 1_000, lambda: self.closing)
        return [self._told(one, now_ms) for one in leased]

    def _told(self, leased: Leased, now_ms: int) -> Received:
        partition, delivery = leased
        received = told(delivery, partition.place, self.settings.priorities)
        if delivery.deliveries == 1:
            age_s = max(0, self._clock.now().wall_ms - received.timestamp_ms) / 1_000
            self.tally.counters.waited.observe(age_s, self.definition.name)
        return received

    def is_leased(self, receipt: Receipt) -> bool:
        """Whether the lease a receipt stands for has not ended."""
        lease = self.partitions[receipt.partition].machine.lease(receipt.number)
        return lease is not None and (lease.run, lease.grant.position) == (receipt.run, receipt.position)

    async def give_back(self, received: Sequence[Received]) -> None:
        """Release deliveries of which the caller never heard."""
        await self.settle.release([one.receipt for one in received])

    # -- by id -----------------------------------------------------------------------------------------------------------

    async def publish_later(self, partition: int, record: Record, due_ms: int) -> MessageId:
        """Keep a message until it is due; durable on return."""
        chosen = self.partitions[partition]
        placed: c.Placed = await chosen.ask(c.PublishLater(chosen.new_token(), record, due_ms))
        return MessageId(self.definition.incarnation, partition, placed.position)

    def partition_of(self, message_id: MessageId) -> QueuePartition:
        """Where a message is. Raises MessageNotFound for one of another queue, or of an earlier one of this name."""
        if message_id.incarnation != self.definition.incarnation or message_id.partition >= len(self.partitions):
            raise MessageNotFound(f"{message_id} is not a message of {self.definition.KIND} {self.definition.name!r}")
        return self.partitions[message_id.partition]

    async def cancel(self, message_id: MessageId) -> c.Outcome:
        """Take back a message that was not delivered."""
        partition = self.partition_of(message_id)
        await self._require_written(partition, message_id)
        outcome: c.Outcome = await partition.ask(c.Cancel(index_of(message_id.first)))
        return outcome

    async def reschedule(self, message_id: MessageId, due_ms: int) -> None:
        """Deliver a message that waits at ``due_ms``. Raises MessageNotFound once it was delivered."""
        partition = self.partition_of(message_id)
        await self._require_written(partition, message_id)
        position = partition.machine.find(index_of(message_id.first))
        messages = [] if position is None else await partition.messages_at([position])
        outcome = (
            c.Outcome.ALREADY_DELIVERED
            if not messages
            else await partition.ask(c.Reschedule(partition.new_token(), messages[0], due_ms))
        )
        if outcome is c.Outcome.ALREADY_DELIVERED:
            raise MessageNotFound(f"message {message_id} was delivered already, or is done")

    async def _require_written(self, partition: QueuePartition, message_id: MessageId) -> None:
        first = message_id.first
        if first.source is Source.DEAD or first.offset >= (await partition.bounds(first.source)).high_watermark:
            raise MessageNotFound(f"there is no message {message_id}")

    # -- all of it -------------------------------------------------------------------------------------------------------

    async def purge(self, before_ms: int | None = None) -> None:
        """Everything (that was appended before ``before_ms``) but the dead letters is done."""
        for partition in self.partitions:
            source, retry = [await self._end(partition, one, before_ms) for one in (Source.SOURCE, Source.RETRY)]
            await partition.ask(c.Purge(source, retry))
        self._receiver.bell.ring_all()

    async def _end(self, partition: QueuePartition, source: Source, before_ms: int | None) -> int:
        bounds = await partition.bounds(source)
        end = bounds.last_stable_offset
        if before_ms is None or end == 0:
            return end
        found = await self._engine.offset_at(partition.place.topic(source), before_ms)
        return end if found is None else min(found.offset, end)

    def in_flight_of(self) -> Mapping[str, int]:
        """How many messages each consumer holds."""
        held: dict[str, int] = {}
        for partition in self.partitions:
            for lease in partition.machine.leases():
                held[lease.consumer] = held.get(lease.consumer, 0) + 1
        return held
