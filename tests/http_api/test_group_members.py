"""Members over HTTP: those that poll share partitions, commit, seek and pause."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from logbroker.clock import ManualClock
from logbroker.errors import StorageError
from logbroker.model import TopicPartition
from tests.http_api.conftest import Door
from tests.http_api.polling import FROM_START, GROUP, committed, join, joined, numbers, poll, stable, two_members, values

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture(autouse=True)
async def started(door: Door) -> AsyncIterator[None]:
    """The groups of the door are loaded."""
    await door.services.groups.start()
    yield
    await door.services.members.close()
    await door.services.groups.stop()


async def test_a_member_alone_reads_everything_and_commits_it_with_its_next_poll(door: Door) -> None:
    await door.topic(partitions=2)
    await door.produce({"value": "a", "partition": 0}, {"value": "b", "partition": 1}, {"value": "c", "partition": 1})
    answer = await door("POST", f"{GROUP}/members", FROM_START)
    assert answer.status == 201
    assert answer.json["generation"] == 1
    assert answer.json["assignment"] == [{"topic": "orders", "partition": 0}, {"topic": "orders", "partition": 1}]
    member = answer.json["member_id"]
    first = await poll(door, member)
    assert sorted(values(first)) == ["a", "b", "c"]
    assert {record["topic"] for record in first["records"]} == {"orders"}
    assert not first["rebalanced"]
    assert await committed(door) == {0: 0, 1: 0}  # where it started: whoever goes on now misses nothing
    second = await poll(door, member)
    assert values(second) == []
    assert await committed(door) == {one["partition"]: one["offset"] for one in first["positions"]}
    assert second["positions"] == first["positions"]


async def test_two_members_share_the_partitions_and_one_takes_over_what_the_other_leaves(door: Door) -> None:
    await door.topic(partitions=4)
    first, second = await two_members(door)
    shares = [numbers(answer) for answer in await stable(door, first, second)]
    assert sorted(shares[0] + shares[1]) == [0, 1, 2, 3]
    assert len(shares[0]) == len(shares[1]) == 2
    assert (await door("DELETE", f"{GROUP}/members/{second}")).status == 204
    (answer,) = await stable(door, first)
    assert numbers(answer) == [0, 1, 2, 3]
    assert (await door("POST", f"{GROUP}/members/{second}:poll", {})).failure == (404, "UNKNOWN_MEMBER_ID")
    assert (await door("DELETE", f"{GROUP}/members/{second}")).failure == (404, "UNKNOWN_MEMBER_ID")
    assert (await door("DELETE", f"{GROUP}/members/{second}?missing_ok=true")).status == 204


async def test_a_silent_member_loses_its_share_and_what_it_did_not_commit_is_read_again(
    door: Door, clock: ManualClock
) -> None:
    await door.topic(partitions=2)
    loud, silent = await two_members(door)
    await door.produce(*({"value": f"v{number}", "partition": number} for number in (0, 1)))
    (lost,) = values(await poll(door, silent))
    read: list[str] = []
    for _ in range(6):
        clock.advance(9_000)
        door.services.groups.wake()
        read += values(await poll(door, loud))
    async with asyncio.timeout(5):
        while lost not in read:
            read += values(await poll(door, loud))
    (answer,) = await stable(door, loud)
    assert numbers(answer) == [0, 1]
    assert (await door("POST", f"{GROUP}/members/{silent}:heartbeat")).failure == (404, "UNKNOWN_MEMBER_ID")


async def test_a_heartbeat_keeps_a_member_in_and_leaves_a_rebalance_to_its_next_poll(
    door: Door, clock: ManualClock
) -> None:
    await door.topic(partitions=2)
    await door.produce({"value": "a", "partition": 0}, {"value": "b", "partition": 1})
    working = await joined(door)
    given = await poll(door, working)
    joining = await join(door)
    for _ in range(6):
        clock.advance(9_000)
        door.services.groups.wake()
        beat = (await door("POST", f"{GROUP}/members/{working}:heartbeat")).json
        assert numbers(beat) == [0, 1]
    assert beat["rebalancing"]
    assert not joining.done()
    assert len(given["records"]) == 2
    async with asyncio.timeout(5):
        while not joining.done():
            await poll(door, working)  # its first one commits what was given, before anyone else reads there
    assert await committed(door) == {one["partition"]: one["offset"] for one in given["positions"]}


async def test_a_waiting_poll_answers_as_soon_as_there_is_a_record(door: Door) -> None:
    await door.topic(partitions=2)
    member = await joined(door)
    waiting = asyncio.create_task(poll(door, member, wait_ms=20_000))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await door.produce({"value": "now"})
    assert values(await asyncio.wait_for(waiting, 5)) == ["now"]


async def test_a_poll_whose_caller_has_left_gives_nothing_away(door: Door) -> None:
    await door.topic()
    member = await joined(door)
    leaving = asyncio.create_task(poll(door, member, wait_ms=20_000))
    await asyncio.sleep(0.05)
    leaving.cancel()
    await asyncio.wait([leaving])
    await door.produce({"value": "kept"})
    assert values(await poll(door, member, wait_ms=2_000)) == ["kept"]


async def test_a_member_that_reads_nothing_waits_too(door: Door) -> None:
    await door.topic()
    member = await joined(door)
    await door("POST", f"{GROUP}/members/{member}:pause", {})
    before = asyncio.get_running_loop().time()
    assert values(await poll(door, member, wait_ms=100)) == []
    assert asyncio.get_running_loop().time() - before >= 0.09


async def test_each_member_polls_on_where_it_is_while_others_lead_the_way(door: Door) -> None:
    await door.topic(partitions=3)
    await door.produce(*({"value": str(number), "partition": number % 3} for number in range(30)))
    member = await joined(door)
    read: list[tuple[int, int]] = []
    for _ in range(30):
        answer = await poll(door, member, max_records=1)
        read += [(record["partition"], record["offset"]) for record in answer["records"]]
    assert len(set(read)) == 30
    for partition in range(3):
        offsets = [offset for number, offset in read if number == partition]
        assert offsets == sorted(offsets)
    firsts = [partition for partition, _ in read[:3]]
    assert sorted(firsts) == [0, 1, 2]  # partitions take turns


async def test_a_pattern_reads_topics_as_they_appear(door: Door) -> None:
    await door.topic("logs.a")
    answer = await door("POST", f"{GROUP}/members", {"pattern": "logs.*", "auto_offset_reset": "earliest"})
    member = answer.json["member_id"]
    await door.topic("logs.b")
    await door.produce({"value": "b"}, topic="logs.b")
    read: list[str] = []
    async with asyncio.timeout(5):
        while not read:
            read += values(await poll(door, member))
    assert read == ["b"]


async def test_a_member_of_a_topic_that_is_deleted_reads_on_without_it(door: Door) -> None:
    await door.topic()
    await door.topic("other")
    member = await joined(door, topics=["orders", "other"])
    await door.produce({"value": "a"}, topic="other")
    await poll(door, member)
    await poll(door, member)
    assert (await door("DELETE", "/v1/topics/orders")).status == 204
    await door.produce({"value": "b"}, topic="other")
    read: list[str] = []
    async with asyncio.timeout(5):
        while not read:
            read += values(await poll(door, member))
    assert read == ["b"]
    offsets = (await door("GET", f"{GROUP}/offsets")).json["offsets"]
    assert {one["topic"] for one in offsets} == {"other"}


async def test_where_a_new_group_starts_is_said_when_joining(door: Door) -> None:
    await door.topic()
    await door.produce({"value": "old"})
    member = await joined(door, auto_offset_reset="latest")
    await door.produce({"value": "new"})
    assert values(await poll(door, member)) == ["new"]
    await door("DELETE", f"{GROUP}/members/{member}")
    refused = await door("POST", "/v1/groups/strict/members", {**FROM_START, "auto_offset_reset": "error"})
    assert refused.failure == (416, "OFFSET_OUT_OF_RANGE")
    assert (await door("GET", "/v1/groups/strict")).json["members"] == []


@pytest.mark.parametrize(("policy", "expected"), [("earliest", "c"), ("latest", None)])
async def test_a_position_outside_the_log_is_moved_and_the_answer_says_so(
    door: Door, policy: str, expected: str | None
) -> None:
    await door.topic()
    results = await door.produce({"value": "a"}, {"value": "b"}, {"value": "c"})
    member = await joined(door, auto_offset_reset=policy)
    await door("PUT", f"{GROUP}/offsets", {"offsets": []})
    await door("POST", f"{GROUP}/members/{member}:seek", {"to": {"at": "earliest"}})
    trim = {"partitions": [{"partition": 0, "before_offset": results[2]["offset"]}]}
    await door("POST", "/v1/topics/orders:trim", trim)
    answer = await poll(door, member)
    (moved,) = answer["moved"]
    assert (moved["partition"], moved["old"]) == (0, 0)
    if expected is not None:
        assert moved["new"] == results[2]["offset"]
    assert values(answer if answer["records"] else await poll(door, member)) == ([expected] if expected else [])


async def test_a_partition_that_cannot_be_read_is_told_and_the_others_go_on(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    await door.topic(partitions=2)
    await door.produce({"value": "a", "partition": 0}, {"value": "b", "partition": 1})
    member = await joined(door)
    read = door.services.engine.read

    async def damaged(where: TopicPartition, *rest: Any, **options: Any) -> Any:
        if where == TopicPartition("orders", 0):
            raise StorageError("the disk is bad")
        return await read(where, *rest, **options)

    monkeypatch.setattr(door.services.engine, "read", damaged)
    answer = await poll(door, member)
    assert values(answer) == ["b"]
    (error,) = answer["errors"]
    assert (error["partition"], error["error"]["code"]) == (0, "STORAGE_ERROR")


# -- commits, seeks, pauses --------------------------------------------------------------------------------------------


async def test_a_poll_commits_what_it_is_told(door: Door) -> None:
    await door.topic()
    results = await door.produce({"value": "a"}, {"value": "b"})
    member = await joined(door)
    await poll(door, member, commit="none")
    await poll(door, member, commit="none")
    assert await committed(door) == {}
    await poll(door, member, commit=[{"topic": "orders", "partition": 0, "offset": results[1]["offset"]}])
    assert await committed(door) == {0: results[1]["offset"]}
    other = [{"topic": "orders", "partition": 1, "offset": 0}]
    answer = await poll(door, member, commit=other)
    (error,) = answer["commit_errors"]
    assert (error["partition"], error["error"]["code"]) == (1, "ILLEGAL_GENERATION")


async def test_a_late_commit_does_not_move_back_and_one_after_a_seek_does(door: Door) -> None:
    await door.topic()
    await door.produce(*({"value": str(number)} for number in range(5)))
    member = await joined(door)
    await poll(door, member, commit=[{"topic": "orders", "partition": 0, "offset": 4}])
    await poll(door, member, commit=[{"topic": "orders", "partition": 0, "offset": 2}])
    assert await committed(door) == {0: 4}
    await door("POST", f"{GROUP}/members/{member}:seek", {"to": {"offset": 1}})
    answer = await poll(door, member)
    assert values(answer) == ["1", "2", "3", "4"]
    assert await committed(door) == {0: 1}
    await poll(door, member, commit=[{"topic": "orders", "partition": 0, "offset": 3}])
    await poll(door, member, commit=[{"topic": "orders", "partition": 0, "offset": 2}])
    assert await committed(door) == {0: 3}


@pytest.mark.parametrize(
    ("to", "first"),
    [
        ({"at": "earliest"}, "0"),
        ({"at": "latest"}, None),
        ({"offset": 3}, "3"),
        ({"offsets": {"0": 2}}, "2"),
        ({"timestamp_ms": 1_700_000_002_000}, "2"),
        ({"duration_ms": 10_000}, "1"),
        ({"shift": -1}, "4"),
        ({"at": "current"}, None),
        ({"offset": 1_000_000}, None),
    ],
)
async def test_a_member_reads_on_where_it_seeks_to(door: Door, clock: ManualClock, to: Any, first: str | None) -> None:
    clock.set_wall(1_700_000_011_000)
    await door.topic(retention_ms=-1)
    times = [1_700_000_000_000 + number * 1_000 for number in range(5)]
    await door.produce(*({"value": str(number), "timestamp_ms": at} for number, at in enumerate(times)))
    member = await joined(door)
    end = (await poll(door, member))["positions"][0]["offset"]
    if to == {"shift": -1}:
        to = {"shift": 4 - end}
    answer = await door("POST", f"{GROUP}/members/{member}:seek", {"to": to})
    assert answer.status == 200, answer
    read = values(await poll(door, member))
    assert (read[0] if read else None) == first


async def test_a_member_seeks_and_pauses_only_what_it_has(door: Door) -> None:
    await door.topic()
    member = await joined(door)
    foreign = [{"topic": "orders", "partition": 7}]
    seek = {"to": {"offset": 0}, "partitions": foreign}
    assert (await door("POST", f"{GROUP}/members/{member}:seek", seek)).failure == (409, "ILLEGAL_GENERATION")
    for verb in ("pause", "resume"):
        refused = await door("POST", f"{GROUP}/members/{member}:{verb}", {"partitions": foreign})
        assert refused.failure == (409, "ILLEGAL_GENERATION")


async def test_paused_partitions_are_kept_and_not_read(door: Door) -> None:
    await door.topic(partitions=2)
    await door.produce({"value": "a", "partition": 0}, {"value": "b", "partition": 1})
    member = await joined(door)
    one = [{"topic": "orders", "partition": 0}]
    assert (await door("POST", f"{GROUP}/members/{member}:pause", {"partitions": one})).json == {"paused": one}
    answer = await poll(door, member)
    assert (values(answer), numbers(answer)) == (["b"], [0, 1])
    assert (await door("POST", f"{GROUP}/members/{member}:resume", {})).json == {"paused": []}
    assert values(await poll(door, member)) == ["a"]


async def test_a_seek_during_a_waiting_poll_counts(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await door.topic()
    await door.produce({"value": "a"})
    member = await joined(door)
    assert values(await poll(door, member)) == ["a"]
    monkeypatch.setattr("logbroker.groups.hosted.HEARTBEAT_MS", 50)
    waiting = asyncio.create_task(poll(door, member, wait_ms=20_000))
    await asyncio.sleep(0.02)
    await door("POST", f"{GROUP}/members/{member}:seek", {"to": {"at": "earliest"}})
    assert values(await asyncio.wait_for(waiting, 5)) == ["a"]


async def test_simple_consumers_commit_without_membership_while_there_are_no_members(door: Door) -> None:
    await door.topic(partitions=2)
    await door.produce({"value": "a", "partition": 0}, {"value": "b", "partition": 1})
    offsets = [
        {"topic": "orders", "partition": 0, "offset": 1, "metadata": "note", "leader_epoch": 3},
        {"topic": "orders", "partition": 9, "offset": 1},
    ]
    answer = await door("PUT", f"{GROUP}/offsets", {"offsets": offsets})
    assert answer.status == 207
    assert [result.get("error", {}).get("code") for result in answer.json["results"]] == [
        None,
        "UNKNOWN_TOPIC_OR_PARTITION",
    ]
    (kept,) = (await door("GET", f"{GROUP}/offsets")).json["offsets"]
    assert {**kept, "committed_ms": 0} == {**offsets[0], "committed_ms": 0}
    assert (await door("GET", f"{GROUP}/offsets?topic=other")).json == {"offsets": []}
    member = await joined(door)
    assert (await door("PUT", f"{GROUP}/offsets", {"offsets": offsets[:1]})).failure[0] == 404
    mine = {"offsets": offsets[:1], "member_id": member, "generation": 1}
    assert (await door("PUT", f"{GROUP}/offsets", mine)).status == 200
    assert (await door("PUT", f"{GROUP}/offsets", {**mine, "generation": 0})).failure == (409, "ILLEGAL_GENERATION")
    unknown = {"offsets": [{"topic": "nix", "partition": 0, "offset": 0}], "member_id": member, "generation": 1}
    assert (await door("PUT", f"{GROUP}/offsets", unknown)).failure == (404, "UNKNOWN_TOPIC_OR_PARTITION")
