"""Replays over HTTP: begun, watched, cancelled, gone on with, refused."""

import asyncio
from typing import Any

import msgspec
import pytest

from tests.http_api.conftest import Door
from tests.http_api.test_dead_letters import finished, queue  # noqa: F401 - a fixture
from tests.http_api.test_queues import Queue, values

pytestmark = pytest.mark.asyncio

REPLAY = "/v1/topics/orders:replay"


async def fill(door: Door, count: int, partitions: int = 2) -> None:
    await door.topic(partitions=partitions)
    records = [
        {"value": str(n), "key": str(n), "timestamp_ms": 1_000 + n, "partition": n % partitions} for n in range(count)
    ]
    for begin in range(0, count, 10):
        await door.produce(*records[begin : begin + 10])


async def test_a_range_is_written_into_a_queue(queue: Queue) -> None:  # noqa: F811
    await queue.create()
    await fill(queue.door, 30)
    body = {
        "from": {"timestamp_ms": 1_010},
        "to": {"timestamp_ms": 1_020},
        "filter": 'key != "15"',
        "into": {"queue": "jobs"},
    }
    begun = await queue.door("POST", REPLAY, body)
    assert begun.status == 202, begun
    told = await finished(queue, begun.json["operation"])
    assert (told["kind"], told["state"], told["examined"], told["done"], told["queue"]) == ("replay", "done", 10, 9, "jobs")
    assert told["replay"]["positions"] == told["replay"]["ends"]
    assert (told["replay"]["topic"], told["replay"]["into"]) == ("orders", {"queue": "jobs"})
    received = await queue.receive(100)
    assert sorted(map(int, values(received))) == [n for n in range(10, 20) if n != 15]
    headers = dict(received[0]["headers"])
    assert headers["logbroker-replay-job"] == told["id"]
    assert headers["logbroker-replay-source"].startswith("orders:")
    listed = (await queue.door("GET", "/v1/operations")).json["items"]
    assert listed == [told]


async def test_a_slow_replay_is_cancelled_and_gone_on_with(queue: Queue) -> None:  # noqa: F811
    await queue.create()
    await fill(queue.door, 20)
    begun = await queue.door("POST", REPLAY, {"into": {"queue": "jobs"}, "rate": 4})
    here = f"/v1/operations/{begun.json['operation']['id']}"
    async with asyncio.timeout(5):
        while not (await queue.door("GET", here)).json["done"]:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    cancelled = (await queue.door("POST", f"{here}:cancel")).json
    assert cancelled["state"] == "cancelled"
    assert cancelled["done"] == len(await queue.receive(100)) == 4
    queue.door.services.operations._known[cancelled["id"]] = _without_rate(queue.door, cancelled["id"])
    assert (await queue.door("POST", f"{here}:resume")).json["state"] == "running"
    told = await finished(queue, cancelled)
    assert (told["state"], told["done"]) == ("done", 20)
    assert len(await queue.receive(100)) == 16


def _without_rate(door: Door, operation_id: str) -> Any:
    return msgspec.structs.replace(door.services.operations.get(operation_id), rate=None)


async def test_into_a_topic_of_as_many_partitions_each_record_stays_in_its_own(queue: Queue) -> None:  # noqa: F811
    await fill(queue.door, 12)
    await queue.door.topic("copies", partitions=2)
    begun = await queue.door("POST", REPLAY, {"into": {"topic": "copies"}})
    assert (await finished(queue, begun.json["operation"]))["done"] == 12
    for partition in (0, 1):
        assert await queue.door.values(partition, "copies") == await queue.door.values(partition)


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ({"into": {}}, (400, "INVALID_REQUEST")),
        ({"into": {"queue": "jobs", "topic": "copies"}}, (400, "INVALID_REQUEST")),
        ({"into": {"queue": "nix"}}, (404, "QUEUE_NOT_FOUND")),
        ({"into": {"topic": "nix"}}, (404, "UNKNOWN_TOPIC_OR_PARTITION")),
        ({"into": {"topic": "jobs.dlq"}}, (403, "TOPIC_RESERVED")),
        ({"into": {"queue": "jobs"}, "filter": "nix"}, (400, "FILTER_INVALID")),
        ({"into": {"queue": "jobs"}, "rate": 0}, (400, "INVALID_REQUEST")),
        ({"into": {"queue": "jobs"}, "from": {}}, (400, "INVALID_REQUEST")),
        ({"into": {"queue": "jobs"}, "to": {"offset": 10_000}}, (400, "INVALID_OFFSET")),
    ],
)
async def test_a_replay_that_makes_no_sense_is_refused(queue: Queue, body: Any, failure: tuple[int, str]) -> None:  # noqa: F811
    await queue.create()
    await fill(queue.door, 2)
    assert (await queue.door("POST", REPLAY, body)).failure == failure
    assert (await queue.door("POST", "/v1/topics/nix:replay", body)).status in (400, 404)
