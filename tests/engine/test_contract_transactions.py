"""What every engine promises of transactions; each test runs on each engine."""

import asyncio

import pytest

from logbroker.engine.api import Engine, Isolation
from logbroker.errors import InvalidProducerEpoch, InvalidTransactionState, UnknownTopicOrPartition
from logbroker.model import Appended, ProducerStamp, Record, TopicPartition

pytestmark = pytest.mark.asyncio

WHERE = TopicPartition("orders", 0)
PLENTY = 1 << 20
COMMITTED = Isolation.READ_COMMITTED


class Producer:
    """A transactional producer on one partition."""

    def __init__(self, engine: Engine, producer_id: int, epoch: int = 0) -> None:
        self.engine = engine
        self.id, self.epoch, self.sequence = producer_id, epoch, 0

    async def write(self, *values: bytes) -> Appended:
        stamp = ProducerStamp(self.id, self.epoch, self.sequence)
        self.sequence += len(values)
        return await self.engine.append(WHERE, list(map(Record, values)), producer=stamp, transactional=True)

    async def end(self, committed: bool) -> None:
        await self.engine.end_transaction(WHERE, self.id, self.epoch, committed=committed)


async def seen(engine: Engine, isolation: Isolation = COMMITTED, max_bytes: int = PLENTY) -> list[bytes | None]:
    """The values a reader of this isolation gets, going on from next_offset to the end."""
    offset = (await engine.bounds(WHERE)).log_start_offset
    values: list[bytes | None] = []
    while True:
        read = await engine.read(WHERE, offset, max_bytes=max_bytes, isolation=isolation)
        values += [record.value for record in read.records]
        assert read.next_offset >= offset
        if read.next_offset >= isolation.end(read.bounds):
            return values
        assert read.next_offset > offset
        offset = read.next_offset


@pytest.fixture(params=["fsync", "os"])
def durability(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_an_open_transaction_hides_itself_and_what_comes_behind_it(engine: Engine, durability: str) -> None:
    await engine.create_topic("orders", 1, {"durability": durability})
    before = await engine.append(WHERE, [Record(b"before")])
    producer = Producer(engine, 1)
    first = await producer.write(b"a")
    await engine.append(WHERE, [Record(b"behind")])
    assert await seen(engine) == [b"before"]
    assert await seen(engine, Isolation.READ_UNCOMMITTED) == [b"before", b"a", b"behind"]
    bounds = await engine.bounds(WHERE)
    assert before.next_offset <= bounds.last_stable_offset <= first.base_offset < bounds.high_watermark
    await producer.end(committed=True)
    assert await seen(engine) == [b"before", b"a", b"behind"]
    bounds = await engine.bounds(WHERE)
    assert bounds.last_stable_offset == bounds.high_watermark


@pytest.mark.parametrize("max_bytes", [1, 200, PLENTY])
async def test_an_aborted_transaction_is_never_seen(engine: Engine, max_bytes: int) -> None:
    await engine.create_topic("orders", 1, {})
    one, two = Producer(engine, 1), Producer(engine, 2)
    for number in range(3):
        await one.write(b"one %d" % number)
        await two.write(b"two %d" % number)
        await engine.append(WHERE, [Record(b"plain %d" % number)])
    await one.end(committed=False)
    assert await seen(engine, max_bytes=max_bytes) == []
    await two.end(committed=True)
    expected = [b"%s %d" % (who, number) for number in range(3) for who in (b"two", b"plain")]
    assert await seen(engine, max_bytes=max_bytes) == expected
    await one.write(b"again")
    await one.end(committed=True)
    assert await seen(engine, max_bytes=max_bytes) == [*expected, b"again"]


async def test_ending_twice_is_ending_once(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    producer = Producer(engine, 1)
    await producer.write(b"a")
    await producer.end(committed=True)
    end = (await engine.bounds(WHERE)).high_watermark
    await producer.end(committed=True)
    assert (await engine.bounds(WHERE)).high_watermark == end
    assert await seen(engine) == [b"a"]


async def test_a_marker_of_a_higher_epoch_keeps_the_old_one_out(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    old = Producer(engine, 1)
    await old.write(b"a")
    await engine.end_transaction(WHERE, 1, 1, committed=False)
    with pytest.raises(InvalidProducerEpoch):
        await old.write(b"late")
    with pytest.raises(InvalidProducerEpoch):
        await old.end(committed=True)
    new = Producer(engine, 1, epoch=1)
    await new.write(b"b")
    await new.end(committed=True)
    assert await seen(engine) == [b"b"]


async def test_records_of_no_transaction_are_refused_while_one_is_open(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    producer = Producer(engine, 1)
    await producer.write(b"a")
    with pytest.raises(InvalidTransactionState):
        await engine.append(WHERE, [Record(b"b")], producer=ProducerStamp(1, 0, 1))


async def test_a_committed_reader_waits_for_what_it_can_read(engine: Engine) -> None:
    """It is not woken by the high watermark, which it cannot read up to."""
    await engine.create_topic("orders", 1, {})
    producer = Producer(engine, 1)
    first = await producer.write(b"a")
    committed = asyncio.ensure_future(engine.changed({WHERE: first.base_offset}, COMMITTED))
    end = (await engine.bounds(WHERE)).high_watermark
    uncommitted = asyncio.ensure_future(engine.changed({WHERE: end}))
    await producer.write(b"b")
    await asyncio.wait_for(uncommitted, 5)
    await asyncio.sleep(0)
    assert not committed.done()
    await producer.end(committed=True)
    await asyncio.wait_for(committed, 5)


async def test_a_committed_reader_is_told_when_the_topic_is_gone(engine: Engine) -> None:
    await engine.create_topic("orders", 1, {})
    first = await Producer(engine, 1).write(b"a")
    waiting = asyncio.ensure_future(engine.changed({WHERE: first.base_offset}, COMMITTED))
    await asyncio.sleep(0)
    await engine.delete_topic("orders")
    await asyncio.wait_for(waiting, 5)
    with pytest.raises(UnknownTopicOrPartition):
        await engine.end_transaction(WHERE, 1, 0, committed=True)
