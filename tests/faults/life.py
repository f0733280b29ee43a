"""A whole broker without doors, on files that remember, by a clock that is moved: the steps that workloads are made of.

What lives here: starting it, and the steps, each of which notes what it asked and was promised. What may not: judging.

``data`` is a topic with retention by age, ``table`` one that is compacted, ``jobs`` a queue over a topic of the same name,
``g`` a group over ``data``. Topics that come and go are called ``extra-`` and a number, none of them twice.
"""

import dataclasses
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import msgspec

from logbroker.broker.queue_sends import QueueMessage
from logbroker.broker.services import Services, services_on
from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.api import NO_PRODUCER
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.errors import LogbrokerError
from logbroker.groups.messages import CommitOffsets, MemberClaim, OffsetToCommit
from logbroker.log.files import Files
from logbroker.log.files.faults import FaultFiles
from logbroker.model import ProducerStamp, Record, TopicPartition
from logbroker.queues.dispatcher import Dispatcher, Received, Sent, Want
from logbroker.queues.settings import QueueSettings
from tests.faults.ledger import NEVER, Fact, Ledger, Moment
from tests.faults.simulation import settled

DATA = TopicPartition("data", 0)
QUEUE = "jobs"
GROUP = "g"
RETENTION_MS = 60_000
PRODUCER = 7
NOBODY = MemberClaim("", -1)
TABLE = TopicPartition("table", 0)
_TABLE_SETTINGS = {
    "cleanup_policy": "compact",
    "segment_bytes": 1_500,
    "retention_ms": -1,
    "min_cleanable_dirty_ratio": 0.01,
}
_TOPIC_SETTINGS = {"segment_bytes": 1_500, "retention_ms": RETENTION_MS, "index_interval_bytes": 200}


class Running:
    """A started broker."""

    def __init__(self, engine: EmbeddedEngine, services: Services, clock: ManualClock) -> None:
        self.engine = engine
        self.services = services
        self.clock = clock

    @classmethod
    async def start(cls, files: Files, clock: ManualClock) -> "Running":
        """Raises what a start raises; the directory is let go then."""
        engine = EmbeddedEngine(files, BrokerConfig(), TopicConfig(), clock)
        await engine.start()
        services = services_on(engine, clock, BrokerConfig(), engine.cluster_id)
        await services.groups.start()
        await services.queues.start()
        return cls(engine, services, clock)

    async def stop(self) -> None:
        """An orderly stop."""
        await self.services.queues.stop()
        await self.services.groups.stop()
        await self.engine.stop()

    @property
    def queue(self) -> Dispatcher:
        """The dispatcher of the queue."""
        return self.services.queues.get(QUEUE)

    async def pass_time(self, ms: int) -> None:
        """Let time pass, and what it leads to happen."""
        self.clock.advance(ms)
        self.services.groups.wake()
        self.queue.wake()
        await settled()


async def founded(files: Files, clock: ManualClock) -> Running:
    """A broker with the topic and the queue."""
    running = await Running.start(files, clock)
    await running.engine.create_topic(DATA.topic, 1, _TOPIC_SETTINGS)
    await running.engine.create_topic(TABLE.topic, 1, _TABLE_SETTINGS)
    settings = msgspec.convert({"partitions": 1, "max_attempts": 2, "retry": {"policy": "none"}}, QueueSettings)
    await running.services.queues.ensure(QUEUE, settings)
    await settled()
    return running


async def recorded() -> tuple["Life", FaultFiles]:
    """A life on files that remember; its moments are the numbers of their operations."""
    files = FaultFiles()
    return await Life.begin(files, lambda: len(files.operations)), files


