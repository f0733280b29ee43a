"""Queues: the same calls give the same results and the same errors over every carrier."""

import pytest

from logbroker import AsyncClient, message
from logbroker.errors import (
    ConfigConflict,
    InvalidConfig,
    InvalidRequest,
    InvalidTopic,
    LeaseLost,
    LogbrokerError,
    MessageTooLarge,
    OperationNotFound,
    QueueFull,
    QueueNotFound,
)

pytestmark = pytest.mark.asyncio


async def test_a_queue_is_created_described_changed_listed_and_deleted(lb: AsyncClient) -> None:
    made = await lb.queues.create("emails", visibility_timeout="10s", retry={"policy": "list", "delays": ["1s", 2]})
    assert (made.name, made.paused, made.config["visibility_timeout_ms"]) == ("emails", False, 10_000)
    assert made.config["retry"]["delays_ms"] == [1_000, 2_000]
    assert made.counts.ready == 0
    assert await lb.queues.create("emails", visibility_timeout=10, retry={"policy": "list", "delays": ["1s", 2]}) == made
    with pytest.raises(ConfigConflict):
        await lb.queues.create("emails")
    assert await lb.queues.create("emails", if_not_exists=True) == made
    changed = await lb.queues.alter("emails", visibility_timeout=None, max_attempts=3)
    assert (changed.config["visibility_timeout_ms"], changed.config["max_attempts"]) == (30_000, 3)
    await lb.queues.create("payments")
    assert [one.name for one in await lb.queues.list()] == ["emails", "payments"]
    assert [one.name for one in await lb.queues.list("pay")] == ["payments"]
    await lb.queues.delete("emails", keep_topic=True)
    assert (await lb.topics.get("emails")).kind == "log"
    await lb.queues.delete("emails", missing_ok=True)


async def test_a_queue_over_a_topic_starts_where_it_is_told(lb: AsyncClient) -> None:
    await lb.topics.create("events")
    async with lb.producer("events") as producer:
        for number in range(3):
            await producer.send(str(number))
    await lb.queues.create("events", start={0: 1})
    async with lb.queue("events").receive(10) as batch:
        assert [one.text() for one in batch] == ["1", "2"]


async def test_what_is_wrong_with_a_queue_or_message_is_told_by_class(lb: AsyncClient) -> None:
    await lb.queues.create("small", max_size=1)
    await lb.queue("small").send("one")
    for kind, wrong in (
        (InvalidTopic, lb.queues.create("no/slash")),
        (InvalidConfig, lb.queues.create("odd", max_attempts=0)),
        (InvalidRequest, lb.queues.create("odd", colour="red")),
        (QueueNotFound, lb.queues.get("missing")),
        (QueueNotFound, lb.queues.delete("missing")),
        (QueueNotFound, lb.queue("missing").send("x")),
        (QueueNotFound, lb.queue("missing").lease()),
        (QueueNotFound, lb.queue("missing").stats()),
        (QueueNotFound, lb.queue("missing").dlq.redrive()),
        (QueueFull, lb.queue("small").send("two")),
        (MessageTooLarge, lb.queue("small").send(b"x" * 2_000_000)),
        (InvalidRequest, lb.queue("small").send("x", priority=3)),
        (InvalidRequest, lb.queue("small").send("x", delay=-1)),
        (InvalidRequest, lb.queue("small").send("x", dedup_id="x" * 200)),
        (InvalidRequest, lb.queue("small").lease(0)),
        (InvalidRequest, lb.queue("small").lease(visibility_timeout="1ms")),
        (OperationNotFound, lb.operations.get("op-7")),
    ):
        with pytest.raises(LogbrokerError) as raised:
            await wrong
        assert type(raised.value) is kind, raised.value
        assert raised.value.code == kind.code


async def test_a_message_is_received_with_all_it_was_sent_with(lb: AsyncClient) -> None:
    await lb.queues.create("emails", priorities=2)
    queue = lb.queue("emails")
    low = await queue.send({"to": "anna"}, key="k", headers={"type": "mail"}, priority=0)
    high = await queue.send("urgent", priority=1, ttl="1h")
    async with queue.receive(10, wait="1s", consumer="me") as batch:
        assert [one.id for one in batch] == [high.id, low.id]
        assert (batch[1].json(), batch[1].key, batch[1].headers["type"]) == ({"to": "anna"}, b"k", "mail")
        assert (batch[0].priority, batch[0].deliveries, batch[0].failures, batch[0].last_error) == (1, 1, 0, None)
        assert [one.consumer for one in await queue.consumers()] == ["me"]
    assert (await queue.stats()).totals["acked"] == 2
    async with queue.receive() as batch:
        assert len(batch) == 0


async def test_the_end_of_a_batch_acks_what_was_not_settled_otherwise(lb: AsyncClient) -> None:
    await lb.queues.create("emails", retry={"policy": "none"})
    queue = lb.queue("emails")
    await queue.send_many(message(str(number)) for number in range(6))
    async with queue.receive(6) as batch:
        done, failed, given_back, hopeless, delayed, _ = batch
        await done.ack()
        await failed.nack(error="no route")
        await given_back.release()
        await hopeless.reject("no such user")
        await delayed.nack(delay="1h")
    counts = (await queue.stats()).counts
    assert (counts.in_flight, counts.dead) == (0, 1)
    again = {one.text(): one for one in await queue.lease(6)}
    assert set(again) == {"1", "2"}
    assert (again["1"].failures, again["1"].last_error, again["2"].failures) == (1, "no route", 0)
    [dead] = await queue.dlq.list()
    assert (dead.text(), dead.reason, dead.last_error) == ("3", "rejected", "no such user")
    [waiting] = await queue.peek("retrying")
    assert waiting.text() == "4"


