"""The shell of transactions: markers everywhere, tried again, and gone on with after a restart."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.api import Isolation
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.errors import InvalidProducerIdMapping, InvalidTransactionState, ProducerFenced, Recovering, StorageError
from logbroker.groups.coordinator import GroupCoordinator
from logbroker.groups.messages import CommitOffsets, MemberClaim, OffsetToCommit
from logbroker.groups.transactions import coordinator as shell
from logbroker.groups.transactions.coordinator import TransactionCoordinator
from logbroker.groups.transactions.messages import Producer, Status
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import ProducerStamp, Record, TopicPartition
from tests.log.helpers import copy_of

pytestmark = pytest.mark.asyncio
WHERES = [TopicPartition("t", 0), TopicPartition("t", 1)]


class Broker:
    """Engine, groups and transactions on files in memory."""

    def __init__(self, files: MemoryFiles, clock: ManualClock) -> None:
        self.files = files
        self.clock = clock
        self.engine = EmbeddedEngine(files, BrokerConfig(), TopicConfig(), clock)
        self.groups = GroupCoordinator(self.engine, clock)
        self.transactions = TransactionCoordinator(self.engine, self.groups, clock)

    async def start(self) -> "Broker":
        await self.engine.start()
        await self.groups.start()
        await self.transactions.start()
        return self

    async def stop(self) -> None:
        await self.transactions.stop()
        await self.groups.stop()
        await self.engine.stop()

    async def begin(self, name: str = "txn") -> Producer:
        """A transaction with a record in each partition and a position of a group."""
        producer = await self.transactions.init_producer(name, 60_000)
        await self.transactions.add(name, producer, WHERES, ["g"])
        for where in WHERES:
            stamp = ProducerStamp(*producer, 0)
            await self.engine.append(where, [Record(b"x")], producer=stamp, transactional=True)
        command = CommitOffsets(MemberClaim("", -1), (OffsetToCommit(WHERES[0], 1),))
        await self.transactions.commit_offsets(name, producer, "g", command)
        return producer

    async def comes_to(self, status: Status) -> None:
        """Return when the transaction is in that state."""
        async with asyncio.timeout(10):
            while self.transactions.describe("txn").status is not status:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0)

    async def seen(self) -> tuple[list[int], int | None]:
        """How many records a committed reader gets of each partition, and the position of the group."""
        reads = [
            await self.engine.read(where, 0, max_bytes=1 << 20, isolation=Isolation.READ_COMMITTED) for where in WHERES
        ]
        offset = (await self.groups.fetch_offsets("g")).get(WHERES[0])
        return [len(read.records) for read in reads], offset.offset if offset is not None else None


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[Broker]:
    running = await Broker(MemoryFiles(), ManualClock()).start()
    await running.engine.create_topic("t", 2, {})
    yield running
    await running.stop()


@pytest.mark.parametrize("committed", [True, False])
async def test_on_return_everybody_knows_the_outcome(broker: Broker, committed: bool) -> None:
    producer = await broker.begin()
    assert await broker.seen() == ([0, 0], None)
    await broker.transactions.end("txn", producer, committed=committed)
    assert await broker.seen() == (([1, 1], 1) if committed else ([0, 0], None))


async def test_what_cannot_be_told_is_told_later(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "_RETRY_S", 0.0)
    producer = await broker.begin()
    tell, failures = broker.engine.end_transaction, 2

    async def failing(where: TopicPartition, producer_id: int, epoch: int, *, committed: bool) -> None:
        nonlocal failures
        if where == WHERES[1] and failures:
            failures -= 1
            raise StorageError("the disk does not want to")
        await tell(where, producer_id, epoch, committed=committed)

    monkeypatch.setattr(broker.engine, "end_transaction", failing)
    await broker.transactions.end("txn", producer, committed=True)
    await broker.comes_to(Status.COMPLETE_COMMIT)
    assert failures == 0
    assert await broker.seen() == ([1, 1], 1)


async def test_a_start_goes_on_telling_what_was_decided(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    producer = await broker.begin()
    told = asyncio.Event()

    async def hanging(where: TopicPartition, producer_id: int, epoch: int, *, committed: bool) -> None:
        told.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(broker.engine, "end_transaction", hanging)
    ending = asyncio.ensure_future(broker.transactions.end("txn", producer, committed=True))
    await told.wait()
    again = await Broker(copy_of(broker.files), broker.clock).start()
    await again.comes_to(Status.COMPLETE_COMMIT)
    assert await again.seen() == ([1, 1], 1)
    await again.transactions.end("txn", producer, committed=True)
    await again.stop()
    ending.cancel()


async def test_a_transaction_past_its_time_out_is_aborted(broker: Broker) -> None:
    producer = await broker.begin()
    broker.clock.advance(60_000)
    broker.transactions.wake()
    await broker.comes_to(Status.COMPLETE_ABORT)
    assert await broker.seen() == ([0, 0], None)
    bounds = await broker.engine.bounds(WHERES[0])
    assert bounds.last_stable_offset == bounds.high_watermark
    with pytest.raises(ProducerFenced):
        await broker.transactions.end("txn", producer, committed=True)
    with pytest.raises(ProducerFenced):
        broker.transactions.check("txn", producer, WHERES[0])


async def test_a_topic_deleted_meanwhile_does_not_hold_the_end_up(broker: Broker) -> None:
    producer = await broker.begin()
    await broker.engine.delete_topic("t")
    await broker.transactions.end("txn", producer, committed=True)
    assert broker.transactions.describe("txn").status is Status.COMPLETE_COMMIT


async def test_names_that_clients_make_up_leave_nothing_behind(broker: Broker) -> None:
    for _ in range(2):
        with pytest.raises(InvalidProducerIdMapping):
            await broker.transactions.add("made up", Producer(1, 0), WHERES)
    with pytest.raises(InvalidProducerIdMapping):
        broker.transactions.check("made up", Producer(1, 0), WHERES[0])
    assert broker.transactions.list_transactions() == []


async def test_a_group_that_was_not_added_takes_no_positions(broker: Broker) -> None:
    producer = await broker.transactions.init_producer("txn", 60_000)
    await broker.transactions.add("txn", producer, WHERES)
    command = CommitOffsets(MemberClaim("", -1), (OffsetToCommit(WHERES[0], 1),))
    with pytest.raises(InvalidTransactionState):
        await broker.transactions.commit_offsets("txn", producer, "g", command)


async def test_before_the_start_there_is_no_answer() -> None:
    clock = ManualClock()
    engine = EmbeddedEngine(MemoryFiles(), BrokerConfig(), TopicConfig(), clock)
    with pytest.raises(Recovering):
        await TransactionCoordinator(engine, GroupCoordinator(engine, clock), clock).end(
            "txn", Producer(1, 0), committed=True
        )
