"""The dispatcher over a real engine: restarts, wake-ups, priorities, bounds, and the traps only a shell can show."""

import asyncio
import logging
from collections.abc import AsyncIterator

import crc32c
import pytest
import pytest_asyncio

from logbroker.broker.operations import Selection
from logbroker.clock import ManualClock
from logbroker.errors import (
    InvalidRequest,
    PartitionDamaged,
    QueueFull,
    StorageError,
)
from logbroker.log.files.crashes import flushed_only
from logbroker.log.files.faults import FaultFiles
from logbroker.log.files.memory import MemoryFiles
from logbroker.model import Header, Record, TopicPartition
from logbroker.queues.dispatcher.peeking import Cursor
from logbroker.queues.peeks import MessageState
from logbroker.records.codec import encode
from tests.queues.shell import Shell, running, settled, texts, waiting

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


# -- restarts --------------------------------------------------------------------------------------------------------------


async def test_leases_retries_delays_and_dead_letters_survive_a_restart(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with running(files, clock) as shell:
        await shell.create(max_attempts=5)
        await shell.send("held", "acked", "failed", "dead")
        held, acked, failed, dead = await shell.receive(4, lease_ms=10_000)
        await shell.ack(acked)
        await shell.nack(failed, HOUR, "oops")
        await shell.reject(dead)
        await shell.send("delayed", due_ms=clock.now().wall_ms + HOUR)
    async with running(files, clock) as shell:
        assert await shell.queue.size.counts() == (0, 1, 1, 1, 1, 0)
        assert await shell.receive(10) == []
        assert await shell.ack(held) == [None]
        await shell.advance(HOUR)
        again = await shell.receive(10)
        assert sorted(texts(again)) == ["delayed", "failed"]
        assert {one.failures for one in again} == {0, 1}


async def test_t5_down_time_does_not_run_against_a_lease(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with running(files, clock) as shell:
        await shell.create()
        await shell.send("x")
        held = await shell.one(lease_ms=10_000)
    clock.advance(HOUR)
    async with running(files, clock) as shell:
        await shell.advance(9_999)
        assert await shell.ack(held) == [None]


async def test_a_redrive_that_was_stopped_goes_on_after_a_restart(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with running(files, clock) as shell:
        await shell.create()
        await shell.send(*map(str, range(120)))
        for received in await shell.receive(120):
            await shell.reject(received)
        begun = await shell.services.letter_jobs.begin("redrive", "jobs", Selection())
    async with running(files, clock) as shell:
        async with asyncio.timeout(10):
            while (operation := shell.services.operations.get(begun.id)).state == "running":
                await settled()
        assert operation.state == "done"
        assert sorted(map(int, texts(await shell.receive(500)))) == list(range(120))


# -- waiting ---------------------------------------------------------------------------------------------------------------


async def test_t37_a_long_poll_wakes_on_new_due_released_expired_and_purged(shell: Shell) -> None:
    await shell.create(retry={"policy": "none"})
    poll = await waiting(shell)
    await shell.send("new")
    assert await asyncio.wait_for(poll, 2) == ["new"]

    poll = await waiting(shell)
    await shell.advance(30_000)
    assert await asyncio.wait_for(poll, 2) == ["new"]  # its lease has expired

    [held] = list(shell.queue.partitions[0].machine.leases())
    assert held.grant.failures == 1
    await shell.queue.purge()
    await shell.send("released")
    received = await shell.one()
    poll = await waiting(shell)
    await shell.queue.settle.release([received.receipt])
    assert await asyncio.wait_for(poll, 2) == ["released"]

    await shell.queue.purge()
    await shell.send("due", due_ms=shell.clock.now().wall_ms + 5_000)
    poll = await waiting(shell)
    await shell.advance(5_000)
    assert await asyncio.wait_for(poll, 2) == ["due"]


async def test_t37_a_purge_frees_the_key_and_the_in_flight_cap_for_who_waits(shell: Shell) -> None:
    await shell.create(ordering="key", max_in_flight=1)
    await shell.send("a", "b", key="k")
    await shell.one()
    poll = await waiting(shell)
    await shell.queue.purge()
    await shell.send("c", key="k")
    assert await asyncio.wait_for(poll, 2) == ["c"]


async def test_an_ack_wakes_who_waits_for_the_next_of_a_key(shell: Shell) -> None:
    await shell.create(ordering="key")
    await shell.send("1", "2", key="k")
    first = await shell.one()
    poll = await waiting(shell)
    await shell.ack(first)
    assert await asyncio.wait_for(poll, 2) == ["2"]


async def test_many_who_wait_get_one_message_each(shell: Shell) -> None:
    await shell.create(partitions=3)
    polls = [await waiting(shell) for _ in range(20)]
    await shell.send(*map(str, range(20)))
    got = [text for poll in polls for text in await asyncio.wait_for(poll, 5)]
    assert sorted(map(int, got)) == list(range(20))


async def test_t6_who_leaves_while_waiting_or_receiving_holds_nothing(shell: Shell) -> None:
    await shell.create()
    held = 0
    for turns in range(60):
        poll = asyncio.create_task(shell.receive(1, 20_000))
        sending = asyncio.create_task(shell.send("x"))
        for _ in range(turns):
            await asyncio.sleep(0)
        poll.cancel()
        await asyncio.gather(poll, sending, return_exceptions=True)
        held += 0 if poll.cancelled() else len(poll.result())
    await settled()
    counts = await shell.queue.size.counts()
    assert counts.in_flight == held
    assert counts.ready == 60 - held


async def test_t6_a_receive_that_is_repeated_gives_the_same_leases(shell: Shell) -> None:
    await shell.create()
    await shell.send("a", "b")
    first = await shell.receive(1, attempt_id="try")
    again = await shell.receive(1, attempt_id="try")
    assert [one.receipt for one in again] == [one.receipt for one in first]
    await shell.ack(*first)
    assert texts(await shell.receive(1, attempt_id="try")) == ["b"]


# -- bounds ----------------------------------------------------------------------------------------------------------------


async def test_a_full_queue_takes_no_more_until_something_is_done(shell: Shell) -> None:
    await shell.create(max_size=2)
    await shell.send("a", "b")
    with pytest.raises(QueueFull):
        await shell.send("c")
    await shell.ack(await shell.one())
    await shell.send("c")


async def test_expired_messages_leave_a_full_queue_before_it_says_so(shell: Shell) -> None:
    await shell.create(max_size=2, message_ttl_ms=1_000)
    await shell.send("a", "b")
    shell.clock.advance(1_000)
    await shell.send("c", "d")
    assert texts(await shell.receive(5)) == ["c", "d"]
    page = await shell.queue.peek.page(MessageState.DEAD, Cursor(), 10)
    assert {letter.reason for letter in page.items} == {"expired"}


async def test_t13_waiting_retries_do_not_fill_the_in_flight_cap(shell: Shell) -> None:
    await shell.create(max_in_flight=2)
    await shell.send(*"abcd")
    for received in await shell.receive(2):
        await shell.nack(received, HOUR)
    held = await shell.receive(4, lease_ms=2 * HOUR)
    assert texts(held) == ["c", "d"]
    await shell.send("e")
    assert await shell.receive(4) == []
    await shell.advance(HOUR)
    assert sorted(texts(await shell.receive(4))) == ["a", "b"]  # what comes back is served above the cap


async def test_t16_a_message_on_its_last_attempt_is_delivered_alone_over_all_partitions(shell: Shell) -> None:
    await shell.create(partitions=4, max_attempts=2, retry={"policy": "none"})
    for _ in range(4):  # each time another partition comes first
        await shell.send("bad")
        await shell.nack(await shell.one())
        await shell.send(*"abcdefgh")
        batches = []
        while received := await shell.receive(3):
            batches.append(texts(received))
            await shell.ack(*received)
        assert ["bad"] in batches
        assert sorted("".join(text) for batch in batches for text in batch if text != "bad") == list("abcdefgh")
        await shell.receive()


# -- order -----------------------------------------------------------------------------------------------------------------


async def test_t34_strict_priorities_come_first_and_a_retry_keeps_its_own(shell: Shell) -> None:
    await shell.create(priorities=3, retry={"policy": "none"})
    await shell.send("low", priority=0)
    await shell.send("high", priority=2)
    first = await shell.one()
    assert (first.value, first.priority) == (b"high", 2)
    await shell.nack(first)
    await settled()
    assert texts(await shell.receive(2)) == ["high", "low"]
    with pytest.raises(InvalidRequest):
        await shell.send("x", priority=3)


async def test_weighted_priorities_starve_nobody(shell: Shell) -> None:
    await shell.create(priorities=2, priority_mode="weighted")
    await shell.send(*["low"] * 30, priority=0)
    await shell.send(*["high"] * 30, priority=1)
    got = [(await shell.one()).value for _ in range(30)]
    assert got.count(b"low") == 10


async def test_t33_a_delayed_message_of_a_key_holds_nobody_back(shell: Shell) -> None:
    await shell.create(ordering="key")
    await shell.send("later", key="k", due_ms=shell.clock.now().wall_ms + HOUR)
    await shell.send("now", key="k")
    assert texts(await shell.receive(5)) == ["now"]


async def test_t10_a_long_delay_does_not_block_short_ones(shell: Shell) -> None:
    await shell.create()
    now = shell.clock.now().wall_ms
    await shell.send("hour", due_ms=now + HOUR)
    await shell.send(*["second"] * 500, due_ms=now + 1_000)
    await shell.advance(1_000)
    assert texts(await shell.receive(1_000)) == ["second"] * 500


# -- deduplication ---------------------------------------------------------------------------------------------------------


async def test_t31_a_repeated_send_gets_the_first_offset_also_after_consumption_and_restart(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with running(files, clock) as shell:
        await shell.create(dedup_window_ms=HOUR)
        await shell.send("other")
        [first] = await shell.send("x", dedup_id="one")
        [later] = await shell.send("y", dedup_id="two", due_ms=clock.now().wall_ms + 5_000)
        await shell.ack(*await shell.receive(5))
    async with running(files, clock) as shell:
        assert await shell.send("x", dedup_id="one") == [first._replace(duplicate=True)]
        assert await shell.send("y", dedup_id="two") == [later._replace(duplicate=True)]
        assert await shell.receive(5) == []
        await shell.advance(HOUR)
        [anew] = await shell.send("x", dedup_id="one")
        assert not anew.duplicate


async def test_t32_concurrent_sends_of_one_id_and_repeats_within_a_batch_are_one_message(shell: Shell) -> None:
    await shell.create()
    sent = await asyncio.gather(*(shell.send("x", "x", dedup_id="same") for _ in range(10)))
    assert len({one.id for batch in sent for one in batch}) == 1
    assert sum(not one.duplicate for batch in sent for one in batch) == 1
    assert len(await shell.receive(50)) == 1


async def test_t20_a_redriven_message_is_not_swallowed_by_the_window(shell: Shell) -> None:
    await shell.create()
    [sent] = await shell.send("x", dedup_id="one")
    await shell.reject(await shell.one())
    await shell.queue.letters.redrive_one(sent.id, None)
    again = await shell.one()
    assert (again.id, again.failures) == (sent.id, 0)


# -- the log below ---------------------------------------------------------------------------------------------------------


async def test_t21_retention_never_deletes_what_is_not_done(shell: Shell) -> None:
    engine = shell.services.engine
    await engine.create_topic("jobs", 1, {"retention_ms": 1_000, "segment_bytes": 200})
    await shell.create(dedup_window_ms=1_000)
    await shell.send(*map(str, range(20)))
    shell.clock.advance(HOUR)
    await engine.maintain()  # type: ignore[attr-defined]  # the embedded engine's own
    received = await shell.receive(50)
    assert len(received) == 20
    await shell.ack(*received)


async def test_t21_records_that_are_gone_anyway_are_passed_over_and_never_empty(shell: Shell) -> None:
    await shell.create()
    await shell.send("gone", "here")
    shell.services.engine.hold(JOBS, "queue:jobs", None)
    await shell.services.engine.trim(JOBS, 1)
    assert texts(await shell.receive(5)) == ["here"]
    assert (await shell.queue.size.counts()).ready == 0


@pytest.mark.parametrize("durability", ["interval", "os"])
async def test_only_flushed_records_are_handed_out_in_every_durability(clock: ManualClock, durability: str) -> None:
    files = FaultFiles()
    async with running(files, clock) as shell:
        await shell.services.engine.create_topic("jobs", 1, {"durability": durability})
        await shell.create()
        await shell.send("x")
        held = await shell.one()
        await shell.ack(held)
        crashed = flushed_only(files.operations)
    async with running(crashed, clock) as shell:
        assert (await shell.services.engine.bounds(JOBS)).high_watermark == 1
        await shell.send("y")
        assert texts(await shell.receive(5)) == ["y"]


async def test_reserved_headers_are_believed_in_copy_topics_only(shell: Shell) -> None:
    await shell.create()
    await shell.send("x", headers=[Header("lb-failures", b"9"), Header("own", b"1")])
    received = await shell.one()
    assert received.failures == 0
    await shell.nack(received, 0)
    again = await shell.one()
    assert (again.failures, again.headers) == (1, (Header("own", b"1"),))


async def test_a_malformed_batch_that_is_whole_does_not_stop_a_queue(shell: Shell) -> None:
    await shell.create()
    await shell.send("before")
    raw = shell.services.engine.raw
    assert raw is not None
    raw.append(JOBS, malformed_batch())
    await shell.send("after")
    assert texts(await shell.receive(5)) == ["before", "after"]
    assert shell.queue.partitions[0].unreadable == 1
    assert await shell.queue.size.counts() == (0, 2, 0, 0, 0, 0)


def malformed_batch() -> bytes:
    """A batch with a valid checksum whose record says that it is longer than it is."""
    batch = bytearray(encode([Record(b"poison")], now_ms=1_700_000_000_000))
    batch[61] = 0x7E
    batch[17:21] = crc32c.crc32c(bytes(batch[21:])).to_bytes(4, "big")
    return bytes(batch)


async def test_kafka_producers_may_not_scatter_priorities_unless_told(shell: Shell) -> None:
    await shell.create(priorities=2)
    queues = shell.services.queues
    assert queues.kafka_refusal("jobs") is not None
    assert queues.kafka_refusal("other") is None
    await queues.alter("jobs", {"kafka_produce": "by_partition"})
    assert queues.kafka_refusal("jobs") is None


async def test_t25_what_nobody_receives_expires_by_the_clock_too(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logbroker.queues.dispatcher.dispatcher.UPKEEP_S", 0.005)
    await shell.create()
    await shell.send("brief", ttl_ms=1_000)
    await shell.send("lasting")
    await settled()
    await shell.advance(1_000)
    await settled()
    assert await shell.queue.size.counts() == (1, 0, 0, 0, 1, 0)


async def test_a_queue_whose_journal_is_damaged_answers_so_and_can_be_deleted(clock: ManualClock) -> None:
    files = MemoryFiles()
    async with running(files, clock) as shell:
        await shell.create()
        await shell.send("x")
        await shell.one()
        await Shell(shell.services, clock, "other").create()
        journal = shell.queue.definition.journal
        topic_id = shell.services.engine.topic(journal.topic).id
    path = f"topics/{topic_id}/0/{0:020d}.log"
    file = files.open(path)
    file.pwrite(b"\xff" * 8, 20)
    file.close()
    async with running(files, clock) as shell:
        with pytest.raises(PartitionDamaged):
            shell.services.queues.get("jobs")
        assert shell.services.queues.get("other") is not None
        await shell.services.queues.delete("jobs")
        await shell.create()


async def test_finished_retries_are_trimmed_but_not_what_a_repeated_send_may_ask_for(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logbroker.queues.dispatcher.dispatcher.UPKEEP_S", 0.005)
    monkeypatch.setattr("logbroker.queues.dispatcher.upkeep.WORTH_TRIMMING", 10)
    retry = TopicPartition("jobs.retry", 0)
    await shell.create(dedup_window_ms=HOUR)

    async def fail_and_ack(count: int) -> None:
        await shell.send(*["x"] * count)
        for received in await shell.receive(count):
            await shell.nack(received, 0)
        await shell.ack(*await shell.receive(count))

    async def trimmed_beyond(offset: int) -> None:
        async with asyncio.timeout(5):
            while (await shell.services.engine.bounds(retry)).log_start_offset < offset:
                await settled()

    await fail_and_ack(30)
    await trimmed_beyond(21)
    [kept] = await shell.send("y", dedup_id="one", due_ms=shell.clock.now().wall_ms + 1)
    await shell.advance(1)
    await shell.ack(*await shell.receive(5))
    await fail_and_ack(30)
    for _ in range(10):
        await settled()
    assert (await shell.services.engine.bounds(retry)).log_start_offset <= kept.id.first.offset == 30
    await shell.advance(HOUR)
    await fail_and_ack(1)
    await trimmed_beyond(kept.id.first.offset + 1)


async def test_the_largest_message_becomes_a_dead_letter_also_after_the_topic_takes_larger_ones(shell: Shell) -> None:
    await shell.create()
    error = "e" * 10_000
    for size in (1_048_000, 2_000_000):
        await shell.services.topics.alter("jobs", None, {"max_message_bytes": size + 500})
        await shell.send("x" * size, "y" * size)
        for received in await shell.receive(2):
            assert await shell.reject(received, error) is None
    letters = (await shell.queue.peek.page(MessageState.DEAD, Cursor(), 10)).items
    assert sorted(len(letter.record.value or b"") for letter in letters) == [1_048_000] * 2 + [2_000_000] * 2
    assert {len(letter.last_error or "") for letter in letters} == {4_096}


async def test_the_counts_of_queues_are_logged_when_asked_for(shell: Shell, caplog: pytest.LogCaptureFixture) -> None:
    await shell.create()
    await shell.send("a", "b")
    caplog.set_level(logging.INFO)
    telling = asyncio.create_task(shell.services.queues.tell(0.001))
    await settled()
    telling.cancel()
    assert "queue jobs: ready 2, sent 2" in caplog.messages


async def test_a_deletion_that_cannot_be_written_leaves_the_queue_as_it_was(clock: ManualClock) -> None:
    files = FaultFiles()
    async with running(files, clock) as shell:
        await shell.create()
        await shell.send("x")
        held = await shell.one()
        files.fail_next("rename", OSError(28, "no space left"))
        with pytest.raises(StorageError):
            await shell.services.queues.delete("jobs")
        assert await shell.ack(held) == [None]
        await shell.services.queues.delete("jobs")
        assert shell.services.engine.topics() == []
