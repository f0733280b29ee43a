"""Subscriptions over HTTP: declaring, pulling, settling, seeking, snapshots."""

import asyncio
from typing import Any

import pytest

from logbroker.clock import ManualClock
from tests.http_api.conftest import Answer, Door

pytestmark = pytest.mark.asyncio


class Sub:
    """One subscription behind the door, over topic ``orders``."""

    def __init__(self, door: Door, name: str = "audit") -> None:
        self.door = door
        self.name = name
        self.path = f"/v1/subscriptions/{name}"

    async def __call__(self, verb: str, body: Any, **options: Any) -> Answer:
        return await self.door("POST", f"{self.path}:{verb}", body, **options)

    async def create(self, **settings: Any) -> Any:
        answer = await self.door("PUT", self.path, {"topic": "orders", "start": {"at": "earliest"}, **settings})
        assert answer.status == 201, answer
        return answer.json

    async def get(self) -> Any:
        answer = await self.door("GET", self.path)
        assert answer.status == 200, answer
        return answer.json

    async def pull(self, count: int = 100, **fields: Any) -> list[Any]:
        answer = await self("pull", {"max": count, **fields})
        assert answer.status == 200, answer
        messages: list[Any] = answer.json["messages"]
        return messages

    async def ack(self, *messages: Any) -> Answer:
        return await self("ack", {"receipts": [message["receipt"] for message in messages]})

    async def seek(self, to: Any, **fields: Any) -> Answer:
        return await self("seek", {"to": to, **fields})


def values(messages: list[Any]) -> list[Any]:
    return [message["value"] for message in messages]


@pytest.fixture
def sub(door: Door) -> Sub:
    return Sub(door)


async def test_a_subscription_is_created_described_and_deleted(door: Door, sub: Sub) -> None:
    await door.topic()
    created = await sub.create(filter='value == "a"', ack_deadline_ms=5_000)
    assert created["config"] == {
        "topic": "orders",
        "filter": 'value == "a"',
        "ack_deadline_ms": 5_000,
        "max_attempts": 3,
        "retry": {
            "policy": "exponential",
            "initial_ms": 100,
            "factor": 2,
            "max_ms": 60_000,
            "jitter": 0.2,
            "delays_ms": [],
        },
        "dlq": {"max_size": 10_000, "overflow": "drop_oldest"},
        "ordering": "none",
        "retain_unacked_ms": 604_800_000,
    }
    assert (created["unread"], created["counts"]["ready"], created["consumers"]) == (0, 0, 0)
    assert created["filters"] == [{"filter": 'value == "a"', "since": {}}]
    again = await door("PUT", sub.path, {"topic": "orders", "filter": 'value == "a"', "ack_deadline_ms": 5_000})
    assert again.status == 200
    tag = again.headers["ETag"]
    assert (await door("PUT", sub.path, {"topic": "orders"})).failure == (409, "CONFIG_CONFLICT")
    assert (await door("PUT", sub.path + "?replace=true", {"topic": "orders"})).json["config"]["filter"] is None
    assert (await door("PATCH", sub.path, {"max_attempts": 5}, headers={"If-Match": tag})).failure[0] == 412
    assert (await door("PATCH", sub.path, {"max_attempts": None})).json["config"]["max_attempts"] == 3
    assert [one["name"] for one in (await door("GET", "/v1/subscriptions?prefix=au")).json["items"]] == ["audit"]
    assert (await door("DELETE", sub.path)).status == 204
    assert (await door("GET", sub.path)).failure == (404, "SUBSCRIPTION_NOT_FOUND")
    assert (await door("DELETE", sub.path)).failure == (404, "SUBSCRIPTION_NOT_FOUND")
    assert (await door("DELETE", sub.path + "?missing_ok=true")).status == 204


async def test_messages_are_pulled_and_settled_as_those_of_queues(door: Door, sub: Sub) -> None:
    await door.topic()
    await door.produce({"value": "a", "key": "k"}, {"value": "b"}, {"value": "c"}, {"value": "d"})
    await sub.create(max_attempts=1)
    a, b, c, d = [(await sub.pull(1, consumer="w"))[0] for _ in "abcd"]
    assert (a["key"], a["deliveries"], a["failures"], a["partition"]) == ("k", 1, 0, 0)
    assert (await sub.ack(a)).status == 200
    assert (await sub("release", {"receipts": [b["receipt"]]})).status == 200
    assert (await sub("nack", {"entries": [{"receipt": c["receipt"], "error": "boom"}]})).status == 200
    assert (await sub("extend", {"entries": [{"receipt": d["receipt"], "visibility_timeout_ms": 60_000}]})).status == 200
    assert (await sub("reject", {"entries": [{"receipt": d["receipt"], "reason": "bad"}]})).status == 200
    assert (await sub.ack(c)).failure == (409, "LEASE_LOST")
    assert values(await sub.pull()) == ["b"]
    described = await sub.get()
    assert (described["counts"]["in_flight"], described["counts"]["dead"]) == (1, 2)
    letters = (await door("GET", sub.path + "/messages?state=dead")).json["items"]
    assert [one["last_error"] for one in letters] == ["boom", "bad"]
    redriven = await door("POST", f"{sub.path}/messages/{letters[0]['id']}:redrive", {})
    assert redriven.json["state"] == "ready"
    assert (await sub("redrive", {"dry_run": True})).json["matched"] == 1
    assert (await door("GET", sub.path + "/consumers")).json["items"][1]["consumer"] == "w"


