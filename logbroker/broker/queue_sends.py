"""Sending to a queue: priorities, delays, deduplication, and the bound on its size.

What lives here: the use case of a queue send. What may not: formats of a door. A record that any other producer writes to
the queue's topic is a message too, but none of this applies to it.
Invariants: nothing is written before every message has passed every check; a duplicate is answered only when its original
is durable, with the place of the original.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from logbroker.broker.checks import problems_of, refused, size_bound
from logbroker.broker.produce import Outcome, Produce, Produced
from logbroker.broker.queues import Queues
from logbroker.clock import Clock
from logbroker.engine.api import Engine
from logbroker.errors import InvalidRequest, LogbrokerError
from logbroker.model import Header, Record
from logbroker.queues.bands import partition_for
from logbroker.queues.dispatcher import Dispatcher, Sent
from logbroker.queues.headers import DEDUP_ID, TTL_MS
from logbroker.queues.positions import MessageId, Position, Source
from logbroker.queues.settings import MAX_DELAY_MS


class QueueMessage(NamedTuple):
    """A message to be sent. ``due_ms`` (wall clock) keeps it back until then; ``ttl_ms`` is its own time to live."""

    record: Record
    priority: int = 0
    due_ms: int | None = None
    dedup_id: str | None = None
    ttl_ms: int | None = None


SendOutcome = Sent | LogbrokerError


class QueueSends:
    """The use case of sending to queues."""

    def __init__(self, engine: Engine, queues: Queues, produce: Produce, clock: Clock) -> None:
        self._engine = engine
        self._queues = queues
        self._produce = produce
        self._clock = clock
        self._turn = 0

    async def send(self, queue: str, messages: Sequence[QueueMessage]) -> list[SendOutcome]:
        """Send messages; one outcome each, in order.

        Raises QueueNotFound, InvalidRequest, MessageTooLarge and InvalidTimestamp (naming each bad message) and QueueFull
        before anything is written.
        """
        dispatcher = self._queues.get(queue)
        messages = [self._with_headers(message) for message in messages]
        self._check(dispatcher, messages)
        dispatcher.has_ttl = dispatcher.has_ttl or any(message.ttl_ms is not None for message in messages)
        if all(message.dedup_id is None for message in messages):
            return await self._send(dispatcher, messages)
        return await self._deduplicated(dispatcher, messages)

    def _with_headers(self, message: QueueMessage) -> QueueMessage:
        """What must be found again in the log stands in its headers."""
        own: list[Header] = []
        if message.dedup_id is not None:
            own.append(Header(DEDUP_ID, message.dedup_id.encode()))
        if message.ttl_ms is not None:
            own.append(Header(TTL_MS, b"%d" % message.ttl_ms))
        record, now_ms = message.record, self._clock.now().wall_ms
        timestamp_ms = now_ms if record.timestamp_ms is None else record.timestamp_ms
        return message._replace(record=Record(record.value, record.key, (*record.headers, *own), timestamp_ms))

    def _check(self, dispatcher: Dispatcher, messages: Sequence[QueueMessage]) -> None:
        priorities, now_ms = dispatcher.definition.settings.priorities, self._clock.now().wall_ms
        for index, message in enumerate(messages):
            if not 0 <= message.priority < priorities:
                raise _wrong(index, "priority", f"priority {message.priority} is not one of 0 to {priorities - 1}")
            if message.due_ms is not None and message.due_ms > now_ms + MAX_DELAY_MS:
                raise _wrong(index, "deliver_at_ms", "a message is kept back for at most ten years")
        info = self._engine.topic(dispatcher.definition.name)
        records = [message.record for message in messages]
        problems = problems_of(info, records, None, list(map(size_bound, records)), now_ms)
        if problems:
            raise refused(problems, "messages")

    # -- writing ---------------------------------------------------------------------------------------------------------

    async def _send(self, dispatcher: Dispatcher, messages: Sequence[QueueMessage]) -> list[SendOutcome]:
        now_ms = self._clock.now().wall_ms
        partitions = [self._partition(dispatcher, message) for message in messages]
        later = [index for index, one in enumerate(messages) if one.due_ms is not None and one.due_ms > now_ms]
        at_once = [index for index in range(len(messages)) if index not in set(later)]
        outcomes: dict[int, SendOutcome] = {}

        async def keep(index: int) -> None:
            message, partition = messages[index], partitions[index]
            assert message.due_ms is not None, "it is kept back until then"
            try:
                placed = await dispatcher.publish_later(partition, message.record, message.due_ms)
                outcomes[index] = Sent(placed, partition, None)
            except LogbrokerError as error:
                outcomes[index] = error

        async def append() -> None:
            records = [messages[index].record for index in at_once]
            places = [partitions[index] for index in at_once]
            produced = await self._produce.produce(dispatcher.definition.name, records, places)
            for index, outcome in zip(at_once, produced, strict=True):
                outcomes[index] = _sent(dispatcher, outcome)

        async with dispatcher.size.room_for(len(messages)):
            await asyncio.gather(*(keep(index) for index in later), *([append()] if at_once else []))
        sent = sum(isinstance(outcome, Sent) for outcome in outcomes.values())
        dispatcher.tally.count("sent", sent)
        return [outcomes[index] for index in range(len(messages))]

    def _partition(self, dispatcher: Dispatcher, message: QueueMessage) -> int:
        self._turn += 1
        priorities = dispatcher.definition.settings.priorities
        return partition_for(message.record.key, self._turn, message.priority, priorities, len(dispatcher.partitions))

    # -- deduplication ---------------------------------------------------------------------------------------------------

    async def _deduplicated(self, dispatcher: Dispatcher, messages: Sequence[QueueMessage]) -> list[SendOutcome]:
        """Send what is new; what is not gets the answer of its original, once that is durable."""
        begun = dispatcher.deduplication
        originals = await begun.begin([one.dedup_id for one in messages if one.dedup_id is not None])
        firsts: dict[str, int] = {}
        new: list[int] = []
        for index, message in enumerate(messages):
            if message.dedup_id is None:
                new.append(index)
            elif message.dedup_id not in originals and message.dedup_id not in firsts:
                firsts[message.dedup_id] = index
                new.append(index)
        outcomes: dict[int, SendOutcome] = {}
        try:
            if new:
                sent = await self._send(dispatcher, [messages[index] for index in new])
                outcomes = dict(zip(new, sent, strict=True))
        finally:
            for dedup_id, index in firsts.items():
                outcome = outcomes.get(index)
                begun.end(dedup_id, outcome if isinstance(outcome, Sent) else None)
        for index in set(range(len(messages))) - outcomes.keys():
            repeated = messages[index].dedup_id
            assert repeated is not None, "only ids are duplicates"
            outcomes[index] = _repeated(originals.get(repeated) or outcomes[firsts[repeated]])
            dispatcher.tally.count("duplicates")
        return [outcomes[index] for index in range(len(messages))]


def _repeated(original: SendOutcome) -> SendOutcome:
    return original._replace(duplicate=True) if isinstance(original, Sent) else original


def _sent(dispatcher: Dispatcher, outcome: Outcome) -> SendOutcome:
    if not isinstance(outcome, Produced):
        return outcome
    first = Position(Source.SOURCE, outcome.offset)
    message_id = MessageId(dispatcher.definition.incarnation, outcome.partition, first)
    return Sent(message_id, outcome.partition, outcome.offset)


def _wrong(index: int, field: str, detail: str) -> InvalidRequest:
    pointer = f"#/messages/{index}/{field}"
    return InvalidRequest(f"{detail}, at {pointer}", errors=[{"pointer": pointer, "detail": detail}])
