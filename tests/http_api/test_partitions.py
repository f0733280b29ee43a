"""Partitions over HTTP: bounds, offsets by time and place, trim, segments."""

import pytest

from logbroker.engine.api import Engine
from logbroker.errors import PartitionDamaged
from logbroker.model import Bounds, TopicPartition
from tests.http_api.conftest import Door

pytestmark = pytest.mark.asyncio

TRIM = "/v1/topics/orders:trim"


async def test_partitions_tell_their_bounds_and_timestamps(door: Door) -> None:
    await door.topic(partitions=2)
    [first] = await door.produce({"value": "a", "partition": 1, "timestamp_ms": 50})
    await door.produce({"value": "b", "partition": 1, "timestamp_ms": 20})
    empty, full = (await door("GET", "/v1/topics/orders/partitions")).json["items"]
    assert (empty["log_start_offset"], empty["high_watermark"]) == (0, 0)
    assert (empty["first_timestamp_ms"], empty["max_timestamp_ms"]) == (None, None)
    assert full["high_watermark"] == full["last_stable_offset"] > first["offset"] + 1
    assert (full["first_timestamp_ms"], full["max_timestamp_ms"]) == (50, 50)
    assert (await door("GET", "/v1/topics/orders/partitions/1")).json == full
    paged = (await door("GET", "/v1/topics/orders/partitions?page_size=1")).json
    rest = (await door("GET", f"/v1/topics/orders/partitions?page_token={paged['next_page_token']}")).json
    assert [one["partition"] for one in paged["items"] + rest["items"]] == [0, 1]


async def test_offsets_are_found_by_time_and_by_place(door: Door) -> None:
    await door.topic()
    offsets = {}
    for timestamp in (10, 30, 20):
        [result] = await door.produce({"value": "x", "timestamp_ms": timestamp})
        offsets[timestamp] = result["offset"]
    end = (await door.read())["high_watermark"]
    path = "/v1/topics/orders/partitions/0/offset"
    expected: dict[str, tuple[int | None, int | None]] = {
        "timestamp_ms=0": (offsets[10], 10),
        "timestamp_ms=11": (offsets[30], 30),
        "timestamp_ms=31": (None, None),
        "at=earliest": (0, None),
        "at=latest": (end, None),
        "at=max_timestamp": (offsets[30], 30),
    }
    for query, (offset, found_ms) in expected.items():
        assert (await door("GET", f"{path}?{query}")).json == {"offset": offset, "timestamp_ms": found_ms}, query
    for query in ("", "?at=latest&timestamp_ms=1", "?at=middle", "?timestamp_ms=-1"):
        assert (await door("GET", path + query)).failure == (400, "INVALID_REQUEST"), query


async def test_a_trim_moves_the_log_start_by_offset_or_time(door: Door) -> None:
    await door.topic(partitions=2)
    offsets = [(await door.produce({"value": "x", "timestamp_ms": at, "partition": 0}))[0]["offset"] for at in (10, 20, 30)]
    plan = {"partitions": [{"partition": 0, "before_ms": 20}], "dry_run": True}
    expected = [{"partition": 0, "low_watermark": offsets[1]}]
    assert (await door("POST", TRIM, plan)).json == {"dry_run": True, "partitions": expected}
    assert len(await door.values()) == 3
    assert (await door("POST", TRIM, {**plan, "dry_run": False})).json == {"dry_run": False, "partitions": expected}
    assert len(await door.values()) == 2
    again = await door("POST", TRIM, {"partitions": [{"partition": 0, "before_offset": 0}]})
    assert again.json["partitions"] == expected
    everything = {"partitions": [{"partition": 0, "before_ms": 99}, {"partition": 1, "before_ms": 99}]}
    assert (await door("POST", TRIM, everything)).status == 200
    assert await door.values() == []


