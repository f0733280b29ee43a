"""Seeking and snapshots: a subscription is sent elsewhere, and nothing of before has an effect after."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from logbroker.broker.positions import EARLIEST, LATEST, AtTime
from logbroker.broker.subscriptions import AtSnapshot
from logbroker.clock import ManualClock
from logbroker.errors import InvalidOffset, LeaseLost, SnapshotNotFound, StorageError, TopicInUse
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import TopicPartition
from tests.pubsub.shell import Reader, reading
from tests.queues.shell import settled, texts

pytestmark = pytest.mark.asyncio

NEWS = TopicPartition("news", 0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def reader(clock: ManualClock) -> AsyncIterator[Reader]:
    async with reading(MemoryFiles(), clock) as reader:
        yield reader


async def test_a_seek_back_delivers_the_range_again_and_nothing_else(reader: Reader) -> None:
    await reader.publish(*"abcdef")
    await reader.subscribe(max_attempts=9)
    other = reader.other("other")
    await other.subscribe()
    taken = await reader.receive(4)
    await reader.ack(taken[0], taken[1])
    await reader.nack(taken[2], delay_ms=60_000)
    leaps = await reader.services.subscriptions.seek("audit", {0: 1})
    assert [tuple(leap) for leap in leaps] == [(0, 3, 1, 6, 1, 1)]
    outcomes = await reader.ack(*taken[2:])
    assert [type(one) for one in outcomes] == [LeaseLost, LeaseLost]
    assert isinstance(await reader.nack(taken[3]), LeaseLost)
    assert await reader.take() == ["b", "c", "d", "e", "f"]
    await reader.advance(120_000)
    assert await reader.take() == []  # the waiting retry is void
    assert await other.take() == list("abcdef")


async def test_a_seek_ahead_leaves_out_what_lies_between(reader: Reader, clock: ManualClock) -> None:
    await reader.publish("a", "b", timestamp_ms=1_000)
    await reader.publish("c", timestamp_ms=2_000)
    await reader.subscribe()
    [held] = await reader.receive(1)
    plan = await reader.services.subscriptions.plan("audit", AtTime(2_000))
    assert (plan[0].to_offset, await reader.ack(held)) == (2, [None])  # a plan changes nothing
    await reader.services.subscriptions.seek("audit", AtTime(2_000))
    assert await reader.take() == ["c"]
    await reader.services.subscriptions.seek("audit", LATEST)
    assert await reader.take() == []


async def test_dead_letters_stay(reader: Reader) -> None:
    await reader.publish("bad", "good")
    await reader.subscribe(max_attempts=1)
    await reader.nack(await reader.one())
    await settled()
    await reader.services.subscriptions.seek("audit", LATEST)
    assert (await reader.queue.size.counts()).dead == 1


async def test_a_seek_of_one_partition_leaves_the_others_where_they_are(reader: Reader) -> None:
    await reader.services.engine.create_topic("news", 2, {})
    await reader.publish("a0", "b0")
    await reader.publish("a1", "b1", partition=1)
    await reader.subscribe()
    held = {text: one for one in await reader.receive(9) for text in texts([one])}
    await reader.ack(held["a0"], held["a1"])
    await reader.services.subscriptions.seek("audit", {1: 0})
    assert [type(one) for one in await reader.ack(held["b0"], held["b1"])] == [type(None), LeaseLost]
    assert await reader.take() == ["a1", "b1"]


async def test_messages_in_flight_elsewhere_and_a_waiting_poll_survive_a_seek(reader: Reader) -> None:
    await reader.publish("a")
    await reader.subscribe()
    assert await reader.take() == ["a"]
    waiting = asyncio.create_task(reader.receive(1, 20_000))
    await settled()
    await reader.services.subscriptions.seek("audit", EARLIEST)
    assert texts(await asyncio.wait_for(waiting, 5)) == ["a"]


async def test_a_seek_that_a_crash_interrupts_is_completed_at_the_next_start(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with reading(files, clock) as reader:
        await reader.publish(*"abc")
        await reader.subscribe()
        taken = await reader.receive(2)
        await reader.ack(taken[1])

        async def broken(definition: object) -> None:
            raise StorageError("the machine never hears of it")

        reader.queue.seek = broken  # type: ignore[method-assign]  # as a crash between the two writes
        with pytest.raises(StorageError):
            await reader.services.subscriptions.seek("audit", {0: 1})
    async with reading(files, clock) as reader:
        assert [type(one) for one in await reader.ack(taken[0])] == [LeaseLost]
        assert await reader.take() == ["b", "c"]
    async with reading(files, clock) as reader:
        assert await reader.take() == []  # it happens once


async def test_below_the_start_of_the_log_there_is_nothing_to_go_back_to(reader: Reader) -> None:
    await reader.publish(*"abc")
    await reader.services.engine.trim(NEWS, 2)
    await reader.subscribe({0: 0})
    assert await reader.take() == ["c"]
    [leap] = await reader.services.subscriptions.plan("audit", {0: 0})
    assert leap.to_offset == 2


# -- snapshots ---------------------------------------------------------------------------------------------------------


async def snap(reader: Reader, name: str = "before", ttl_ms: int | None = None) -> None:
    await reader.services.snapshots.take(name, reader.queue, ttl_ms)


async def test_a_snapshot_brings_back_what_was_not_done_and_nothing_else(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with reading(files, clock) as reader:
        await reader.publish(*"abcdef")
        await reader.subscribe(max_attempts=2, retry={"policy": "fixed", "initial_ms": 60_000})
        a, b, c, d = await reader.receive(4)
        await reader.ack(b)
        await reader.nack(a)  # waits for its retry: it is not done, although its place in the topic is
        await reader.reject(d)
        await settled()
        await snap(reader)
        await reader.ack(c)
        assert await reader.take() == ["e", "f"]
    async with reading(files, clock) as reader:
        await reader.services.subscriptions.seek("audit", AtSnapshot("before"))
        assert await reader.take() == ["a", "c", "e", "f"]
        assert reader.queue.definition.done == {}
        copy = reader.other("copy")
        await copy.subscribe(AtSnapshot("before"))
        assert await copy.take() == ["a", "c", "e", "f"]


async def test_a_snapshot_keeps_its_records_and_its_topic(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with reading(files, clock) as reader:
        await reader.publish(*"abc")
        await reader.subscribe()
        await reader.ack(await reader.one())
        await snap(reader)
        assert await reader.take() == ["b", "c"]
        await reader.queue._upkeep.let_go()
    async with reading(files, clock) as reader:
        await reader.queue._upkeep.let_go()
        with pytest.raises(InvalidOffset, match="still needed"):
            await reader.services.engine.trim(NEWS, 3)
        await reader.services.subscriptions.delete("audit")
        with pytest.raises(TopicInUse, match="snapshot 'before'"):
            await reader.services.topics.delete("news")
        assert await reader.services.snapshots.kept_records(reader.services.snapshots.get("before")) == 2
        await reader.services.snapshots.delete("before")
        assert await reader.services.engine.trim(NEWS, 3) == 3
        await reader.services.topics.delete("news")


async def test_a_snapshot_goes_when_its_time_is_over(reader: Reader, clock: ManualClock) -> None:
    await reader.publish("a")
    await reader.subscribe()
    await snap(reader, ttl_ms=60_000)
    clock.advance(59_999)
    await reader.services.snapshots.drop_expired()
    assert [one.name for one in reader.services.snapshots.list()] == ["before"]
    clock.advance(1)
    await reader.services.snapshots.drop_expired()
    with pytest.raises(SnapshotNotFound):
        await reader.services.subscriptions.seek("audit", AtSnapshot("before"))


async def test_a_snapshot_of_another_topic_leads_nowhere(reader: Reader) -> None:
    await reader.publish("a")
    await reader.publish("b", topic="weather")
    await reader.subscribe()
    await snap(reader)
    with pytest.raises(InvalidOffset, match="of topic 'news'"):
        await reader.other("w").subscribe(AtSnapshot("before"), topic="weather")
