"""Reading over HTTP: positions, limits, long polls, encodings, many partitions, record by record."""

import asyncio
from typing import Any

import aiohttp
import pytest

from logbroker.clock import ManualClock
from tests.engine.fake import FakeEngine
from tests.http_api.conftest import Door, eventually

pytestmark = pytest.mark.asyncio

RECORDS = "/v1/topics/orders/partitions/0/records"


async def numbered(door: Door, count: int) -> list[int]:
    """Produce ``count`` records, each in its own append, and return their offsets."""
    return [(await door.produce({"value": str(number)}))[0]["offset"] for number in range(count)]


async def until_waiting(door: Door, count: int = 1) -> None:
    """Return when ``count`` requests wait for records."""
    await eventually(lambda: door.services.waiting.count >= count)


async def test_reading_on_from_next_offset_gives_every_record_once(door: Door) -> None:
    await door.topic()
    await numbered(door, 7)
    values, offset, truncated = [], 0, True
    while truncated:
        page = await door.read(query=f"?offset={offset}&max_records=3")
        assert page["scanned"] == len(page["records"]) <= 3
        values += [record["value"] for record in page["records"]]
        offset, truncated = page["next_offset"], page["truncated"]
    assert values == [str(number) for number in range(7)]
    assert offset == page["high_watermark"]


async def test_without_a_position_a_read_starts_at_the_log_start(door: Door) -> None:
    await door.topic()
    offsets = await numbered(door, 4)
    await door("POST", "/v1/topics/orders:trim", {"partitions": [{"partition": 0, "before_offset": offsets[2]}]})
    assert await door.values() == ["2", "3"]


async def test_a_read_by_time_starts_at_the_first_record_at_or_after_it(door: Door) -> None:
    await door.topic()
    for timestamp in (10, 30, 20, 40):
        await door.produce({"value": str(timestamp), "timestamp_ms": timestamp})
    assert await door.values(query="?timestamp_ms=20") == ["30", "20", "40"]
    assert await door.values(query="?timestamp_ms=40") == ["40"]
    late = await door.read(query="?timestamp_ms=41")
    assert (late["records"], late["next_offset"]) == ([], late["high_watermark"])


@pytest.mark.parametrize("count", [1, 3, 5, 99])
async def test_the_last_n_records_are_n_records_whatever_the_gaps(door: Door, count: int) -> None:
    await door.topic()
    await numbered(door, 5)
    assert await door.values(query=f"?last={count}") == ["0", "1", "2", "3", "4"][-count:]


async def test_an_offset_outside_the_log_is_416_and_says_what_is_inside(door: Door) -> None:
    await door.topic()
    offsets = await numbered(door, 4)
    await door("POST", "/v1/topics/orders:trim", {"partitions": [{"partition": 0, "before_offset": offsets[2]}]})
    end = (await door.read())["high_watermark"]
    for offset in (0, end + 1, 2**63 - 1):
        answer = await door("GET", f"{RECORDS}?offset={offset}")
        assert answer.failure == (416, "OFFSET_OUT_OF_RANGE")
        assert answer.json["kafka_code"] == 1
        assert (answer.json["log_start_offset"], answer.json["high_watermark"]) == (offsets[2], end)
    assert await door.values(query="?offset=0&on_out_of_range=earliest") == ["2", "3"]
    assert (await door.read(query="?offset=0&on_out_of_range=latest"))["next_offset"] == end
    assert await door.values(query=f"?offset={end}") == []


async def test_a_record_larger_than_max_bytes_is_answered_alone(door: Door) -> None:
    await door.topic()
    await door.produce({"value": "x" * 5_000})
    await door.produce({"value": "y"})
    page = await door.read(query="?max_bytes=10")
    assert ([len(record["value"]) for record in page["records"]], page["truncated"]) == ([5_000], True)


@pytest.mark.parametrize(
    "query",
    [
        "offset=0&last=1",
        "offset=0&timestamp_ms=0",
        "offset=-1",
        "offset=x",
        "offset=9223372036854775808",
        "offset=0&offset=1",
        "last=0",
        "wait_ms=60001",
        "max_records=0",
        "max_bytes=0",
        "encoding=xml",
        "isolation=none",
        "nix=1",
        "on_out_of_range=panic",
    ],
)
async def test_a_query_that_makes_no_sense_is_400(door: Door, query: str) -> None:
    await door.topic()
    assert (await door("GET", f"{RECORDS}?{query}")).failure == (400, "INVALID_REQUEST")