async def test_an_exception_nacks_what_was_not_settled_with_its_text(lb: AsyncClient) -> None:
    await lb.queues.create("emails", retry={"policy": "none"})
    queue = lb.queue("emails")
    await queue.send_many([message("a"), message("b")])
    with pytest.raises(ZeroDivisionError):
        async with queue.receive(2) as batch:
            await batch[0].ack()
            raise ZeroDivisionError("by nought")
    [again] = await queue.lease(2)
    assert (again.text(), again.failures, again.last_error) == ("b", 1, "ZeroDivisionError: by nought")


async def test_a_receipt_that_is_no_longer_good_is_refused(lb: AsyncClient) -> None:
    await lb.queues.create("emails")
    queue = lb.queue("emails")
    await queue.send("a")
    [held] = await queue.lease()
    before = held.receipt_expires_ms
    assert await held.extend("5m") == held.receipt_expires_ms > before
    await held.release()
    for settle in (held.ack, held.nack, held.release, held.reject):
        with pytest.raises(LeaseLost):
            await settle()
    with pytest.raises(LeaseLost):
        await held.extend("1m")


async def test_a_dedup_id_makes_a_repeated_send_the_same_message(lb: AsyncClient) -> None:
    await lb.queues.create("emails")
    queue = lb.queue("emails")
    first = await queue.send("a", dedup_id="welcome")
    again = await queue.send("a", dedup_id="welcome")
    assert (again.id, again.duplicate, first.duplicate) == (first.id, True, False)
    assert len(await queue.peek()) == 1


async def test_several_messages_of_which_some_are_refused_tell_the_outcome_of_each(lb: AsyncClient) -> None:
    await lb.queues.create("emails")
    with pytest.raises(InvalidRequest) as raised:
        await lb.queue("emails").send_many([message("a"), message("b", priority=5)])
    assert "priority" in raised.value.detail
    assert await lb.queue("emails").peek() == []


async def test_pause_purge_and_delay(lb: AsyncClient) -> None:
    await lb.queues.create("emails")
    queue = lb.queue("emails")
    await queue.send("now")
    later = await queue.send("later", delay="1d")
    assert later.offset is None
    [delayed] = await queue.peek("delayed")
    assert delayed.id == later.id
    await queue.pause()
    assert (await queue.stats()).paused
    assert len(await queue.lease()) == 0
    await queue.resume()
    assert len(await queue.lease()) == 1
    await queue.purge()
    counts = (await queue.stats()).counts
    assert (counts.ready, counts.in_flight, counts.delayed) == (0, 0, 0)


async def test_dead_letters_are_listed_counted_sent_back_and_dropped(lb: AsyncClient) -> None:
    await lb.queues.create("emails", max_attempts=1)
    queue = lb.queue("emails")
    await queue.send_many([message("a"), message("b")])
    for number in range(2):
        async with queue.receive() as batch:  # what may be a message's last attempt is delivered alone
            await batch[0].nack(error=f"error {number}")
    assert [one.last_error for one in await queue.dlq.list(limit=1)] == ["error 0"]
    counted = await queue.dlq.redrive(error="error 1")
    assert (counted.matched, [one.text() for one in counted.sample], counted.operation) == (1, ["b"], None)
    assert (await queue.dlq.redrive(filter='error == "error 0" && failures == 1')).matched == 1
    assert [one.text() for one in await queue.dlq.list(filter='value == "a"')] == ["a"]
    with pytest.raises(InvalidRequest, match="expression"):
        await queue.dlq.redrive(filter="true", error="x")
    begun = (await queue.dlq.redrive(error="error 1", dry_run=False)).operation
    assert begun is not None
    async with queue.receive(wait="10s") as batch:
        assert [one.text() for one in batch] == ["b"]
    dropped = await queue.dlq.discard()
    assert dropped.kind == "discard"
    while (await lb.operations.get(dropped.id)).state == "running":
        pass
    assert await queue.dlq.list() == []
    assert [one.id for one in await lb.operations.list()] == [begun.id, dropped.id]
    assert (await lb.operations.cancel(begun.id)).state == "done"


async def test_what_is_no_message_is_refused(lb: AsyncClient) -> None:
    await lb.queues.create("emails")
    queue = lb.queue("emails")
    with pytest.raises(InvalidRequest, match=r"logbroker\.message"):
        await queue.send_many(["text"])  # type: ignore[list-item]  # what a newcomer writes
    with pytest.raises(InvalidRequest):
        await queue.purge(before="yesterday")  # type: ignore[arg-type]  # as above
    with pytest.raises(LogbrokerError):
        await lb.queues.create("half \ud800")
    with pytest.raises(LogbrokerError):
        await lb.queues.create("other", max_attempts=object())
