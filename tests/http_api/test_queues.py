"""Work queues over HTTP: declaring, sending, receiving, settling."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from logbroker.clock import ManualClock
from logbroker.model import TopicPartition
from tests.http_api.conftest import Answer, Door

pytestmark = pytest.mark.asyncio

LATER_MS = 60_000


class Queue:
    """One queue behind the door."""

    def __init__(self, door: Door, clock: ManualClock, name: str = "jobs") -> None:
        self.door = door
        self.clock = clock
        self.name = name
        self.path = f"/v1/queues/{name}"

    async def __call__(self, verb: str, body: Any, **options: Any) -> Answer:
        return await self.door("POST", f"{self.path}:{verb}", body, **options)

    async def create(self, **settings: Any) -> None:
        answer = await self.door("PUT", self.path, settings)
        assert answer.status == 201, answer

    async def send(self, *values: str, **fields: Any) -> list[Any]:
        messages = [{"value": value, **fields} for value in values]
        answer = await self.door("POST", f"{self.path}/messages", {"messages": messages})
        assert answer.status == 200, answer
        results: list[Any] = answer.json["results"]
        return results

    async def receive(self, count: int = 1, **fields: Any) -> list[Any]:
        answer = await self("receive", {"max": count, **fields})
        assert answer.status == 200, answer
        messages: list[Any] = answer.json["messages"]
        return messages

    async def one(self, **fields: Any) -> Any:
        [message] = await self.receive(1, **fields)
        return message

    async def ack(self, *messages: Any) -> Answer:
        return await self("ack", {"receipts": [message["receipt"] for message in messages]})

    async def nack(self, message: Any, **fields: Any) -> Answer:
        return await self("nack", {"entries": [{"receipt": message["receipt"], **fields}]})

    async def reject(self, message: Any, reason: str = "bad") -> Answer:
        return await self("reject", {"entries": [{"receipt": message["receipt"], "reason": reason}]})

    async def counts(self) -> Any:
        return (await self.door("GET", self.path)).json["counts"]

    async def advance(self, ms: int) -> None:
        """Let time pass, and wait until what it leads to has happened."""
        self.clock.advance(ms)
        self.door.services.queues.get(self.name).wake()
        await asyncio.sleep(0.02)

    @property
    def source(self) -> TopicPartition:
        return TopicPartition(self.name, 0)


@pytest_asyncio.fixture
async def queue(door: Door, clock: ManualClock) -> AsyncIterator[Queue]:
    yield Queue(door, clock)
    await door.services.queues.stop()


def values(messages: list[Any]) -> list[str]:
    return [message["value"] for message in messages]


async def test_a_message_is_sent_received_and_acked(queue: Queue) -> None:
    await queue.create()
    [sent] = await queue.send("hello", key="k", headers=[["a", "b"]])
    message = await queue.one(consumer="w")
    assert message["id"] == sent["id"]
    assert (message["value"], message["key"], message["headers"]) == ("hello", "k", [["a", "b"]])
    assert (message["deliveries"], message["failures"], message["last_error"]) == (1, 0, None)
    assert message["receipt_expires_ms"] == queue.clock.now().wall_ms + 30_000
    assert (await queue.counts())["in_flight"] == 1
    assert (await queue.ack(message)).json == {"results": [{"index": 0}]}
    assert await queue.receive() == []
    assert set((await queue.counts()).values()) == {0}


async def test_a_nacked_message_comes_back_with_its_error_and_after_its_delay(queue: Queue) -> None:
    await queue.create()
    await queue.send("x")
    assert (await queue.nack(await queue.one(), error="no luck", delay_ms=5_000)).status == 200
    assert await queue.receive() == []
    assert (await queue.counts())["retrying"] == 1
    await queue.advance(5_000)
    again = await queue.one()
    assert (again["deliveries"], again["failures"], again["last_error"]) == (2, 1, "no luck")


async def test_an_expired_lease_is_a_failure_and_its_receipt_is_lost(queue: Queue) -> None:
    await queue.create()
    await queue.send("x")
    first = await queue.one(visibility_timeout_ms=1_000)
    await queue.advance(1_000)
    await queue.advance(LATER_MS)
    again = await queue.one()
    assert again["failures"] == 1
    assert (await queue.ack(first)).failure == (409, "LEASE_LOST")
    assert (await queue.ack(again)).status == 200


async def test_the_last_failure_makes_a_dead_letter(queue: Queue) -> None:
    await queue.create(max_attempts=2)
    await queue.send("x")
    await queue.nack(await queue.one(), delay_ms=0)
    await queue.nack(await queue.one())
    assert await queue.receive() == []
    assert (await queue.counts())["dead"] == 1


async def test_release_and_a_zero_extension_give_back_without_counting(queue: Queue) -> None:
    await queue.create()
    await queue.send("x")
    first = await queue.one()
    assert (await queue("release", {"receipts": [first["receipt"]]})).status == 200
    second = await queue.one()
    entry = {"receipt": second["receipt"], "visibility_timeout_ms": 0}
    assert (await queue("extend", {"entries": [entry]})).status == 200
    third = await queue.one()
    assert (third["deliveries"], third["failures"]) == (3, 0)


async def test_an_extension_counts_from_the_call(queue: Queue) -> None:
    await queue.create()
    await queue.send("x")
    message = await queue.one(visibility_timeout_ms=10_000)
    await queue.advance(9_000)
    entry = {"receipt": message["receipt"], "visibility_timeout_ms": 10_000}
    answer = await queue("extend", {"entries": [entry]})
    assert answer.json["results"] == [{"index": 0, "receipt_expires_ms": queue.clock.now().wall_ms + 10_000}]
    await queue.advance(9_999)
    assert (await queue.ack(message)).status == 200


async def test_a_delayed_message_comes_when_it_is_due(queue: Queue) -> None:
    await queue.create()
    [sent] = await queue.send("later", delay_ms=LATER_MS)
    assert sent["offset"] is None
    assert await queue.receive() == []
    assert (await queue.counts())["delayed"] == 1
    await queue.advance(LATER_MS)
    assert (await queue.one())["id"] == sent["id"]


async def test_a_long_poll_wakes_when_a_message_is_sent(queue: Queue) -> None:
    await queue.create()
    waiting = asyncio.create_task(queue.receive(wait_ms=30_000))
    await asyncio.sleep(0.02)
    await queue.send("x")
    assert values(await asyncio.wait_for(waiting, 5)) == ["x"]


async def test_a_record_that_any_producer_writes_is_a_message(queue: Queue) -> None:
    await queue.create()
    await queue.door.produce({"value": "plain", "headers": [["lb-id", "forged"]]}, topic="jobs")
    assert (await queue.one())["value"] == "plain"


async def test_t6_a_client_that_leaves_while_it_waits_holds_nothing(queue: Queue) -> None:
    await queue.create()
    waiting = asyncio.create_task(queue("receive", {"max": 1, "wait_ms": 30_000}))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(0.05)
    await queue.send("x")
    await asyncio.sleep(0.05)
    assert (await queue.counts())["in_flight"] == 0
    assert (await queue.one())["failures"] == 0


async def test_t6_an_answer_that_cannot_be_written_gives_its_messages_back(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.create()
    await queue.send("x")

    async def refuse(self: web.Response, request: web.Request) -> None:
        raise ConnectionResetError("the client is gone")

    with monkeypatch.context() as patched:
        patched.setattr(web.Response, "prepare", refuse)
        with pytest.raises(aiohttp.ClientError):
            await queue("receive", {"max": 1})
    await asyncio.sleep(0.05)
    message = await queue.one()
    assert (message["deliveries"], message["failures"]) == (2, 0)


async def test_hostile_bodies_are_refused_and_change_nothing(queue: Queue) -> None:
    await queue.create()
    for verb, body in (
        ("ack", {"receipts": ["AAAA"]}),
        ("ack", {"receipts": ["\u0000" * 50]}),
        ("nack", {"entries": [{"receipt": "x", "delay_ms": -1}]}),
        ("extend", {"entries": [{"receipt": "x", "visibility_timeout_ms": 50_000_000}]}),
        ("receive", {"max": 0}),
        ("receive", {"max": 1, "visibility_timeout_ms": 1}),
        ("receive", {"max": 1, "unknown": 1}),
        ("purge", {"confirm": "another"}),
    ):
        assert (await queue(verb, body)).failure == (400, "INVALID_REQUEST"), (verb, body)
    messages: list[Any] = [
        {"value": "x", "value_json": 1},
        {"messages": [{"value": "x"}], "value": "y"},
        {"messages": [{"value": "x", "delay_ms": 1, "deliver_at_ms": 1}]},
        {"messages": [{"value": "x", "priority": 5}]},
    ]
    for message in messages:
        assert (await queue.door("POST", f"{queue.path}/messages", message)).failure == (400, "INVALID_REQUEST"), message
    for settings in ({"visibility_timeout_ms": 43_200_001}, {"priorities": 2, "ordering": "key"}, {"max_attempts": 0}):
        assert (await queue.door("PUT", "/v1/queues/other", settings)).failure == (400, "INVALID_CONFIG"), settings
    assert set((await queue.counts()).values()) == {0}
    assert (await queue.door("GET", "/v1/queues/none")).failure == (404, "QUEUE_NOT_FOUND")
    assert (await queue.door("PUT", "/v1/queues/x.dlq", {})).failure == (403, "TOPIC_RESERVED")
    assert (await queue.door("DELETE", "/v1/topics/jobs")).failure == (409, "TOPIC_IN_USE")


async def test_a_raw_body_is_a_message_with_its_metadata_in_headers(queue: Queue) -> None:
    await queue.create(priorities=2)
    headers = {"Content-Type": "text/plain", "Logbroker-Priority": "1", "Logbroker-Key": "k", "Logbroker-Dedup-Id": "d"}
    for duplicate in (False, True):
        answer = await queue.door("POST", f"{queue.path}/messages", b"raw", headers=headers)
        assert answer.json["results"][0]["duplicate"] is duplicate
    message = await queue.one()
    assert (message["value"], message["priority"], message["key"]) == ("raw", 1, "k")


async def test_consumers_and_totals_are_told(queue: Queue) -> None:
    await queue.create()
    await queue.send("a", "b", "c")
    first, second = await queue.receive(2, consumer="w")
    await queue.ack(first)
    await queue.reject(second)
    [told] = (await queue.door("GET", f"{queue.path}/consumers")).json["items"]
    assert (told["consumer"], told["received"], told["processed"], told["errors"], told["in_flight"]) == ("w", 2, 1, 1, 0)
    totals = (await queue.door("GET", queue.path)).json["totals"]
    assert {name: count for name, count in totals.items() if count} == {
        "sent": 3,
        "received": 2,
        "acked": 1,
        "rejected": 1,
        "dead_lettered": 1,
    }


async def test_the_metrics_of_a_queue_are_told(queue: Queue) -> None:
    await queue.create()
    await queue.send("a", "b")
    await queue.ack(await queue.one(consumer="w"))
    page = (await queue.door("GET", "/metrics")).body.decode()
    for line in (
        'logbroker_queue_messages{queue="jobs",state="in_flight"} 0.0',
        'logbroker_queue_consumers{queue="jobs"} 1.0',
        'logbroker_queue_sent_total{queue="jobs"} 2.0',
        'logbroker_queue_acked_total{queue="jobs"} 1.0',
        'logbroker_queue_consumer_processed_total{consumer="w",queue="jobs"} 1.0',
        'logbroker_queue_time_in_queue_seconds_count{queue="jobs"} 1.0',
    ):
        assert line in page, line
    assert (await queue.door("DELETE", queue.path)).status == 204
    assert 'queue="jobs"' not in (await queue.door("GET", "/metrics")).body.decode()


async def test_a_plain_produce_to_a_queue_with_priorities_has_the_lowest(queue: Queue) -> None:
    await queue.create(priorities=3, partitions=6)
    await queue.door.produce(*[{"value": str(number), "key": str(number)} for number in range(9)], topic="jobs")
    received = await queue.receive(20)
    assert len(received) == 9
    assert {message["priority"] for message in received} == {0}


async def test_t8_what_a_receive_asks_for_comes_before_what_the_queue_says(queue: Queue) -> None:
    await queue.create(visibility_timeout_ms=5_000)
    await queue.send("a", "b")
    now_ms = queue.clock.now().wall_ms
    assert (await queue.one())["receipt_expires_ms"] == now_ms + 5_000
    assert (await queue.one(visibility_timeout_ms=9_000))["receipt_expires_ms"] == now_ms + 9_000


async def test_a_queue_attaches_to_a_topic_where_it_is_told(queue: Queue) -> None:
    await queue.door.topic("jobs")
    await queue.door.produce({"value": "old"}, topic="jobs")
    await queue.create(start={"at": "earliest"})
    assert values(await queue.receive(5)) == ["old"]
    described = (await queue.door("GET", "/v1/topics/jobs")).json
    assert (described["kind"], described["owner"]) == ("queue", "queue:jobs")
    assert (await queue.door("DELETE", f"{queue.path}?keep_topic=true")).status == 204
    assert (await queue.door("GET", "/v1/topics/jobs")).json["owner"] is None


async def test_a_tag_guards_changes(queue: Queue) -> None:
    await queue.create(max_size=5)
    tag = (await queue.door("GET", queue.path)).headers["ETag"]
    changed = await queue.door("PATCH", queue.path, {"max_size": 6}, headers={"If-Match": tag})
    assert (changed.status, changed.json["config"]["max_size"]) == (200, 6)
    again = await queue.door("PATCH", queue.path, {"max_size": 7}, headers={"If-Match": tag})
    assert again.failure == (412, "PRECONDITION_FAILED")
    assert (await queue.door("PUT", queue.path, {"max_size": 8})).failure == (409, "CONFIG_CONFLICT")
    assert (await queue.door("PUT", f"{queue.path}?replace=true", {"max_size": 8})).status == 200