class Life:
    """A broker at work, with its ledger."""

    def __init__(self, running: Running, files: Files, moment: Moment) -> None:
        self.running = running
        self.files = files
        self.moment = moment
        self.ledger = Ledger()
        self.sequence = 0
        self._numbers = itertools.count(1)
        self._extra: str | None = None

    @classmethod
    async def begin(cls, files: Files, moment: Moment) -> "Life":
        """A broker whose founding is over and durable, with a record and a message in it."""
        life = cls(await founded(files, ManualClock()), files, moment)
        await life.produce()
        await life.send()
        await settled()
        return life

    # -- steps -------------------------------------------------------------------------------------------------------

    async def produce(self, size: int = 10) -> None:
        """One batch of two records."""
        await self._append(DATA, size)

    async def produce_large(self) -> None:
        """One batch of several sectors, which makes the segment full."""
        await self._append(DATA, 600)

    async def produce_once(self) -> None:
        """One batch of an idempotent producer."""
        record = await self._append(DATA, 10, ProducerStamp(PRODUCER, 0, self.sequence))
        self.ledger.facts.append(dataclasses.replace(record, kind="sequence", at=self.sequence + 1))
        if record.done < NEVER:
            self.sequence += 2

    async def _append(self, where: TopicPartition, size: int, stamp: ProducerStamp = NO_PRODUCER) -> Fact:
        values = [b"%d." % next(self._numbers) + bytes(size) for _ in range(2)]
        at = self.running.engine.partition(where).log.end_offset
        with self.ledger.asking("record", where.topic, self.moment) as first:
            first.at, first.key = at, values[0]
            second = dataclasses.replace(first, at=at + 1, key=values[1])
            self.ledger.facts.append(second)
            records = [Record(value, key=b"k%d" % (number % 3)) for number, value in enumerate(values)]
            await self.running.engine.append(where, records, producer=stamp)
        second.done, second.refused = first.done, first.refused
        return first

    async def commit(self) -> None:
        """Commit all that is flushed."""
        offset = (await self.running.engine.bounds(DATA)).high_watermark
        with self.ledger.asking("commit", GROUP, self.moment) as fact:
            fact.at = offset
            command = CommitOffsets(NOBODY, (OffsetToCommit(DATA, offset),))
            [(_, error)] = (await self.running.services.groups.commit(GROUP, command)).results
            if error is not None:
                raise error

    async def send(self) -> None:
        """Send a message to the queue."""
        value = b"job-%d" % next(self._numbers)
        with self.ledger.asking("sent", QUEUE, self.moment) as fact:
            fact.key = value
            [outcome] = await self.running.services.queue_sends.send(QUEUE, [QueueMessage(Record(value))])
            if not isinstance(outcome, Sent):
                raise outcome

    async def receive(self) -> Received | None:
        """Lease a message."""
        try:
            received = await self.running.queue.receive(Want(1, lease_ms=30_000), 0)
        except LogbrokerError:
            return None
        return received[0] if received else None

    async def lease(self) -> None:
        """Send, receive and hold."""
        await self.send()
        await settled()
        with self.ledger.asking("leased", QUEUE, self.moment) as fact:
            received = await self.receive()
            fact.key = received.value or b"" if received else b""

    async def ack(self) -> None:
        """Send, receive and ack."""
        await self._settle("ack")

    async def nack(self) -> None:
        """Send, receive and give back: a retry, or a dead letter."""
        await self._settle("nack")

    async def reject(self) -> None:
        """Send, receive and make a dead letter."""
        await self._settle("reject")

    async def _settle(self, how: str) -> None:
        await self.send()
        await settled()
        received = await self.receive()
        if received is None:
            return
        with self.ledger.asking(how, QUEUE, self.moment) as fact:
            fact.key = received.value or b""
            settle = self.running.queue.settle
            if how == "ack":
                [error] = await settle.ack([received.receipt])
            elif how == "nack":
                [error] = await settle.nack([(received.receipt, 0, "failed")])
            else:
                [error] = await settle.reject([(received.receipt, "bad")])
            if error is not None:
                raise error

    async def roll(self) -> None:
        """Seal the active segment, as a full one is."""
        with self.ledger.asking("roll", DATA.topic, self.moment):
            self.running.engine.partition(DATA).log.roll(self.running.clock.now())

    async def pass_time(self, ms: int) -> None:
        """Let time pass, which may end leases."""
        with self.ledger.asking("time", "", self.moment):
            await self.running.pass_time(ms)

    async def retain(self) -> None:
        """Let everything in the topic come of age, and upkeep find it."""
        await self.pass_time(RETENTION_MS + 1_000)
        with self.ledger.asking("start", DATA.topic, self.moment) as fact:
            fact.at = (await self.running.engine.bounds(DATA)).high_watermark
            await self.running.engine.maintain()
            fact.at = (await self.running.engine.bounds(DATA)).log_start_offset

    async def compact(self) -> None:
        """Some new values for the keys of the table in segments of their own, and the cleaner."""
        for _ in range(2):
            await self._put()
            self.running.engine.partition(TABLE).log.roll(self.running.clock.now())
        await self._put()
        await self.running.engine.compact()

    async def _put(self) -> None:
        """One batch with a new value for each of two keys of the table."""
        at = self.running.engine.partition(TABLE).log.end_offset
        numbers = [next(self._numbers), next(self._numbers)]
        with self.ledger.asking("put", TABLE.topic, self.moment) as first:
            first.at, first.key = at, b"k%d=%d" % (numbers[0] % 3, numbers[0])
            second = dataclasses.replace(first, at=at + 1, key=b"k%d=%d" % (numbers[1] % 3, numbers[1]))
            self.ledger.facts.append(second)
            records = [Record(one.key, key=one.key.partition(b"=")[0]) for one in (first, second)]
            await self.running.engine.append(TABLE, records)
        second.done, second.refused = first.done, first.refused

    async def create(self) -> None:
        """A topic more, with a batch in it."""
        name = f"extra-{next(self._numbers)}"
        with self.ledger.asking("created", name, self.moment):
            await self.running.engine.create_topic(name, 1, {})
            self._extra = name
        if self._extra == name:
            await self._append(TopicPartition(name, 0), 10)

    async def delete(self) -> None:
        """The topic made last goes."""
        name, self._extra = self._extra, None
        if name is not None:
            with self.ledger.asking("deleted", name, self.moment):
                await self.running.engine.delete_topic(name)

    async def checkpoint(self) -> None:
        """A flush a good second after the last one, so that the recovery point is stored."""
        await self.pass_time(1_100)
        await self.produce()

    async def restart(self) -> None:
        """A clean stop and start."""
        await self.running.stop()
        self.running = await Running.start(self.files, self.running.clock)


Step: TypeAlias = Callable[[Life], Coroutine[Any, Any, None]]

SHORT: dict[str, Step] = {
    "produce": Life.produce,
    "commit": Life.commit,
    "ack": Life.ack,
    "reject": Life.reject,
    "roll": Life.roll,
    "compact": Life.compact,
    "retain": Life.retain,
    "create": Life.create,
    "delete": Life.delete,
}
"""What all short workloads are made of."""

LONG: dict[str, Step] = {
    **SHORT,
    "produce large": Life.produce_large,
    "produce once": Life.produce_once,
    "send": Life.send,
    "lease": Life.lease,
    "nack": Life.nack,
    "checkpoint": Life.checkpoint,
    "restart": Life.restart,
}
"""What long random workloads are made of."""