# -- waiting ---------------------------------------------------------------------------------------------------------


async def test_a_long_poll_is_woken_by_a_produce(door: Door) -> None:
    await door.topic()
    poll = asyncio.create_task(door.values(query="?wait_ms=30000"))
    await until_waiting(door)
    await door.produce({"value": "news"})
    assert await asyncio.wait_for(poll, 5) == ["news"]
    assert door.services.waiting.count == 0


async def test_a_long_poll_waits_for_min_bytes(door: Door) -> None:
    await door.topic()
    poll = asyncio.create_task(door.values(query="?wait_ms=30000&min_bytes=6"))
    for value in ("abc", "def"):
        await until_waiting(door)
        assert not poll.done()
        await door.produce({"value": value})
    assert await asyncio.wait_for(poll, 5) == ["abc", "def"]


async def test_a_long_poll_that_sees_nothing_answers_empty_in_time(door: Door) -> None:
    await door.topic()
    page = await door.read(query="?wait_ms=20")
    assert (page["records"], page["next_offset"], page["truncated"]) == ([], 0, False)


async def test_a_long_poll_whose_client_has_gone_leaves_nothing_behind(door: Door) -> None:
    await door.topic()
    body = wanted(("orders", 0, 0), wait_ms=60_000)
    async with aiohttp.ClientSession() as other:
        polls = [
            asyncio.create_task(other.get(f"{door.url}{RECORDS}?wait_ms=60000")),
            asyncio.create_task(other.post(f"{door.url}/v1/fetch", json=body)),
        ]
        await until_waiting(door, 2)
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
    await eventually(lambda: door.services.waiting.count == 0)
    engine = door.services.engine
    if isinstance(engine, FakeEngine):
        await eventually(lambda: engine.waiting == 0)


async def test_a_long_poll_answers_at_once_when_the_broker_stops(door: Door) -> None:
    await door.topic()
    poll = asyncio.create_task(door.values(query="?wait_ms=60000"))
    await until_waiting(door)
    door.services.lifecycle.closing.set()
    assert await asyncio.wait_for(poll, 5) == []


async def test_a_long_poll_on_a_topic_that_is_deleted_ends_with_404(door: Door) -> None:
    await door.topic()
    poll = asyncio.create_task(door("GET", f"{RECORDS}?wait_ms=60000"))
    await until_waiting(door)
    await door("DELETE", "/v1/topics/orders")
    assert (await asyncio.wait_for(poll, 5)).failure == (404, "UNKNOWN_TOPIC_OR_PARTITION")


# -- forms -----------------------------------------------------------------------------------------------------------


async def test_every_form_of_a_payload_comes_back_as_it_was_given(door: Door) -> None:
    await door.topic()
    sent: list[dict[str, Any]] = [
        {"value": "text ü", "key": "k"},
        {"value_json": {"a": [1, 2.50, 12345678901234567890123]}, "key_json": {"k": 1}},
        {"value_b64": "/wA=", "key_b64": "/w=="},
        {"value": None},
        {"value": ""},
        {"value_json": None},
        {"value": "x", "headers": [["a", "1"], ["a", "2"], ["b", {"b64": "/w=="}], ["c", None]]},
    ]
    await door.produce(*sent)
    records = (await door.read())["records"]
    assert [record.get("value", "-") for record in records] == ["text ü", "-", "-", None, "", "-", "x"]
    assert records[1]["value_json"] == {"a": [1, 2.5, 12345678901234567890123]}
    assert records[1]["headers"] == [["content-type", "application/json"]]
    assert records[1]["key"] == '{"k": 1}'
    assert (records[2]["value_b64"], records[2]["key_b64"]) == ("/wA=", "/w==")
    assert records[5]["value_json"] is None
    assert records[6]["headers"] == sent[6]["headers"]


async def test_numbers_in_json_values_keep_every_digit(door: Door) -> None:
    await door.topic()
    body = b'{"records":[{"value_json":{"n": 1.10, "big": 123456789012345678901234567890}}]}'
    await door("POST", "/v1/topics/orders/records", body, headers={"Content-Type": "application/json"})
    answer = await door("GET", RECORDS)
    assert b'{"n": 1.10, "big": 123456789012345678901234567890}' in answer.body


