"""Filters over HTTP: fetch, tail, peek, redrive, and trying one out."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest

from logbroker.clock import ManualClock
from tests.http_api.conftest import Door, eventually
from tests.http_api.test_dead_letters import bury, finished, peek, queue  # noqa: F401 - a fixture
from tests.http_api.test_queues import Queue, values
from tests.http_api.test_tail import tailing

pytestmark = pytest.mark.asyncio


def by(text: str) -> str:
    """The parameter of a query."""
    return "filter=" + quote(text)


EU = by('headers.region == "eu"').removeprefix("filter=")


async def fill(door: Door, count: int, partitions: int = 1) -> None:
    await door.topic(partitions=partitions)
    await door.produce(
        *(
            {
                "value_json": {"n": n},
                "key": str(n),
                "headers": [["region", "eu" if n % 3 == 0 else "us"]],
                "partition": n % partitions,
            }
            for n in range(count)
        )
    )


async def test_a_fetch_answers_what_matches_and_how_much_was_looked_at(door: Door) -> None:
    await fill(door, 10)
    page = await door.read(query=f"?filter={EU}")
    assert [record["key"] for record in page["records"]] == ["0", "3", "6", "9"]
    assert (page["scanned"], page["truncated"]) == (10, False)
    assert page["next_offset"] == page["high_watermark"]
    lines = await door(
        "GET", f"/v1/topics/orders/partitions/0/records?filter={EU}", headers={"Accept": "application/x-ndjson"}
    )
    assert [line["key"] for line in lines.lines] == ["0", "3", "6", "9"]
    assert lines.headers["Logbroker-Scanned"] == "10"


async def test_a_fetch_goes_on_where_its_limit_cut_it(door: Door) -> None:
    await fill(door, 10)
    keys: list[str] = []
    scanned, offset = 0, 0
    for _ in range(10):
        page = await door.read(query=f"?filter={EU}&max_records=1&offset={offset}")
        keys += [record["key"] for record in page["records"]]
        scanned, offset = scanned + page["scanned"], page["next_offset"]
        if not page["truncated"]:
            break
    assert keys == ["0", "3", "6", "9"]
    assert scanned == 10


async def test_a_fetch_waits_for_a_record_that_matches(door: Door) -> None:
    await fill(door, 3)
    poll = asyncio.create_task(door.read(query="?" + by('key == "x"') + "&wait_ms=30000"))
    await eventually(lambda: door.services.waiting.count == 1)
    await door.produce({"value": "no", "key": "y"})
    await door.produce({"value": "yes", "key": "x"})
    page = await asyncio.wait_for(poll, 5)
    assert [record["value"] for record in page["records"]] == ["yes"]
    assert page["scanned"] == 5


async def test_a_fetch_over_many_partitions_filters_and_moves_on(door: Door) -> None:
    await fill(door, 12, partitions=2)
    starts = [{"topic": "orders", "partition": number, "offset": 0} for number in (0, 1)]
    answer = await door("POST", "/v1/fetch", {"partitions": starts, "filter": 'value.n >= 10 && headers.region == "us"'})
    parts = answer.json["partitions"]
    assert [[record["key"] for record in part["records"]] for part in parts] == [["10"], ["11"]]
    assert [part["scanned"] for part in parts] == [6, 6]


async def test_a_bad_filter_is_400_with_its_column(door: Door) -> None:
    await door.topic()
    for answer in (
        await door("GET", "/v1/topics/orders/partitions/0/records?" + by("key == nix")),
        await door("POST", "/v1/filters:test", {"filter": "key == nix", "sample": {"value": "x"}}),
    ):
        assert answer.failure == (400, "FILTER_INVALID")
        assert (answer.json["line"], answer.json["column"]) == (1, 8)
    batches = await door(
        "GET",
        "/v1/topics/orders/partitions/0/records?filter=true",
        headers={"Accept": "application/vnd.logbroker.recordbatch"},
    )
    assert batches.failure == (400, "INVALID_REQUEST")


async def test_records_on_which_a_filter_fails_are_counted(door: Door) -> None:
    await fill(door, 4)
    assert (await door.read(query="?" + by("value.absent == 1")))["records"] == []
    assert 'logbroker_filter_errors_total{topic="orders"} 4' in (await door("GET", "/metrics")).body.decode()


@pytest.mark.parametrize("text", ["value.l.exists(x, x == 1)", "value.kind == 'a'"])
async def test_a_scan_lets_others_work(door: Door, text: str) -> None:
    await door.topic()
    body = json.dumps({"kind": "b", "l": list(range(2, 300))})
    for _ in range(4):
        await door.produce(*({"value": body} for _ in range(100)))
    longest, last = 0.0, asyncio.get_running_loop().time()
    read = asyncio.create_task(door.read(query="?" + by(text)))
    while not read.done():
        await asyncio.sleep(0)
        now = asyncio.get_running_loop().time()
        longest, last = max(longest, now - last), now
    assert (await read)["scanned"] == 400
    assert longest < 0.1, "on a quiet machine it is under 10 ms"


async def test_a_tail_gives_what_matches_and_passes_the_rest(door: Door, clock: ManualClock) -> None:
    await fill(door, 6)
    async with tailing(door, f"?from=earliest&filter={EU}") as stream:
        assert [(await stream.next()).data["key"] for _ in range(2)] == ["0", "3"]
        await door.produce({"value": "x", "key": "other"})
        await door.produce({"value": "x", "key": "mine", "headers": [["region", "eu"]]})
        event = await stream.next()
        assert event.data["key"] == "mine"
    async with tailing(door, f"?filter={EU}", **{"Last-Event-ID": event.id}) as stream:
        await door.produce({"value": "x", "key": "next", "headers": [["region", "eu"]]})
        assert (await stream.next()).data["key"] == "next"


@pytest.mark.parametrize(
    ("body", "result", "error"),
    [
        ({"filter": "value.a == 1", "sample": {"value_json": {"a": 1}}}, "match", None),
        ({"filter": "value.a == 1", "sample": {"value_json": {"a": 2}}}, "no_match", None),
        ({"filter": "value.b == 1", "sample": {"value_json": {"a": 2}}}, "error", 'Key not found in map : "b"'),
        ({"filter": 'headers.b == "1"', "sample": {"value": "x"}}, "error", 'Key not found in map : "b"'),
        ({"filter": "failures > 2", "sample": {"value": "x"}, "letter": {"failures": 3}}, "match", None),
        ({"filter": 'topic == "orders" && key == "4"', "topic": "orders", "offset": 0}, "no_match", None),
        ({"filter": 'topic == "orders" && key == "0"', "topic": "orders", "offset": 0}, "match", None),
    ],
)
async def test_a_filter_can_be_tried_out(door: Door, body: Any, result: str, error: str | None) -> None:
    await fill(door, 5)
    answer = await door("POST", "/v1/filters:test", body)
    assert answer.json == {"matches": result == "match", "result": result, "error": error}


@pytest.mark.parametrize("body", [{"filter": "true"}, {"filter": "true", "sample": {"value": "x"}, "offset": 1}])
async def test_a_filter_is_tried_on_one_record(door: Door, body: Any) -> None:
    assert (await door("POST", "/v1/filters:test", body)).failure == (400, "INVALID_REQUEST")


async def test_dead_letters_are_found_by_a_filter(queue: Queue) -> None:  # noqa: F811
    await queue.create()
    await bury(queue, "a", reason="timeout in db")
    await bury(queue, "b", reason="no such user")
    assert values(await peek(queue, "dead", "&" + by('error.contains("timeout") && failures == 1'))) == ["a"]
    assert values(await peek(queue, "dead", "&" + by('reason == "rejected" && topic == "jobs" && value == "b"'))) == ["b"]
    assert await peek(queue, "dead", "&" + by("value.absent == 1")) == []
    assert values(await peek(queue, "dead", "&" + by('["a"].exists(x, x == value)'))) == ["a"]
    lines = await queue.door(
        "GET",
        f"{queue.path}/messages?state=dead&" + by('value == "b"'),
        headers={"Accept": "application/x-ndjson"},
    )
    assert values(lines.lines) == ["b"]
    assert 'logbroker_queue_filter_errors_total{queue="jobs"} 2' in (await queue.door("GET", "/metrics")).body.decode()
    bad = await queue.door("GET", f"{queue.path}/messages?filter=nix")
    assert bad.failure == (400, "FILTER_INVALID")


async def test_dead_letters_that_match_are_sent_back_or_dropped(queue: Queue) -> None:  # noqa: F811
    await queue.create()
    await bury(queue, "a", "b", "c")
    assert (await queue("redrive", {"filter": 'value == "a"'})).json["matched"] == 1
    begun = await queue("redrive", {"filter": 'value == "a"', "dry_run": False})
    assert (await finished(queue, begun.json["operation"]))["done"] == 1
    assert values(await queue.receive(10)) == ["a"]
    begun = await queue("discard", {"filter": 'value == "b"', "confirm": "jobs"})
    assert (await finished(queue, begun.json["operation"]))["done"] == 1
    assert values(await peek(queue, "dead")) == ["c"]
    assert (await queue("discard", {"filter": "nix", "confirm": "jobs"})).failure == (400, "FILTER_INVALID")
    for dry_run in (True, False):
        assert (await queue("redrive", {"filter": "nix", "dry_run": dry_run})).failure == (400, "FILTER_INVALID")
