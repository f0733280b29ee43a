"""Groups over HTTP as administrators see them: list, lag, resets, deletion, metrics; and what nobody should send."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from logbroker.clock import ManualClock
from logbroker.groups.consumer_messages import Beaten, ConsumerHeartbeat
from logbroker.model import TopicPartition
from tests.engine.fake import FakeEngine
from tests.http_api.conftest import Answer, Door
from tests.http_api.polling import GROUP, committed, joined, poll

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture(autouse=True)
async def started(door: Door) -> AsyncIterator[None]:
    """The groups of the door are loaded."""
    await door.services.groups.start()
    yield
    await door.services.members.close()
    await door.services.groups.stop()


# -- looking -----------------------------------------------------------------------------------------------------------


async def test_a_group_is_listed_and_described(door: Door) -> None:
    await door.topic()
    await door.produce({"value": "a"})
    member = await joined(door, client_id="app", instance_id="app-1")
    await poll(door, member)
    assert (await door("GET", "/v1/groups")).json["items"] == [
        {"group": "g", "type": "classic", "state": "Stable", "protocol_type": "consumer", "members": 1}
    ]
    assert (await door("GET", "/v1/groups?state=Empty")).json["items"] == []
    assert (await door("GET", "/v1/groups?prefix=x")).json["items"] == []
    group = (await door("GET", GROUP)).json
    assert (group["state"], group["generation"], group["protocol"], group["leader"]) == ("Stable", 1, "range", member)
    (described,) = group["members"]
    assert described["topics"] == ["orders"]
    assert described["assignment"] == [{"topic": "orders", "partition": 0}]
    assert (described["client_id"], described["instance_id"]) == ("app", "app-1")
    assert described["client_host"].startswith("http://127.0.0.1")
    (partition,) = group["partitions"]
    assert (partition["committed"], partition["member_id"], partition["status"]) == (0, member, "OK")
    for path in ("/v1/groups/nix", "/v1/groups/nix/lag"):
        assert (await door("GET", path)).failure == (404, "GROUP_ID_NOT_FOUND")


async def test_a_group_of_the_consumer_protocol_is_shown_with_epochs_and_targets(door: Door) -> None:
    await door.topic(partitions=2)
    for member_id in ("a", "b"):
        command = ConsumerHeartbeat(
            member_id=member_id, epoch=0, topics=("orders",), rebalance_timeout_ms=60_000, client_id="app", client_host="h"
        )
        await door.services.groups.consumer_heartbeat("g", command)
    assert (await door("GET", "/v1/groups?state=Reconciling")).json["items"] == [
        {"group": "g", "type": "consumer", "state": "Reconciling", "protocol_type": "consumer", "members": 2}
    ]
    group = (await door("GET", GROUP)).json
    assert (group["type"], group["generation"], group["assignment_epoch"], group["protocol"]) == (
        "consumer",
        2,
        2,
        "uniform",
    )
    first, second = group["members"]
    assert (first["protocol"], first["epoch"], first["topics"], first["session_timeout_ms"]) == (
        *("consumer", 1, ["orders"]),
        45_000,
    )
    assert (len(first["assignment"]), len(first["target"]), second["assignment"]) == (2, 1, [])
    assert {one["partition"] for one in (*first["target"], *second["target"])} == {0, 1}
    assert (await door("DELETE", GROUP)).failure == (409, "NON_EMPTY_GROUP")


async def test_a_member_over_http_shares_a_group_with_one_of_the_consumer_protocol(door: Door) -> None:
    await door.topic(partitions=4)

    async def beat(epoch: int, owned: frozenset[TopicPartition], **said: Any) -> Beaten:
        command = ConsumerHeartbeat(member_id="a", epoch=epoch, client_id="app", owned=owned, **said)
        return await door.services.groups.consumer_heartbeat("g", command)

    told = await beat(0, frozenset(), topics=("orders",), rebalance_timeout_ms=60_000)
    member = await joined(door)
    for _ in range(3):
        told = await beat(told.epoch, frozenset(told.assignment or ()), topics=("orders",), rebalance_timeout_ms=60_000)
        await poll(door, member)
    group = (await door("GET", GROUP)).json
    assert (group["type"], group["state"]) == ("consumer", "Stable")
    assert [(one["protocol"], len(one["assignment"])) for one in group["members"]] == [("consumer", 2), ("classic", 2)]
    await door.produce(*({"value": str(number), "partition": number} for number in range(4)))
    polled = await poll(door, member)
    theirs = {at.partition for at in told.assignment or ()}
    assert {record["partition"] for record in polled["records"]} == {0, 1, 2, 3} - theirs


async def test_lag_is_what_is_unread_and_how_old_the_first_of_it_is(door: Door, clock: ManualClock) -> None:
    await door.topic(partitions=2)
    member = await joined(door, session_timeout_ms=1_800_000)
    now = clock.now().wall_ms
    results = await door.produce(*({"value": str(n), "partition": 0, "timestamp_ms": now - 5_000 + n} for n in range(3)))
    await poll(door, member)
    lag = (await door("GET", f"{GROUP}/lag")).json
    end = lag["partitions"][0]["end"]
    assert (lag["lag"], lag["lag_ms"], lag["status"]) == (end - 0, 5_000, "OK")
    assert [one["lag"] for one in lag["partitions"]] == [end, 0]
    await poll(door, member, commit=[{"topic": "orders", "partition": 0, "offset": results[1]["offset"]}])
    lag = (await door("GET", f"{GROUP}/lag")).json
    assert (lag["lag"], lag["lag_ms"]) == (end - results[1]["offset"], 4_999)
    clock.advance(100_000)
    lag = (await door("GET", f"{GROUP}/lag")).json
    assert (lag["lag_ms"], lag["status"]) == (104_999, "STOP")
    await poll(door, member, commit=[{"topic": "orders", "partition": 0, "offset": results[2]["offset"]}])
    assert (await door("GET", f"{GROUP}/lag")).json["status"] == "WARN"
    await reset(door, {"at": "earliest"}, dry_run=False, force=True)
    lag = (await door("GET", f"{GROUP}/lag")).json
    assert (lag["lag"], lag["lag_ms"]) == (end, 105_000)
    await poll(door, member)
    caught_up = (await door("GET", f"{GROUP}/lag")).json
    assert (caught_up["lag"], caught_up["lag_ms"], caught_up["status"]) == (0, 0, "OK")
    clock.advance(1_000_000)
    idle = (await door("GET", f"{GROUP}/lag")).json
    assert (idle["lag"], idle["lag_ms"], idle["status"]) == (0, 0, "OK")


async def test_offsets_without_records_are_no_lag(door: Door) -> None:
    """The fake engine leaves a gap after each append, as a control record or a compacted one would."""
    await door.topic()
    results = await door.produce({"value": "a"})
    offsets = {"offsets": [{"topic": "orders", "partition": 0, "offset": results[0]["offset"] + 1}]}
    await door("PUT", f"{GROUP}/offsets", offsets)
    (one,) = (await door("GET", f"{GROUP}/lag")).json["partitions"]
    assert (one["lag"], one["lag_ms"]) == (0, 0)
    if isinstance(door.services.engine, FakeEngine):
        assert one["end"] > one["committed"]


async def test_an_offset_outside_the_log_is_told(door: Door) -> None:
    await door.topic()
    results = await door.produce({"value": "a"}, {"value": "b"})
    await door("PUT", f"{GROUP}/offsets", {"offsets": [{"topic": "orders", "partition": 0, "offset": 0}]})
    trim = {"partitions": [{"partition": 0, "before_offset": results[1]["offset"]}]}
    await door("POST", "/v1/topics/orders:trim", trim)
    (one,) = (await door("GET", f"{GROUP}/lag")).json["partitions"]
    assert (one["status"], one["lag"]) == ("OUT_OF_RANGE", one["end"] - results[1]["offset"])
    await door("PUT", f"{GROUP}/offsets", {"offsets": [{"topic": "orders", "partition": 0, "offset": 10_000}]})
    (one,) = (await door("GET", f"{GROUP}/lag")).json["partitions"]
    assert (one["status"], one["lag"]) == ("OUT_OF_RANGE", 0)


async def test_metrics_tell_of_each_group(door: Door, clock: ManualClock) -> None:
    await door.topic(partitions=2)
    member = await joined(door)
    await poll(door, member)
    now = clock.now().wall_ms
    await door.produce(*({"value": "a", "partition": n, "timestamp_ms": now - 2_000 - n * 500} for n in (0, 1)))
    lag = (await door("GET", f"{GROUP}/lag")).json["lag"]
    for _ in range(2):
        text = (await door("GET", "/metrics")).body.decode()
        families = list(text_string_to_metric_families(text))
        samples = {
            (sample.name.removeprefix("logbroker_group_"), tuple(sample.labels.values())): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("logbroker_group_")
        }
        assert samples == {
            ("lag_records", ("g", "orders")): lag,
            ("lag_seconds", ("g", "orders")): 2.5,
            ("members", ("g",)): 1,
            ("state", ("g", "Stable")): 1,
            ("status", ("g", "OK")): 1,
            ("rebalances_total", ("g",)): 1,
        }


async def test_a_scrape_answers_while_groups_are_stopped(door: Door) -> None:
    await door("PUT", f"{GROUP}/offsets", {"offsets": [{"topic": "orders", "partition": 0, "offset": 0}]})
    await door.services.groups.stop()
    assert (await door("GET", "/metrics")).status == 200
    assert (await door("GET", GROUP)).failure == (503, "RECOVERING")


async def test_the_history_of_a_lag_is_refused(door: Door) -> None:
    assert (await door("GET", f"{GROUP}/lag?history=1h")).failure == (400, "INVALID_REQUEST")


async def test_a_group_is_deleted_once_it_is_empty(door: Door) -> None:
    await door.topic()
    member = await joined(door)
    await poll(door, member)
    assert (await door("DELETE", GROUP)).failure == (409, "NON_EMPTY_GROUP")
    await door("DELETE", f"{GROUP}/members/{member}")
    assert (await door("DELETE", GROUP)).status == 204
    assert (await door("DELETE", GROUP)).failure == (404, "GROUP_ID_NOT_FOUND")
    assert (await door("DELETE", f"{GROUP}?missing_ok=true")).status == 204


# -- resets ------------------------------------------------------------------------------------------------------------


async def reset(door: Door, to: Any, **options: Any) -> Answer:
    return await door("POST", f"{GROUP}:reset", {"to": to, **options})


@pytest.mark.parametrize(
    ("to", "new", "clamped"),
    [
        ({"at": "earliest"}, 0, False),
        ({"at": "current"}, 3, False),
        ({"offset": 1}, 1, False),
        ({"offset": 10_000}, "end", True),
        ({"offsets": {"0": 2}}, 2, False),
        ({"timestamp_ms": 1_700_000_002_000}, 2, False),
        ({"duration_ms": 10_000}, 1, False),
        ({"shift": -2}, 1, False),
        ({"shift": -5}, 0, True),
        ({"at": "latest"}, "end", False),
        ({"group": "other"}, 4, False),
    ],
)
async def test_a_reset_shows_its_plan_and_then_does_it(
    door: Door, clock: ManualClock, to: Any, new: int | str, clamped: bool
) -> None:
    clock.set_wall(1_700_000_011_000)
    await door.topic(retention_ms=-1)
    times = [1_700_000_000_000 + number * 1_000 for number in range(5)]
    await door.produce(*({"value": str(number), "timestamp_ms": at} for number, at in enumerate(times)))
    end = (await door("GET", "/v1/topics/orders/partitions/0")).json["high_watermark"]
    place = {"topic": "orders", "partition": 0}
    await door("PUT", f"{GROUP}/offsets", {"offsets": [{**place, "offset": 3}]})
    await door("PUT", "/v1/groups/other/offsets", {"offsets": [{**place, "offset": 4}]})
    planned = {**place, "old": 3, "new": end if new == "end" else new, "clamped": clamped}
    answer = await reset(door, to)
    assert answer.json == {"group": "g", "dry_run": True, "members": 0, "partitions": [planned]}
    assert await committed(door) == {0: 3}
    answer = await reset(door, to, dry_run=False)
    assert (answer.status, answer.json["partitions"]) == (200, [planned])
    assert await committed(door) == {0: planned["new"]}


async def test_a_reset_of_a_group_with_members_needs_force(door: Door) -> None:
    await door.topic()
    await door.produce({"value": "a"})
    member = await joined(door)
    await poll(door, member)
    await poll(door, member)
    assert (await reset(door, {"at": "earliest"})).json["members"] == 1
    refused = await reset(door, {"at": "earliest"}, dry_run=False)
    assert refused.failure == (409, "NON_EMPTY_GROUP")
    assert (await reset(door, {"at": "earliest"}, dry_run=False, force=True)).status == 200
    assert await committed(door) == {0: 0}


async def test_a_new_group_is_set_up_by_naming_topics(door: Door) -> None:
    await door.topic(partitions=2)
    assert (await reset(door, {"at": "earliest"})).failure == (404, "GROUP_ID_NOT_FOUND")
    answer = await reset(door, {"at": "earliest"}, topics=["orders"], dry_run=False)
    assert [(one["partition"], one["old"], one["new"]) for one in answer.json["partitions"]] == [(0, None, 0), (1, None, 0)]
    assert (await reset(door, {"at": "earliest"}, topics=["nix"])).failure == (404, "UNKNOWN_TOPIC_OR_PARTITION")
    assert (await reset(door, {"group": "nix"})).failure == (404, "GROUP_ID_NOT_FOUND")
    assert (await reset(door, {"offsets": {"5": 0}}, topics=["orders"])).failure == (400, "INVALID_REQUEST")


# -- input nobody should send ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "failure"),
    [
        ("POST", "/members", {}, (400, "INVALID_REQUEST")),
        ("POST", "/members", {"topics": []}, (400, "INVALID_REQUEST")),
        ("POST", "/members", {"topics": ["a"], "pattern": "*"}, (400, "INVALID_REQUEST")),
        ("POST", "/members", {"topics": ["a b"]}, (400, "INVALID_TOPIC")),
        ("POST", "/members", {"topics": ["a"], "client_id": "a/b:c"}, (400, "INVALID_REQUEST")),
        ("POST", "/members", {"topics": ["a"], "assignor": "best"}, (400, "INVALID_REQUEST")),
        ("POST", "/members", {"topics": ["a"], "session_timeout_ms": 1}, (400, "INVALID_SESSION_TIMEOUT")),
        ("POST", "/members", {"topics": ["a"], "unknown": 1}, (400, "INVALID_REQUEST")),
        ("POST", "/members/nobody:poll", {"max_records": 0}, (400, "INVALID_REQUEST")),
        ("POST", "/members/nobody:poll", {"commit": "all"}, (400, "INVALID_REQUEST")),
        ("POST", "/members/nobody:poll", {"wait_ms": 10**9}, (400, "INVALID_REQUEST")),
        ("POST", "/members/nobody:poll", {}, (404, "UNKNOWN_MEMBER_ID")),
        ("POST", "/members/nobody:seek", {"to": {}}, (400, "INVALID_REQUEST")),
        ("POST", "/members/nobody:seek", {"to": {"offset": 1, "shift": 2}}, (400, "INVALID_REQUEST")),
        ("POST", "/members/nobody:seek", {"to": {"offset": 1}}, (404, "UNKNOWN_MEMBER_ID")),
        ("POST", "/members/nobody:pause", {}, (404, "UNKNOWN_MEMBER_ID")),
        ("POST", "/members/nobody:dance", {}, (404, "NOT_FOUND")),
        ("PUT", "/offsets", {"offsets": []}, (400, "INVALID_REQUEST")),
        ("PUT", "/offsets", {"offsets": [{"topic": "orders", "partition": 0, "offset": -1}]}, (400, "INVALID_REQUEST")),
        ("PUT", "/offsets", {"offsets": [{"topic": "orders", "partition": 0, "offset": 2**63}]}, (400, "INVALID_REQUEST")),
        ("PUT", "/offsets", {"offsets": [{"topic": "orders", "partition": 0, "offset": 0}] * 2}, (400, "INVALID_REQUEST")),
        (
            "PUT",
            "/offsets",
            {"offsets": [{"topic": "orders", "partition": 0, "offset": 0, "metadata": "x" * 5_000}]},
            (400, "OFFSET_METADATA_TOO_LARGE"),
        ),
        ("POST", ":reset", {"to": {"at": "middle"}}, (400, "INVALID_REQUEST")),
        ("POST", ":reset", {"to": {"at": "latest"}, "topics": ["a b"]}, (400, "INVALID_TOPIC")),
        ("POST", ":reset", {"to": {"offsets": {"x": 1}}}, (400, "INVALID_REQUEST")),
        ("POST", ":reset", b"{", (400, "INVALID_REQUEST")),
    ],
)
async def test_bad_input_is_refused(door: Door, method: str, path: str, body: Any, failure: tuple[int, str]) -> None:
    await door.topic()
    headers = {"Content-Type": "application/json"}
    assert (await door(method, GROUP + path, body, headers=headers)).failure == failure


@pytest.mark.parametrize("name", ["%2F", "%3A", "a%20b", "%FF", "%00", "%ED%A0%80", "x" * 3_000, "%F0%9F%90%99"])
async def test_any_name_of_a_group_is_answered(door: Door, name: str) -> None:
    answer = await door("GET", f"/v1/groups/{name}")
    assert answer.failure == (404, "GROUP_ID_NOT_FOUND")
    assert (await door("POST", f"/v1/groups/{name}/members/m:poll", {})).failure == (404, "UNKNOWN_MEMBER_ID")
