"""Transactions as they are seen over HTTP: what is open or was aborted is at no door; list, describe, abort."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from logbroker.broker.services import Services
from logbroker.groups.messages import CommitOffsets, MemberClaim, OffsetToCommit
from logbroker.groups.transactions.messages import Producer
from logbroker.model import ProducerStamp, Record, TopicPartition
from tests.http_api.conftest import Door
from tests.http_api.polling import join, joined, poll

pytestmark = pytest.mark.asyncio
WHERE = TopicPartition("orders", 0)
EVERYTHING = "&isolation=read_uncommitted"


@pytest_asyncio.fixture(autouse=True)
async def started(door: Door) -> AsyncIterator[None]:
    """Groups, transactions and queues of the door are loaded."""
    services = door.services
    await services.groups.start()
    await services.transactions.start()
    await services.queues.start()
    yield
    await services.members.close()
    await services.queues.stop()
    await services.transactions.stop()
    await services.groups.stop()


class Writer:
    """A transactional producer, without a Kafka client around it."""

    def __init__(self, services: Services, name: str = "txn:1") -> None:
        self.services = services
        self.name = name
        self.sequence = 0

    async def begin(self, *values: bytes) -> None:
        self.producer = await self.services.transactions.init_producer(self.name, 60_000)
        self.sequence = 0
        await self.write(*values)

    async def write(self, *values: bytes) -> None:
        transactions, engine = self.services.transactions, self.services.engine
        await transactions.add(self.name, self.producer, [WHERE])
        transactions.check(self.name, self.producer, WHERE)
        stamp = ProducerStamp(*self.producer, self.sequence)
        await engine.append(WHERE, list(map(Record, values)), producer=stamp, transactional=True)
        self.sequence += len(values)

    async def end(self, committed: bool) -> None:
        await self.services.transactions.end(self.name, self.producer, committed=committed)


async def test_records_are_read_when_they_are_committed(door: Door) -> None:
    await door.topic()
    await door.produce({"value": "before"})
    writer = Writer(door.services)
    await writer.begin(b"a")
    await door.produce({"value": "behind"})
    query = "?offset=0"
    assert await door.values(query=query) == ["before"]
    assert await door.values(query=query + EVERYTHING) == ["before", "a", "behind"]
    assert await door.values(query="?last=5") == ["before"]
    await writer.end(committed=True)
    assert await door.values(query=query) == ["before", "a", "behind"]
    await writer.write(b"never")
    await writer.end(committed=False)
    await door.produce({"value": "last"})
    assert await door.values(query=query) == ["before", "a", "behind", "last"]
    assert await door.values(query="?last=2") == ["behind", "last"]


async def test_a_single_record_of_an_aborted_transaction_is_not_there(door: Door) -> None:
    await door.topic()
    writer = Writer(door.services)
    await writer.begin(b"never")
    path = "/v1/topics/orders/partitions/0/records/0"
    assert (await door("GET", path)).failure == (404, "MESSAGE_NOT_FOUND")
    await writer.end(committed=False)
    assert (await door("GET", path)).failure == (404, "MESSAGE_NOT_FOUND")
    assert (await door("GET", path + "?isolation=read_uncommitted")).json["value"] == "never"


async def test_a_long_poll_is_not_woken_by_what_it_cannot_read(door: Door) -> None:
    await door.topic()
    writer = Writer(door.services)
    await writer.begin(b"a")
    reading = asyncio.create_task(door.values(query="?offset=0&wait_ms=20000"))
    await asyncio.sleep(0)
    await writer.write(b"b")
    await writer.end(committed=True)
    assert await asyncio.wait_for(reading, 10) == ["a", "b"]


@pytest.mark.parametrize(("isolation", "expected"), [("read_committed", ["x"]), ("read_uncommitted", ["a", "x"])])
async def test_a_tail_follows_what_is_committed(door: Door, isolation: str, expected: list[str]) -> None:
    await door.topic()
    writer = Writer(door.services)
    await writer.begin(b"a")
    path = f"/v1/topics/orders/tail?from=earliest&isolation={isolation}"
    async with door.session.get(door.url + path, headers={"Accept": "application/x-ndjson"}) as response:
        await writer.end(committed=False)
        await door.produce({"value": "x"})
        lines = [json.loads(await asyncio.wait_for(response.content.readline(), 10)) for _ in expected]
    assert [line["value"] for line in lines] == expected


async def test_a_group_member_polls_what_is_committed(door: Door) -> None:
    await door.topic()
    writer = Writer(door.services)
    await writer.begin(b"never")
    member = await joined(door)
    assert (await poll(door, member))["records"] == []
    await writer.end(committed=False)
    await writer.write(b"a")
    await writer.end(committed=True)
    assert [record["value"] for record in (await poll(door, member))["records"]] == ["a"]


async def test_a_queue_hands_out_what_is_committed(door: Door) -> None:
    assert (await door("PUT", "/v1/queues/orders", {})).status == 201
    writer = Writer(door.services)
    await writer.begin(b"never")
    receive = "/v1/queues/orders:receive"
    assert (await door("POST", receive, {"max": 10})).json["messages"] == []
    assert (await door("GET", "/v1/queues/orders/messages")).json["items"] == []
    await writer.end(committed=False)
    await writer.write(b"a")
    await writer.end(committed=True)
    messages = (await door("POST", receive, {"max": 10})).json["messages"]
    assert [message["value"] for message in messages] == ["a"]


async def test_what_was_aborted_is_no_lag(door: Door) -> None:
    await door.topic()
    claim = CommitOffsets(MemberClaim("", -1), (OffsetToCommit(WHERE, 0),))
    await door.services.groups.commit("g", claim)
    writer = Writer(door.services)
    await writer.begin(b"a", b"b")
    assert (await door("GET", "/v1/groups/g/lag")).json["lag"] >= 2
    await writer.end(committed=False)
    assert (await door("GET", "/v1/groups/g/lag")).json["lag"] == 0


async def test_transactions_are_listed_described_and_aborted(door: Door) -> None:
    await door.topic()
    hung, done = Writer(door.services, "hung:0"), Writer(door.services, "done")
    await hung.begin(b"hung")
    await done.begin(b"done")
    await done.end(committed=True)
    listed = (await door("GET", "/v1/transactions")).json["items"]
    assert [(one["transactional_id"], one["state"]) for one in listed] == [
        ("done", "CompleteCommit"),
        ("hung:0", "Ongoing"),
    ]
    listed = (await door("GET", "/v1/transactions?state=Ongoing")).json["items"]
    assert [one["partitions"] for one in listed] == [[{"topic": "orders", "partition": 0}]]
    assert [one["transactional_id"] for one in (await door("GET", "/v1/transactions?prefix=d")).json["items"]] == ["done"]
    one = (await door("GET", "/v1/transactions/hung:0")).json
    assert (one["producer_id"], one["epoch"], one["timeout_ms"]) == (*hung.producer, 60_000)
    assert one["age_ms"] >= 0
    assert await door.values(query="?offset=0") == []
    aborted = (await door("POST", "/v1/transactions/hung:0:abort")).json
    assert (aborted["state"], aborted["started_ms"], aborted["epoch"]) == ("CompleteAbort", None, hung.producer.epoch + 1)
    assert await door.values(query="?offset=0") == ["done"]
    assert (await door("POST", "/v1/transactions/hung:0:abort")).failure == (409, "INVALID_TXN_STATE")
    for method, path in (("GET", "/v1/transactions/nix"), ("POST", "/v1/transactions/nix:abort")):
        assert (await door(method, path)).failure == (404, "TRANSACTIONAL_ID_NOT_FOUND")


async def test_a_member_waits_for_positions_that_are_not_decided(door: Door) -> None:
    await door.topic()
    transactions = door.services.transactions
    producer: Producer = await transactions.init_producer("t", 60_000)
    await transactions.add("t", producer, groups=["g"])
    command = CommitOffsets(MemberClaim("", -1), (OffsetToCommit(WHERE, 0),))
    await transactions.commit_offsets("t", producer, "g", command)
    assert (await (await join(door))).failure == (503, "UNSTABLE_OFFSET_COMMIT")
    await transactions.end("t", producer, committed=True)
    assert (await poll(door, await joined(door)))["records"] == []