async def test_the_reader_chooses_the_encoding(door: Door) -> None:
    await door.topic()
    await door.produce({"value_json": {"a": 1}}, {"value": '{"a":1}'}, {"value_b64": "/w=="})
    shapes = {
        "auto": ["value_json", "value", "value_b64"],
        "text": ["value", "value", "value_b64"],
        "json": ["value_json", "value_json", "value_b64"],
        "b64": ["value_b64", "value_b64", "value_b64"],
    }
    for encoding, fields in shapes.items():
        records = (await door.read(query=f"?encoding={encoding}"))["records"]
        assert [next(name for name in record if name.startswith("value")) for record in records] == fields


async def test_fields_meta_tells_sizes_instead_of_contents(door: Door) -> None:
    await door.topic()
    await door.produce({"value": "abc", "key": "k"}, {"value": None})
    first, second = (await door.read(query="?fields=meta"))["records"]
    assert (first["key_bytes"], first["value_bytes"]) == (1, 3)
    assert (second["key_bytes"], second["value_bytes"]) == (None, None)
    assert not {"value", "key", "headers"} & first.keys()


async def test_ndjson_gives_a_line_per_record_and_the_rest_in_headers(door: Door) -> None:
    await door.topic()
    await door.produce({"value_json": "a"}, {"value": "b"}, {"value": "c"})
    await door("POST", "/v1/topics/orders/records", b'{\n"a": 1\n}', headers={"Content-Type": "application/x-a+json2"})
    await door.produce({"value_b64": "ewoiYSI6CjEKfQ==", "headers": [["Content-Type", "application/vnd.x+json"]]})
    answer = await door("GET", f"{RECORDS}?max_records=9", headers={"Accept": "application/x-ndjson"})
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert [line.get("value", line.get("value_json")) for line in answer.lines] == ["a", "b", "c", '{\n"a": 1\n}', {"a": 1}]
    page = await door.read()
    assert answer.headers["Logbroker-Next-Offset"] == str(page["next_offset"])
    assert answer.headers["Logbroker-High-Watermark"] == str(page["high_watermark"])
    assert answer.headers["Logbroker-Truncated"] == "false"


# -- one record ------------------------------------------------------------------------------------------------------


async def test_one_record_is_found_by_its_offset(door: Door) -> None:
    await door.topic()
    offsets = await numbered(door, 3)
    answer = await door("GET", f"{RECORDS}/{offsets[1]}")
    assert (answer.json["offset"], answer.json["value"]) == (offsets[1], "1")
    assert (await door("GET", f"{RECORDS}/{offsets[2] + 1000}")).failure == (416, "OFFSET_OUT_OF_RANGE")
    assert (await door("GET", f"{RECORDS}/x")).failure == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("engine", ["fake"], indirect=True)
async def test_an_offset_in_a_gap_is_404_and_names_its_neighbours(door: Door) -> None:
    await door.topic()
    first, second = await numbered(door, 2)
    answer = await door("GET", f"{RECORDS}/{first + 1}")
    assert answer.failure == (404, "MESSAGE_NOT_FOUND")
    assert (answer.json["previous_offset"], answer.json["next_offset"]) == (first, second)


async def test_a_tombstone_is_told_apart_from_an_empty_value_also_raw(door: Door) -> None:
    await door.topic()
    empty, tombstone = await door.produce({"value": ""}, {"value": None})
    accept = {"Accept": "application/octet-stream"}
    first = await door("GET", f"{RECORDS}/{empty['offset']}", headers=accept)
    second = await door("GET", f"{RECORDS}/{tombstone['offset']}", headers=accept)
    assert (first.body, second.body) == (b"", b"")
    assert "Logbroker-Tombstone" not in first.headers
    assert second.headers["Logbroker-Tombstone"] == "true"


async def test_header_values_that_http_cannot_carry_are_counted_not_sent(door: Door) -> None:
    await door.topic()
    hostile = "x\r\nSet-Cookie: a=b"
    headers = [["good", "1"], ["evil", hostile], ["bin", {"b64": "/w=="}], ["na me", "v"], ["null", None]]
    [result] = await door.produce({"value": "v", "headers": headers, "key": "k\nX: y"})
    answer = await door("GET", f"{RECORDS}/{result['offset']}", headers={"Accept": "application/octet-stream"})
    assert answer.status == 200
    assert answer.headers["Logbroker-Header-good"] == "1"
    assert answer.headers["Logbroker-Headers-Omitted"] == "4"
    assert answer.headers["Logbroker-Key-B64"] == "awpYOiB5"
    assert "Set-Cookie" not in answer.headers