async def test_a_pull_waits_for_the_first_record_that_matches(door: Door, sub: Sub) -> None:
    await door.topic()
    await sub.create(filter='headers.region == "eu"')
    pulling = asyncio.create_task(sub.pull(10, wait_ms=10_000))
    await door.produce({"value": "us", "headers": [["region", "us"]]})
    await asyncio.sleep(0.05)
    assert not pulling.done()
    await door.produce({"value": "eu", "headers": [["region", "eu"]]})
    assert values(await asyncio.wait_for(pulling, 5)) == ["eu"]
    assert (await sub.get())["totals"]["filtered"] == 1


async def test_a_bad_filter_is_refused_with_its_column(door: Door, sub: Sub) -> None:
    await door.topic()
    answer = await door("PUT", sub.path, {"topic": "orders", "filter": "value =! 3"})
    assert answer.failure == (400, "FILTER_INVALID")
    assert answer.json["column"] == 7


async def test_a_seek_is_a_dry_run_unless_told_otherwise(door: Door, sub: Sub) -> None:
    await door.topic()
    offsets = [one["offset"] for one in await door.produce({"value": "a"}, {"value": "b"}, {"value": "c"})]
    await sub.create()
    taken = await sub.pull()
    await sub.ack(*taken[:2])
    plan = (await sub.seek({"at": "earliest"})).json
    assert plan["dry_run"] is True
    assert (plan["partitions"][0]["from_offset"], plan["partitions"][0]["voided_leases"]) == (offsets[2], 1)
    assert values(await sub.pull()) == []
    assert (await sub.seek({"offset": offsets[1]}, dry_run=False)).status == 200
    assert (await sub.ack(taken[2])).failure == (409, "LEASE_LOST")
    assert values(await sub.pull()) == ["b", "c"]
    assert (await sub.seek({"offset": 10**6})).failure == (400, "INVALID_OFFSET")
    assert (await sub.seek({"offsets": {"7": 0}})).failure == (404, "UNKNOWN_TOPIC_OR_PARTITION")
    assert (await sub.seek({"snapshot": "none"})).failure == (404, "SNAPSHOT_NOT_FOUND")
    for wrong in ({}, {"at": "earliest", "offset": 0}, {"snapshot": "x", "offset": 0}):
        assert (await sub.seek(wrong)).failure == (400, "INVALID_REQUEST")


async def test_a_snapshot_is_kept_gone_back_to_and_forgotten(door: Door, sub: Sub, clock: ManualClock) -> None:
    await door.topic()
    await door.produce({"value": "a"}, {"value": "b"}, {"value": "c"})
    await sub.create()
    a, b, c = await sub.pull()
    await sub.ack(b)
    kept = await door("PUT", "/v1/snapshots/before", {"subscription": "audit", "ttl_ms": 60_000})
    assert kept.status == 201
    assert kept.json["expires_ms"] == clock.now().wall_ms + 60_000
    assert kept.json["kept_offsets"] >= 3
    assert (await door("PUT", "/v1/snapshots/before", {"subscription": "audit"})).status == 200
    await sub.ack(a, c)
    assert (await door("DELETE", "/v1/topics/orders")).failure == (409, "TOPIC_IN_USE")
    assert (await sub.seek({"snapshot": "before"}, dry_run=False)).status == 200
    assert values(await sub.pull()) == ["a", "c"]
    assert [one["name"] for one in (await door("GET", "/v1/snapshots")).json["items"]] == ["before"]
    other = Sub(door, "copy")
    await other.create(start={"snapshot": "before"})
    assert values(await other.pull()) == ["a", "c"]
    assert (await door("DELETE", "/v1/snapshots/before")).status == 204
    assert (await door("GET", "/v1/snapshots/before")).failure == (404, "SNAPSHOT_NOT_FOUND")
    assert (await door("PUT", "/v1/snapshots/x", {"subscription": "none"})).failure == (404, "SUBSCRIPTION_NOT_FOUND")


async def test_what_happens_is_counted_without_partitions(door: Door, sub: Sub) -> None:
    await door.topic()
    await door.produce({"value": "a"}, {"value": "b"}, {"value": "c"}, {"value_json": {"n": 1}})
    await sub.create(filter='value.n == 1 || value == "a"')
    taken = await sub.pull()
    await sub.ack(taken[0])
    lines = (await door("GET", "/metrics")).body.decode().splitlines()
    for line in (
        'logbroker_subscription_messages{state="in_flight",subscription="audit"} 1.0',
        'logbroker_subscription_backlog{subscription="audit"} 1.0',
        'logbroker_subscription_received_total{subscription="audit"} 2.0',
        'logbroker_subscription_acked_total{subscription="audit"} 1.0',
        'logbroker_subscription_filtered_total{subscription="audit"} 2.0',
        'logbroker_subscription_filter_errors_total{subscription="audit"} 2.0',
    ):
        assert line in lines, [line for line in lines if "subscription" in line]
    assert not [line for line in lines if "subscription" in line and "partition=" in line]
    totals = (await sub.get())["totals"]
    assert (totals["filtered"], totals["filter_errors"], totals["expired_unacked"]) == (2, 2, 0)