@pytest.mark.parametrize(
    ("bad", "failure"),
    [
        ({"partition": 7, "before_offset": 0}, (404, "UNKNOWN_TOPIC_OR_PARTITION")),
        ({"partition": 1, "before_offset": 99}, (400, "INVALID_OFFSET")),
        ({"partition": 1}, (400, "INVALID_REQUEST")),
        ({"partition": 1, "before_offset": 0, "before_ms": 0}, (400, "INVALID_REQUEST")),
        ({"partition": 0, "before_offset": 0}, (400, "INVALID_REQUEST")),
    ],
)
async def test_one_bad_partition_refuses_the_whole_trim(door: Door, bad: dict[str, int], failure: tuple[int, str]) -> None:
    await door.topic(partitions=2)
    await door.produce({"value": "x", "partition": 0})
    end = (await door.read())["high_watermark"]
    answer = await door("POST", TRIM, {"partitions": [{"partition": 0, "before_offset": end}, bad]})
    assert answer.failure == failure
    assert await door.values() == ["x"]


async def test_what_is_held_is_not_trimmed_and_the_rest_is(door: Door) -> None:
    await door.topic(partitions=2)
    await door.produce({"value": "x", "partition": 0}, {"value": "y", "partition": 1})
    door.services.engine.hold(TopicPartition("orders", 1), "test", 0)
    answer = await door(
        "POST", TRIM, {"partitions": [{"partition": 0, "before_ms": 2**60}, {"partition": 1, "before_ms": 2**60}]}
    )
    assert answer.status == 207
    good, bad = answer.json["partitions"]
    assert good["low_watermark"] > 0
    assert bad["error"]["code"] == "INVALID_OFFSET"
    assert (await door.values(0), await door.values(1)) == ([], ["y"])


async def test_a_damaged_partition_does_not_hide_the_others(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await door.topic(partitions=2)
    await door.produce({"value": "x", "partition": 0}, {"value": "y", "partition": 1})
    bounds = type(door.services.engine).bounds

    async def damaged(engine: Engine, where: TopicPartition) -> Bounds:
        if where.partition == 0:
            raise PartitionDamaged("orders-0 is damaged at byte 77")
        return await bounds(engine, where)

    monkeypatch.setattr(type(door.services.engine), "bounds", damaged)
    bad, good = (await door("GET", "/v1/topics/orders/partitions")).json["items"]
    assert (bad["high_watermark"], bad["error"]["code"]) == (None, "PARTITION_DAMAGED")
    assert good["high_watermark"] > 0
    assert "error" not in good
    [listed] = (await door("GET", "/v1/topics")).json["items"]
    assert (listed["records"], listed["damaged_partitions"]) == (good["high_watermark"], 1)
    metrics = (await door("GET", "/metrics")).body.decode()
    assert 'logbroker_topic_damaged_partitions{topic="orders"} 1.0' in metrics


@pytest.mark.parametrize("engine", ["fake"], indirect=True)
async def test_an_engine_without_files_has_no_segments(door: Door) -> None:
    await door.topic()
    assert (await door("GET", "/v1/storage/orders/0/segments")).failure == (501, "NOT_SUPPORTED")
    assert (await door("GET", "/v1/topics/orders/partitions/0")).json["segments"] is None


@pytest.mark.parametrize("engine", ["memory"], indirect=True)
async def test_segments_of_a_partition_are_listed(door: Door) -> None:
    await door.topic(segment_bytes=300)
    for _ in range(5):
        await door.produce({"value": "x" * 150})
    segments = (await door("GET", "/v1/storage/orders/0/segments")).json["items"]
    assert len(segments) > 2
    assert [one["base_offset"] for one in segments[1:]] == [one["next_offset"] for one in segments[:-1]]
    assert [one["active"] for one in segments] == [False] * (len(segments) - 1) + [True]
    described = (await door("GET", "/v1/topics/orders/partitions/0")).json
    assert described["segments"] == len(segments)
    assert described["bytes"] == sum(one["size_bytes"] for one in segments)
    assert (await door("GET", "/v1/topics/orders")).json["bytes"] == described["bytes"]
