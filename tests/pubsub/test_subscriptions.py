"""Subscriptions: many readers of one topic, each with its own place, attempts and dead letters."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from logbroker.broker.positions import EARLIEST, LATEST, AtOffset, AtTime
from logbroker.clock import ManualClock
from logbroker.config import DAY_MS
from logbroker.errors import (
    ConfigConflict,
    FilterInvalid,
    InvalidConfig,
    InvalidOffset,
    PartitionDamaged,
    SubscriptionNotFound,
    TopicInUse,
    TopicReserved,
    UnknownTopicOrPartition,
)
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import Header, TopicPartition
from logbroker.pubsub.settings import SubscriptionSettings
from logbroker.queues.dispatcher.peeking import Cursor
from logbroker.queues.peeks import MessageState
from logbroker.queues.settings import QueueSettings
from tests.pubsub.shell import Reader, reading
from tests.queues.shell import Shell, settled, texts

pytestmark = pytest.mark.asyncio

NEWS = TopicPartition("news", 0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def reader(clock: ManualClock) -> AsyncIterator[Reader]:
    async with reading(MemoryFiles(), clock) as reader:
        yield reader


async def test_each_subscription_gets_every_record_and_has_its_own_place(reader: Reader) -> None:
    await reader.publish("a", "b", "c")
    other = reader.other("billing")
    await reader.subscribe()
    await other.subscribe()
    assert await reader.take() == ["a", "b", "c"]
    assert texts(await other.receive(2)) == ["a", "b"]
    await reader.publish("d")
    assert (await reader.take(), texts(await other.receive(9))) == (["d"], ["c", "d"])


async def test_a_subscription_starts_where_it_is_told(reader: Reader, clock: ManualClock) -> None:
    await reader.publish("a", timestamp_ms=1_000)
    await reader.publish("b", timestamp_ms=3_000)
    await reader.publish("c", timestamp_ms=2_000)
    for name, start, expected in (
        ("all", EARLIEST, ["a", "b", "c"]),
        ("new", LATEST, []),
        ("from-offset", AtOffset(2), ["c"]),
        ("from-offsets", {0: 1}, ["b", "c"]),
        ("from-time", AtTime(2_000), ["b", "c"]),  # all from the first offset that reaches it, c too
        ("from-the-future", AtTime(9_000), []),
    ):
        one = reader.other(name)
        await one.subscribe(start)
        assert await one.take() == expected, name


async def test_an_offset_beyond_the_end_is_refused_and_nothing_is_made(reader: Reader) -> None:
    await reader.publish("a")
    with pytest.raises(InvalidOffset, match="ends at 1"):
        await reader.subscribe(AtOffset(2))
    with pytest.raises(SubscriptionNotFound):
        _ = reader.queue


async def test_a_subscription_over_the_topic_of_a_queue_takes_nothing_from_it(reader: Reader, clock: ManualClock) -> None:
    jobs = Shell(reader.services, clock, "jobs")
    await jobs.create()
    await reader.subscribe(topic="jobs")
    await jobs.send("x", ttl_ms=1_000)
    clock.advance(2_000)
    assert await reader.take() == ["x"]  # the time to live is the queue's business
    assert await jobs.receive(1) == []


async def test_failures_are_retried_then_dead_letters_of_the_subscription_alone(reader: Reader) -> None:
    await reader.publish("bad")
    other = reader.other("billing")
    await reader.subscribe(max_attempts=2, retry={"policy": "fixed", "initial_ms": 100, "jitter": 0})
    await other.subscribe()
    assert {"audit.retry", "audit.dlq"}.isdisjoint(info.name for info in reader.services.engine.topics())
    await reader.nack(await reader.one())
    await reader.advance(100)
    again = await reader.one()
    assert (again.failures, again.deliveries, again.offset) == (1, 2, 0)
    await reader.nack(again, error="still bad")
    await settled()
    assert (await reader.queue.size.counts()).dead == 1
    topics = {info.name: info.owner for info in reader.services.engine.topics()}
    assert topics["audit.dlq"] == topics["audit.retry"] == "subscription:audit"
    assert await other.take() == ["bad"]
    [letter] = (await reader.queue.peek.page(MessageState.DEAD, Cursor(), 10)).items
    await reader.queue.letters.redrive_one(letter.id, None)
    assert await reader.take() == ["bad"]
    assert await other.take() == []


async def test_a_lease_ends_after_the_ack_deadline(reader: Reader) -> None:
    await reader.publish("a")
    await reader.subscribe(ack_deadline_ms=5_000, retry={"policy": "none"})
    await reader.one()
    await reader.advance(4_999)
    assert await reader.receive() == []
    await reader.advance(2)
    assert texts(await reader.receive()) == ["a"]


async def test_messages_of_a_key_come_one_after_the_other(reader: Reader) -> None:
    await reader.publish("1", "2", key=b"k")
    await reader.publish("3")
    await reader.subscribe(ordering="key")
    first, third = await reader.receive(9)
    assert texts([first, third]) == ["1", "3"]
    await reader.ack(first)
    assert texts(await reader.receive(9)) == ["2"]


async def test_everything_is_there_after_a_restart(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with reading(files, clock) as reader:
        await reader.publish("a", "b", "c", "d")
        await reader.subscribe()
        held, done = await reader.receive(2)
        await reader.ack(done)
    async with reading(files, clock) as reader:
        assert reader.queue.definition.config == SubscriptionSettings(topic="news")
        assert await reader.ack(held) == [None]
        assert await reader.take() == ["c", "d"]


# -- names and topics --------------------------------------------------------------------------------------------------


async def test_queues_and_subscriptions_share_one_name_space(reader: Reader) -> None:
    await reader.publish("a")
    await reader.subscribe()
    with pytest.raises(ConfigConflict, match="there is a subscription 'audit'"):
        await reader.services.queues.ensure("audit", QueueSettings())
    await reader.services.queues.ensure("jobs", QueueSettings())
    with pytest.raises(ConfigConflict, match="there is a queue 'jobs'"):
        await reader.other("jobs").subscribe()


async def test_a_topic_that_is_subscribed_to_is_not_deleted(reader: Reader) -> None:
    await reader.publish("a")
    await reader.subscribe()
    topics, queues = reader.services.topics, reader.services.queues
    with pytest.raises(TopicInUse, match="subscription 'audit'"):
        await topics.delete("news")
    await queues.ensure("jobs", QueueSettings())
    await reader.other("jobs-audit").subscribe(topic="jobs")
    with pytest.raises(TopicInUse, match="subscription 'jobs-audit'"):
        await queues.delete("jobs")
    await queues.delete("jobs", keep_topic=True)
    await reader.services.subscriptions.delete("audit")
    await topics.delete("news")
    assert [info.name for info in reader.services.topics.list()] == ["jobs"]


async def test_a_deleted_subscription_leaves_nothing_behind(reader: Reader) -> None:
    await reader.publish("a")
    await reader.subscribe(max_attempts=1)
    await reader.nack(await reader.one())
    await settled()
    await reader.services.subscriptions.delete("audit")
    assert [info.name for info in reader.services.engine.topics()] == ["news"]
    assert reader.services.engine.definitions() == {}
    assert await reader.services.engine.trim(NEWS, 1) == 1  # nothing holds it
    with pytest.raises(SubscriptionNotFound):
        await reader.services.subscriptions.delete("audit")


async def test_dead_letters_can_be_subscribed_to_but_not_in_a_circle(reader: Reader) -> None:
    await reader.publish("bad")
    await reader.subscribe(max_attempts=1)
    await reader.nack(await reader.one())
    await settled()
    alarm = reader.other("alarm")
    await alarm.subscribe(topic="audit.dlq")
    assert texts(await alarm.receive(9)) == ["bad"]
    with pytest.raises(InvalidConfig, match="its own failures"):
        await reader.other("x").subscribe(topic="x.dlq")
    with pytest.raises(TopicInUse, match="alarm"):
        await reader.services.subscriptions.delete("audit")


async def test_what_cannot_be_subscribed_to_is_refused(reader: Reader) -> None:
    with pytest.raises(UnknownTopicOrPartition):
        await reader.subscribe()
    await reader.publish("a")
    await reader.subscribe()
    journal = reader.queue.definition.journal.topic
    with pytest.raises(TopicReserved):
        await reader.other("spy").subscribe(topic=journal)
    with pytest.raises(TopicReserved):
        await reader.other("audit.retry").subscribe()


async def test_a_declaration_is_idempotent_and_a_different_one_is_refused(reader: Reader) -> None:
    await reader.publish("a")
    one = await reader.subscribe()
    assert await reader.subscribe(LATEST) is one
    with pytest.raises(ConfigConflict):
        await reader.subscribe(max_attempts=9)
    await reader.alter(max_attempts=9)
    assert one.definition.config.max_attempts == 9
    for changes in ({"topic": "other"}, {"ordering": "key"}):
        with pytest.raises(ConfigConflict, match="make another"):
            await reader.alter(**changes)
    for wrong in (
        {"ack_deadline_ms": 99},
        {"retain_unacked_ms": 1},
        {"max_attempts": 0},
        {"retry": {"factor": 0}},
        {"x": 1},
    ):
        with pytest.raises(InvalidConfig, match=next(iter(wrong))):
            await reader.alter(**wrong)


async def test_a_topic_that_grows_is_read_to_its_new_partitions(reader: Reader) -> None:
    await reader.publish("a")
    await reader.subscribe(LATEST)
    await reader.services.topics.alter("news", 2, {})
    await reader.publish("b", partition=1)
    await reader.queue._look_after()
    assert reader.queue._heard.is_set()
    await reader.queue._upkeep.let_go()
    with pytest.raises(InvalidOffset, match="still needed"):
        await reader.services.engine.trim(TopicPartition("news", 1), 1)
    assert await reader.take() == ["b"]


# -- what is kept ------------------------------------------------------------------------------------------------------


async def test_what_is_not_done_is_kept_from_deletion(reader: Reader) -> None:
    await reader.publish("a", "b", "c")
    await reader.subscribe()
    await reader.ack(await reader.one())
    await reader.queue._upkeep.let_go()
    with pytest.raises(InvalidOffset, match="still needed"):
        await reader.services.engine.trim(NEWS, 2)
    assert await reader.services.engine.trim(NEWS, 1) == 1


async def test_what_nobody_takes_is_dropped_after_a_time_counted_and_told(
    reader: Reader, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await reader.publish("old", timestamp_ms=5)  # an old time stamp is no age: it was appended now
    await reader.subscribe()
    await reader.queue._look_after()
    clock.advance(4 * DAY_MS)
    await reader.publish("held", "newer")
    await reader.queue._look_after()
    assert texts(await reader.receive(1)) == ["old"]
    old = await reader.receive(1, lease_ms=6 * DAY_MS)
    assert texts(old) == ["held"]
    clock.advance(3 * DAY_MS - 1)
    await reader.queue._look_after()
    assert reader.queue.tally.totals["expired_unacked"] == 0
    clock.advance(5 * DAY_MS)
    await reader.queue._look_after()
    assert reader.queue.tally.totals["expired_unacked"] == 1  # newer; the others are held, or failed and wait
    assert "dropped" in caplog.text
    assert (await reader.queue.progress())[0].frontier == 0
    await reader.ack(*old)


async def test_headers_and_keys_come_as_they_are(reader: Reader) -> None:
    await reader.publish("a", key=b"k", headers=(Header("h", b"1"),))
    await reader.subscribe()
    received = await reader.one()
    assert (received.key, received.headers) == (b"k", (Header("h", b"1"),))


async def test_a_subscription_that_cannot_be_loaded_keeps_its_records_and_answers_so(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with reading(files, clock) as reader:
        await reader.publish("a", "b")
        await reader.subscribe()
        await reader.one()
        topic_id = reader.services.engine.topic(reader.queue.definition.journal.topic).id
    file = files.open(f"topics/{topic_id}/0/{0:020d}.log")
    file.pwrite(b"\xff" * 8, 20)
    file.close()
    async with reading(files, clock) as reader:
        with pytest.raises(PartitionDamaged):
            _ = reader.queue
        with pytest.raises(InvalidOffset, match="still needed"):
            await reader.services.engine.trim(NEWS, 1)
        with pytest.raises(TopicInUse):
            await reader.services.topics.delete("news")
        await reader.services.subscriptions.delete("audit")
        assert await reader.services.engine.trim(NEWS, 1) == 1
        await reader.subscribe()
        assert await reader.take() == ["b"]


async def test_a_filter_that_is_not_accepted_any_more_is_told_and_keeps_nobody_else(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = MemoryFiles()
    async with reading(files, clock) as reader:
        await reader.publish("a")
        await reader.subscribe(filter='value == "a"')
        await reader.other("other").subscribe()

    def refuse(text: str) -> None:
        raise FilterInvalid("an older version took it")

    monkeypatch.setattr("logbroker.pubsub.filtering.compile_filter", refuse)
    async with reading(files, clock) as reader:
        with pytest.raises(FilterInvalid):
            _ = reader.queue
        assert await reader.other("other").take() == ["a"]
