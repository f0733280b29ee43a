"""The topics a queue stands on, and its life: attaching, growing, pausing, purging, deleting, declaring again."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from logbroker.broker.positions import EARLIEST, LATEST
from logbroker.clock import ManualClock
from logbroker.errors import (
    ConfigConflict,
    InvalidConfig,
    InvalidPartitions,
    LeaseLost,
    MessageNotFound,
    QueueNotFound,
    TopicInUse,
    TopicReserved,
)
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import Record, TopicPartition
from logbroker.queues.settings import QueueSettings
from tests.queues.shell import Shell, running, texts, waiting

pytestmark = pytest.mark.asyncio

HOUR = 3_600_000
JOBS = TopicPartition("jobs", 0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def shell(clock: ManualClock) -> AsyncIterator[Shell]:
    async with running(MemoryFiles(), clock) as shell:
        yield shell


async def test_a_queue_on_an_existing_topic_starts_where_it_is_told(shell: Shell) -> None:
    engine = shell.services.engine
    for name, start, expected in (("old", EARLIEST, ["1"]), ("jobs", LATEST, [])):
        await engine.create_topic(name, 1, {})
        await engine.append(TopicPartition(name, 0), [Record(b"1")])
        await shell.services.queues.ensure(name, QueueSettings(), start)
        assert texts(await Shell(shell.services, shell.clock, name).receive(5)) == expected


async def test_the_topics_of_a_queue_are_its_own(shell: Shell) -> None:
    await shell.create()
    await shell.send("x")
    await shell.reject(await shell.one())
    topics = shell.services.topics
    with pytest.raises(TopicInUse):
        await topics.delete("jobs")
    with pytest.raises(TopicInUse):
        await topics.alter("jobs", 5, {})
    for name in ("jobs.dlq", "jobs.retry"):
        with pytest.raises(TopicReserved):
            await shell.services.produce.produce(name, [Record(b"x")])
        with pytest.raises(TopicReserved):
            await topics.delete(name)
    await shell.services.queues.delete("jobs", keep_topic=True)
    assert [info.name for info in shell.services.engine.topics()] == ["jobs"]
    await topics.delete("jobs")


async def test_t38_receipts_and_ids_of_an_earlier_queue_of_the_name_fail(shell: Shell) -> None:
    await shell.create()
    [sent] = await shell.send("x")
    old = await shell.one()
    await shell.services.queues.delete("jobs")
    with pytest.raises(QueueNotFound):
        await shell.receive()
    await shell.create()
    await shell.send("y")
    await shell.one()
    [outcome] = await shell.ack(old)
    assert isinstance(outcome, LeaseLost)
    with pytest.raises(MessageNotFound):
        await shell.queue.cancel(sent.id)


async def test_t38_a_purge_takes_delayed_messages_and_leases_but_no_dead_letters(shell: Shell) -> None:
    await shell.create()
    await shell.send("dead", "held", "ready")
    await shell.reject(await shell.one())
    held = await shell.one()
    await shell.send("delayed", due_ms=shell.clock.now().wall_ms + HOUR)
    await shell.queue.purge()
    assert await shell.queue.size.counts() == (0, 0, 0, 0, 1, 0)
    [outcome] = await shell.ack(held)
    assert isinstance(outcome, LeaseLost)
    await shell.advance(HOUR)
    assert await shell.receive() == []


async def test_declaring_again_changes_nothing_and_differently_is_a_conflict(shell: Shell) -> None:
    await shell.create(max_size=5)
    await shell.create(max_size=5)
    with pytest.raises(ConfigConflict):
        await shell.create(max_size=6)
    await shell.services.queues.alter("jobs", {"max_size": 7, "retry": {"initial_ms": 5}})
    settings = shell.queue.definition.settings
    assert (settings.max_size, settings.retry.initial_ms, settings.retry.max_ms) == (7, 5, 60_000)
    with pytest.raises(ConfigConflict):
        await shell.services.queues.alter("jobs", {"ordering": "key"})
    with pytest.raises(InvalidConfig):
        await shell.services.queues.alter("jobs", {"visibility_timeout_ms": 43_200_001})
    await shell.services.queues.alter("jobs", {"partitions": 2})
    with pytest.raises(InvalidPartitions):
        await shell.services.queues.alter("jobs", {"partitions": 1})


async def test_a_queue_grows_and_serves_its_new_partitions(shell: Shell) -> None:
    await shell.create()
    await shell.send("x")
    await shell.nack(await shell.one(), HOUR)
    await shell.services.queues.alter("jobs", {"partitions": 4})
    await shell.send(*map(str, range(8)))
    received = await shell.receive(20)
    assert len({one.partition for one in received}) == 4
    for one in received:
        assert await shell.reject(one) is None
    assert shell.services.engine.topic("jobs.dlq").partitions == 4


async def test_a_paused_queue_takes_messages_and_gives_none_also_after_a_restart(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with running(files, clock) as shell:
        await shell.create()
        await shell.services.queues.set_paused("jobs", paused=True)
    async with running(files, clock) as shell:
        await shell.send("x")
        poll = await waiting(shell)
        await shell.services.queues.set_paused("jobs", paused=False)
        assert await asyncio.wait_for(poll, 2) == ["x"]
