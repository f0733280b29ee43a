"""Copies that fail or whose outcome nobody knows, on an engine that leaves gaps and can be told to fail."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from logbroker.broker.services import services_on
from logbroker.clock import ManualClock
from logbroker.config import BrokerConfig
from logbroker.errors import AppendUnknown, LeaseLost, StorageError
from logbroker.model import TopicPartition
from logbroker.queues.dispatcher.peeking import Cursor
from logbroker.queues.peeks import MessageState
from tests.engine.fake import FakeEngine
from tests.queues.shell import Shell, settled, texts

pytestmark = pytest.mark.asyncio

DEAD, RETRY = TopicPartition("jobs.dlq", 0), TopicPartition("jobs.retry", 0)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(ManualClock())


@pytest_asyncio.fixture
async def shell(engine: FakeEngine) -> AsyncIterator[Shell]:
    clock = engine._clock
    assert isinstance(clock, ManualClock)
    services = services_on(engine, clock, BrokerConfig(), "cluster")
    yield Shell(services, clock)
    await services.queues.stop()


async def dead(shell: Shell) -> list[bytes | None]:
    page = await shell.queue.peek.page(MessageState.DEAD, Cursor(), 10)
    return [letter.record.value for letter in page.items]


async def test_t18_a_dead_letter_that_cannot_be_written_is_held_and_tried_again(shell: Shell, engine: FakeEngine) -> None:
    await shell.create()
    await shell.send("x")
    received = await shell.one()
    engine.fail_next_append(StorageError("no room"), DEAD)
    assert isinstance(await shell.reject(received), StorageError)
    assert await dead(shell) == []
    assert await shell.receive() == []
    [outcome] = await shell.ack(received)
    assert isinstance(outcome, LeaseLost)  # it is moving: nothing touches it
    await shell.advance(1_000)
    assert await dead(shell) == [b"x"]
    assert await shell.receive() == []


async def test_a_copy_of_which_nobody_knows_is_looked_for_and_made_once(shell: Shell, engine: FakeEngine) -> None:
    await shell.create(retry={"policy": "none"})
    await shell.send("x")
    engine.fail_next_append(AppendUnknown(), RETRY)
    assert await shell.nack(await shell.one()) is None
    await settled()
    assert texts(await shell.receive(5)) == ["x"]
    assert [count for where, count in engine.appends if where == RETRY] == [1]


async def test_a_redrive_that_fails_leaves_the_letter_where_it_is(shell: Shell, engine: FakeEngine) -> None:
    await shell.create()
    [sent] = await shell.send("x")
    await shell.reject(await shell.one())
    await shell.send("y", due_ms=shell.clock.now().wall_ms + 5)
    engine.fail_next_append(StorageError("no room"), RETRY)
    with pytest.raises(StorageError):
        await shell.queue.letters.redrive_one(sent.id, None)
    assert await dead(shell) == [b"x"]
    await shell.queue.letters.redrive_one(sent.id, None)
    assert await dead(shell) == []


async def test_t23_gaps_in_the_log_are_no_messages(shell: Shell) -> None:
    await shell.create()
    for text in "abc":
        await shell.send(text)
    received = await shell.receive(10)
    assert texts(received) == ["a", "b", "c"]
    await shell.ack(*received)
    assert await shell.queue.size.counts() == (0, 0, 0, 0, 0, 0)


async def test_messages_that_fail_together_are_copied_together_and_refused_alone(shell: Shell, engine: FakeEngine) -> None:
    await shell.create()
    await shell.send(*"abcdef")
    received = await shell.receive(6)
    assert await shell.queue.settle.reject([(one.receipt, "bad") for one in received[:3]]) == [None] * 3
    assert [count for where, count in engine.appends if where == DEAD] == [3]
    engine.fail_next_append(StorageError("one of them is too much"), DEAD)
    assert await shell.queue.settle.reject([(one.receipt, "bad") for one in received[3:]]) == [None] * 3
    assert [count for where, count in engine.appends if where == DEAD] == [3, 1, 1, 1]
    assert await dead(shell) == [b"a", b"b", b"c", b"d", b"e", b"f"]


async def test_a_group_of_copies_of_which_nobody_knows_is_looked_for_as_a_whole(shell: Shell, engine: FakeEngine) -> None:
    await shell.create()
    engine.fail_next_append(AppendUnknown(), RETRY)
    sent = await shell.send(*["same"] * 4, due_ms=shell.clock.now().wall_ms + 5)
    assert len({one.id for one in sent}) == 4
    assert [count for where, count in engine.appends if where == RETRY] == [4]
    await shell.advance(5)
    assert texts(await shell.receive(9)) == ["same"] * 4
