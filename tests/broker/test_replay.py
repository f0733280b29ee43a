"""Replay, below any door: each record once, from whatever checkpoint it is gone on with."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logbroker.broker.operations import Operation
from logbroker.broker.positions import EARLIEST, LATEST
from logbroker.broker.replay import JOB, SOURCE
from logbroker.broker.services import Services, services_on
from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig
from logbroker.errors import StorageError
from logbroker.model import Header, Record, StoredRecord, TopicPartition
from logbroker.queues.dispatcher import Want
from logbroker.queues.settings import QueueSettings
from tests.engine.fake import FakeEngine


@asynccontextmanager
async def broker(gap: int = 1) -> AsyncIterator[tuple[FakeEngine, Services]]:
    engine = FakeEngine(ManualClock(), gap=gap)
    services = services_on(engine, engine._clock, BrokerConfig(), "cluster")
    yield engine, services
    await services.operations.stop()
    await services.queues.stop()


async def fill(engine: FakeEngine, count: int, partitions: int, topic: str = "flights") -> None:
    await engine.create_topic(topic, partitions, {})
    for number in range(count):
        record = Record(b"%d" % number, b"k%d" % (number % 5), (Header("n", b"%d" % number),), 1_000 + number)
        await engine.append(TopicPartition(topic, number % partitions), [record])


async def everything(engine: FakeEngine, topic: str) -> list[StoredRecord]:
    found: list[StoredRecord] = []
    for number in range(engine.topic(topic).partitions):
        found += (await engine.read(TopicPartition(topic, number), 0, max_bytes=1 << 30)).records
    return found


async def ended(services: Services, operation: Operation) -> Operation:
    async with asyncio.timeout(20):
        while (now := services.operations.get(operation.id)).state == "running":  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)
    return now


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 30),
    partitions=st.integers(1, 3),
    into=st.sampled_from(["queue", "topic"]),
    at_once=st.integers(1, 7),
    gap=st.integers(0, 1),
    text=st.sampled_from([None, "int(headers.n) % 3 != 0"]),
    lost=st.floats(0, 1),
)
def test_each_record_is_copied_once_from_whatever_checkpoint_it_goes_on(
    count: int, partitions: int, into: str, at_once: int, gap: int, text: str | None, lost: float
) -> None:
    async def scenario() -> None:
        async with broker(gap) as (engine, services):
            await fill(engine, count, partitions)
            await services.queues.ensure("again", QueueSettings(partitions=2))
            await engine.create_topic("copies", 2, {})
            name = "again" if into == "queue" else "copies"
            kept: list[Operation] = []
            store = services.operations.store

            async def keeping(operation: Operation) -> None:
                kept.append(operation)
                await store(operation)

            services.operations.store = keeping  # type: ignore[method-assign]  # to see every checkpoint
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("logbroker.broker.replay.AT_ONCE", at_once)
                begun = await services.replays.begin("flights", EARLIEST, LATEST, (into, name), text=text, rate=None)
                wanted = Counter(b"%d" % one for one in range(count) if text is None or one % 3)
                done = await ended(services, begun)
                assert (done.state, done.done, done.failed, done.examined) == ("done", wanted.total(), 0, count)
                assert Counter(one.value for one in await everything(engine, name)) == wanted
                old = kept[int(lost * (len(kept) - 1))]  # as after a crash that has lost what was told since
                services.operations._known[old.id] = msgspec.structs.replace(old, state="cancelled")
                await services.operations.resume(old.id)
                done = await ended(services, begun)
                assert (done.state, done.done, done.failed) == ("done", wanted.total(), 0)
            assert Counter(one.value for one in await everything(engine, name)) == wanted

    asyncio.run(scenario())


@pytest.mark.asyncio
async def test_a_copy_says_whence_it_came_and_is_no_repeated_send() -> None:
    async with broker() as (engine, services):
        await engine.create_topic("flights", 1, {})
        old = (Header("lb-id", b"x"), Header("a", b"b"), Header("logbroker-dedup-id", b"d"), Header(JOB, b"other"))
        await engine.append(TopicPartition("flights", 0), [Record(b"v", b"k", old, 77)])
        await engine.create_topic("copies", 1, {})
        begun = await services.replays.begin("flights", EARLIEST, LATEST, ("topic", "copies"), text=None, rate=None)
        await ended(services, begun)
        [copy] = await everything(engine, "copies")
        assert (copy.key, copy.value, copy.timestamp_ms) == (b"k", b"v", 77)
        assert copy.headers == (Header("a", b"b"), Header(JOB, begun.id.encode()), Header(SOURCE, b"flights:0:0"))


@pytest.mark.asyncio
async def test_a_write_that_fails_ends_the_replay_and_going_on_completes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logbroker.broker.replay.AT_ONCE", 4)
    async with broker() as (engine, services):
        await fill(engine, 20, 1)
        await engine.create_topic("copies", 2, {})
        engine.fail_next_append(StorageError("the disk is tired"), TopicPartition("copies", 1))
        begun = await services.replays.begin("flights", EARLIEST, LATEST, ("topic", "copies"), text=None, rate=None)
        failed = await ended(services, begun)
        assert (failed.state, failed.error) == ("failed", "the disk is tired")
        await services.operations.resume(begun.id)
        assert (await ended(services, begun)).state == "done"
        assert sorted(int(one.value or b"") for one in await everything(engine, "copies")) == list(range(20))


@pytest.mark.asyncio
async def test_what_the_target_refuses_is_counted_and_told() -> None:
    async with broker() as (engine, services):
        await fill(engine, 5, 1)
        await engine.append(TopicPartition("flights", 0), [Record(b"x" * 10_000)])
        await engine.append(TopicPartition("flights", 0), [Record(b"last")])
        await engine.create_topic("copies", 1, {"max_message_bytes": 1_000})
        begun = await services.replays.begin("flights", EARLIEST, LATEST, ("topic", "copies"), text=None, rate=None)
        done = await ended(services, begun)
        assert (done.state, done.done, done.failed) == ("done", 6, 1)
        assert "max_message_bytes" in (done.error or "")


@pytest.mark.asyncio
async def test_a_full_queue_is_waited_for_even_by_records_that_have_to_go_alone() -> None:
    async with broker() as (engine, services):
        await fill(engine, 9, 1)
        await engine.append(TopicPartition("flights", 0), [Record(b"x" * 10_000)])
        await services.queues.ensure("again", QueueSettings(max_size=4))
        await engine.configure_topic("again", {"max_message_bytes": 1_000})
        begun = await services.replays.begin("flights", EARLIEST, LATEST, ("queue", "again"), text=None, rate=None)
        queue = services.queues.get("again")
        got: list[int] = []
        async with asyncio.timeout(20):
            while len(got) < 9:
                received = await queue.receive(Want(4), 50)
                got += [int(one.value or b"") for one in received]
                await queue.settle.ack([one.receipt for one in received])
        assert (await ended(services, begun)).failed == 1
        assert sorted(got) == list(range(9))


@pytest.mark.asyncio
async def test_what_was_deleted_before_it_was_read_is_told() -> None:
    async with broker(gap=0) as (engine, services):
        await fill(engine, 10, 1)
        await engine.create_topic("copies", 1, {})
        begun = await services.replays.begin("flights", EARLIEST, LATEST, ("topic", "copies"), text=None, rate=1.0)
        await asyncio.sleep(0.01)
        cancelled = await services.operations.cancel(begun.id)
        assert cancelled.state == "cancelled"
        await engine.trim(TopicPartition("flights", 0), 6)
        services.operations._known[begun.id] = msgspec.structs.replace(cancelled, rate=None)
        await services.operations.resume(begun.id)
        done = await ended(services, begun)
        assert done.replay is not None
        assert done.done + done.replay.missed == 10
        assert [int(one.value or b"") for one in await everything(engine, "copies")][-4:] == [6, 7, 8, 9]


@pytest.mark.asyncio
async def test_while_it_runs_nothing_it_still_reads_is_deleted() -> None:
    async with broker(gap=0) as (engine, services):
        await fill(engine, 10, 1)
        await engine.create_topic("copies", 1, {})
        begun = await services.replays.begin("flights", EARLIEST, LATEST, ("topic", "copies"), text=None, rate=1.0)
        await asyncio.sleep(0.01)
        holds = engine._logs[TopicPartition("flights", 0)].holds
        assert list(holds) == [f"replay source {begun.id}"]
        await services.operations.cancel(begun.id)
        assert holds == {}
        assert engine._logs[TopicPartition("copies", 0)].holds == {}