# -- many partitions -------------------------------------------------------------------------------------------------


def wanted(*starts: tuple[str, int, int], **limits: Any) -> dict[str, Any]:
    partitions = [{"topic": topic, "partition": number, "offset": offset} for topic, number, offset in starts]
    return {"partitions": partitions, **limits}


async def test_many_partitions_are_read_at_once(door: Door) -> None:
    await door.topic("a", 2)
    await door.topic("b")
    await door.produce({"value": "a1", "partition": 1}, topic="a")
    await door.produce({"value": "b0"}, topic="b")
    answer = await door("POST", "/v1/fetch", wanted(("a", 0, 0), ("a", 1, 0), ("b", 0, 0)))
    assert answer.status == 200
    parts = answer.json["partitions"]
    assert [(part["topic"], part["partition"]) for part in parts] == [("a", 0), ("a", 1), ("b", 0)]
    assert [[record["value"] for record in part["records"]] for part in parts] == [[], ["a1"], ["b0"]]


async def test_a_fetch_of_many_is_woken_by_any_of_them(door: Door) -> None:
    await door.topic("a", 2)
    poll = asyncio.create_task(door("POST", "/v1/fetch", wanted(("a", 0, 0), ("a", 1, 0), wait_ms=30_000)))
    await until_waiting(door)
    await door.produce({"value": "x", "partition": 1}, topic="a")
    answer = await asyncio.wait_for(poll, 5)
    assert [len(part["records"]) for part in answer.json["partitions"]] == [0, 1]


async def test_one_unreadable_partition_does_not_hide_the_others(door: Door) -> None:
    await door.topic(partitions=2)
    await door.produce({"value": "x", "partition": 0})
    answer = await door("POST", "/v1/fetch", wanted(("orders", 0, 0), ("orders", 1, 99), wait_ms=60_000))
    assert answer.status == 207
    good, bad = answer.json["partitions"]
    assert [record["value"] for record in good["records"]] == ["x"]
    assert (bad["index"], bad["error"]["code"], bad["error"]["high_watermark"]) == (1, "OFFSET_OUT_OF_RANGE", 0)
    alone = await door("POST", "/v1/fetch", wanted(("orders", 1, 99)))
    assert alone.failure == (416, "OFFSET_OUT_OF_RANGE")


async def test_the_limits_hold_for_all_partitions_together(door: Door) -> None:
    await door.topic(partitions=2)
    await door.produce(*({"value": "x" * 100, "partition": number % 2} for number in range(20)))
    answer = await door("POST", "/v1/fetch", wanted(("orders", 0, 0), ("orders", 1, 0), max_records=12))
    assert [len(part["records"]) for part in answer.json["partitions"]] == [10, 2]
    assert [part["truncated"] for part in answer.json["partitions"]] == [False, True]


async def test_a_fetch_of_unknown_or_repeated_partitions_is_refused_whole(door: Door) -> None:
    await door.topic()
    unknown = await door("POST", "/v1/fetch", wanted(("orders", 0, 0), ("nix", 0, 0)))
    assert unknown.failure == (404, "UNKNOWN_TOPIC_OR_PARTITION")
    twice = await door("POST", "/v1/fetch", wanted(("orders", 0, 0), ("orders", 0, 1)))
    assert twice.failure == (400, "INVALID_REQUEST")
    filtered = await door("POST", "/v1/fetch", wanted(("orders", 0, 0), filter="x"))
    assert filtered.failure == (400, "FILTER_INVALID")
    assert (await door("POST", "/v1/fetch", {"partitions": []})).failure == (400, "INVALID_REQUEST")


async def test_a_fetched_record_counts_as_read(door: Door, clock: ManualClock) -> None:
    await door.topic()
    await door.produce({"value": "abc"})
    await door.read()
    text = (await door("GET", "/metrics")).body.decode()
    assert 'logbroker_topic_records_out_total{topic="orders"} 1.0' in text
    assert 'logbroker_topic_bytes_out_total{topic="orders"} 3.0' in text
