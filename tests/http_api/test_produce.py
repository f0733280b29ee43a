"""Producing over HTTP: JSON batches, raw bodies, atomic and idempotent batches, partial failure."""

from typing import Any

import pytest

from logbroker.clock import ManualClock
from logbroker.errors import AppendUnknown, DiskFull
from logbroker.model import TopicPartition
from logbroker.records.partitioner import partition_for_key
from tests.engine.fake import FakeEngine
from tests.http_api.conftest import Door

pytestmark = pytest.mark.asyncio

RECORDS = "/v1/topics/orders/records"


async def test_records_answer_where_they_stand_in_the_order_of_the_request(door: Door, clock: ManualClock) -> None:
    await door.topic(partitions=2)
    now = clock.now().wall_ms
    results = await door.produce(
        {"value": "a", "partition": 1}, {"value": "b", "partition": 0, "timestamp_ms": 5}, {"value": "c", "partition": 1}
    )
    assert [(one["index"], one["partition"], one["timestamp_ms"]) for one in results] == [
        (0, 1, now),
        (1, 0, 5),
        (2, 1, now),
    ]
    assert results[2]["offset"] == results[0]["offset"] + 1
    page = await door.read(1)
    assert [(one["offset"], one["value"]) for one in page["records"]] == [
        (results[0]["offset"], "a"),
        (results[2]["offset"], "c"),
    ]


async def test_a_topic_that_stamps_append_time_answers_that_time(door: Door, clock: ManualClock) -> None:
    await door.topic(message_timestamp_type="LogAppendTime")
    [result] = await door.produce({"value": "a", "timestamp_ms": 5})
    assert result["timestamp_ms"] == clock.now().wall_ms
    assert (await door.read())["records"][0]["timestamp_ms"] == clock.now().wall_ms


async def test_a_key_chooses_the_partition_kafkas_java_client_would(door: Door) -> None:
    await door.topic(partitions=7)
    keys = [f"key-{number}" for number in range(20)]
    results = await door.produce(*({"key": key, "value": "x"} for key in keys))
    assert [one["partition"] for one in results] == [partition_for_key(key.encode(), 7) for key in keys]


async def test_records_without_a_key_stay_together_and_requests_take_turns(door: Door) -> None:
    await door.topic(partitions=3)
    used = []
    for _ in range(6):
        results = await door.produce({"value": "a"}, {"value": "b"})
        assert results[0]["partition"] == results[1]["partition"]
        used.append(results[0]["partition"])
    assert sorted(used) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("record", "pointer"),
    [
        ({"value": "a", "value_b64": "AA=="}, "#/records/1/value"),
        ({"value_json": 1, "value_b64": "AA=="}, "#/records/1/value_json"),
        ({"key": "k"}, "#/records/1/value"),
        ({"value": "a", "key": None, "key_b64": "AA=="}, "#/records/1/key"),
        ({"value": "a", "partition": 9}, "#/records/1/partition"),
        ({"value": "a", "partition": -1}, "#/records/1/partition"),
        ({"value": "a", "partition": 2**31}, "#/records/1/partition"),
        ({"value": "a", "timestamp_ms": -5}, "#/records/1/timestamp_ms"),
        ({"value": "a", "timestamp_ms": 2**62}, "#/records/1/timestamp_ms"),
        ({"value": "x" * 3_000}, "#/records/1/value"),
        ({"value": 3}, "#/records/1/value"),
        ({"value_b64": "!"}, "#/records/1/value_b64"),
        ({"value": "a", "headers": {"a": "b"}}, "#/records/1/headers"),
        ({"value": "a", "headers": [["a"]]}, "#/records/1/headers/0"),
        ({"value": "a", "headers": [["a", {"b64": "AA==", "x": 1}]]}, "#/records/1/headers/0/1"),
        ({"value": "a", "nix": 1}, "#/records/1"),
    ],
)
async def test_one_bad_record_refuses_the_whole_request(door: Door, record: dict[str, Any], pointer: str) -> None:
    await door.topic(partitions=2, max_message_bytes=2_000)
    answer = await door("POST", RECORDS, {"records": [{"value": "good", "partition": 0}, record]})
    assert answer.status in (400, 404, 413)
    assert answer.failure
    assert [one["pointer"] for one in answer.json["errors"]] == [pointer]
    assert await door.values(0) == await door.values(1) == []


async def test_each_bad_record_is_named(door: Door) -> None:
    await door.topic()
    records = [{"value": "a"}, {"value": "a", "partition": 5}, {"value": "b"}, {"value": "c", "partition": 7}]
    answer = await door("POST", RECORDS, {"records": records})
    assert answer.failure == (404, "UNKNOWN_TOPIC_OR_PARTITION")
    assert [one["pointer"] for one in answer.json["errors"]] == ["#/records/1/partition", "#/records/3/partition"]
    assert answer.json["kafka_code"] == 3


async def test_the_largest_record_that_fits_is_taken_and_one_byte_more_is_not(door: Door) -> None:
    await door.topic(max_message_bytes=1_000)
    sizes = [size for size in range(900, 1_001) if (await door("POST", RECORDS, _of_size(size))).status == 200]
    assert sizes == list(range(900, sizes[-1] + 1))
    assert (await door("POST", RECORDS, _of_size(sizes[-1] + 1))).failure == (413, "MESSAGE_TOO_LARGE")
    assert len(await door.values()) == len(sizes)


def _of_size(size: int) -> dict[str, Any]:
    return {"records": [{"value": "x" * size}]}


async def test_more_than_a_batch_holds_is_written_as_several_in_order(door: Door) -> None:
    await door.topic(max_message_bytes=1_000)
    results = await door.produce(*({"value": f"{number:0200}"} for number in range(20)))
    assert sorted(one["offset"] for one in results) == [one["offset"] for one in results]
    assert await door.values() == [f"{number:0200}" for number in range(20)]


async def test_an_atomic_request_is_one_batch_or_nothing(door: Door) -> None:
    await door.topic(max_message_bytes=1_000)
    big = {"records": [{"value": "x" * 300}] * 4}
    assert (await door("POST", RECORDS + "?atomic=true", big)).failure == (413, "MESSAGE_TOO_LARGE")
    assert await door.values() == []
    assert (await door("POST", RECORDS, big)).status == 200


async def test_an_atomic_request_goes_to_one_partition(door: Door) -> None:
    await door.topic(partitions=2)
    both = {"records": [{"value": "a", "partition": 0}, {"value": "b", "partition": 1}]}
    assert (await door("POST", RECORDS + "?atomic=true", both)).failure == (400, "INVALID_REQUEST")
    assert await door.values(0) == await door.values(1) == []
    one = {"records": [{"value": "a", "partition": 1}, {"value": "b", "partition": 1}]}
    assert (await door("POST", RECORDS + "?atomic=true", one)).status == 200


async def test_a_repeated_idempotent_batch_answers_its_first_offsets(door: Door) -> None:
    await door.topic()
    producer = (await door("POST", "/v1/producers", {})).json
    stamp = {"id": producer["producer_id"], "epoch": producer["epoch"], "base_sequence": 0}
    body: dict[str, Any] = {"records": [{"value": "a"}, {"value": "b"}], "producer": stamp}
    first = await door("POST", RECORDS, body)
    again = await door("POST", RECORDS, body)
    assert first.status == again.status == 200
    assert [one["offset"] for one in again.json["results"]] == [one["offset"] for one in first.json["results"]]
    assert await door.values() == ["a", "b"]
    gap = {**body, "producer": {**stamp, "base_sequence": 7}}
    assert (await door("POST", RECORDS, gap)).failure == (409, "OUT_OF_ORDER_SEQUENCE")


async def test_producer_ids_are_never_given_twice_and_transactions_are_refused(door: Door) -> None:
    ids = [(await door("POST", "/v1/producers", {})).json["producer_id"] for _ in range(3)]
    assert len(set(ids)) == 3
    refused = await door("POST", "/v1/producers", {"transactional_id": "t"})
    assert refused.failure == (400, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED")


async def test_an_empty_batch_writes_nothing(door: Door) -> None:
    await door.topic()
    assert (await door("POST", RECORDS, {"records": []})).json == {"results": []}


async def test_the_trace_of_the_request_is_kept_with_each_record(door: Door) -> None:
    await door.topic()
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await door("POST", RECORDS, {"records": [{"value": "a"}]}, headers={"traceparent": trace})
    await door("POST", RECORDS, {"records": [{"value": "b"}]}, headers={"traceparent": "nonsense"})
    first, second = (await door.read())["records"]
    assert first["headers"] == [["traceparent", trace]]
    assert second["headers"] == []


async def test_the_request_id_is_the_callers_or_a_new_one(door: Door) -> None:
    given = await door("GET", "/livez", headers={"X-Request-Id": "mine-1"})
    assert given.headers["X-Request-Id"] == "mine-1"
    first, second = [(await door("GET", "/livez")).headers["X-Request-Id"] for _ in range(2)]
    assert first != second
    wild = await door("GET", "/livez", headers={"X-Request-Id": "a b<c>"})
    assert wild.headers["X-Request-Id"] not in ("a b<c>", first, second)


# -- raw -------------------------------------------------------------------------------------------------------------


async def test_a_raw_body_is_one_record_with_its_metadata_in_headers(door: Door) -> None:
    await door.topic(partitions=2)
    headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "Logbroker-Key": "k",
        "Logbroker-Partition": "1",
        "Logbroker-Timestamp-Ms": "77",
        "Logbroker-Header-Region": "eu",
    }
    answer = await door("POST", RECORDS, b"\x00\xff raw", headers=headers)
    assert (answer.status, answer.json["partition"], answer.json["timestamp_ms"]) == (200, 1, 77)
    back = await door("GET", f"/v1/topics/orders/partitions/1/records/{answer.json['offset']}")
    assert back.json == {
        "partition": 1,
        "offset": answer.json["offset"],
        "timestamp_ms": 77,
        "key": "k",
        "headers": [["Region", "eu"], ["content-type", "text/plain; charset=utf-8"]],
        "value_b64": "AP8gcmF3",
    }
    raw = await door(
        "GET",
        f"/v1/topics/orders/partitions/1/records/{answer.json['offset']}",
        headers={"Accept": "application/octet-stream"},
    )
    assert raw.body == b"\x00\xff raw"
    assert raw.headers["Content-Security-Policy"].startswith("sandbox")
    for name in headers:
        assert raw.headers[name] == headers[name]


async def test_bytes_without_a_type_get_no_content_type_header(door: Door) -> None:
    await door.topic()
    await door("POST", RECORDS, b"x", headers={"Logbroker-Key-B64": "/w=="})
    [record] = (await door.read())["records"]
    assert (record["headers"], record["key_b64"], record["value"]) == ([], "/w==", "x")


@pytest.mark.parametrize(
    "headers",
    [
        {"Logbroker-Key": "a", "Logbroker-Key-B64": "AA=="},
        {"Logbroker-Key-B64": "!"},
        {"Logbroker-Partition": "x"},
        {"Logbroker-Partition": "-1"},
        {"Logbroker-Timestamp-Ms": "99999999999999999999"},
        {"Logbroker-Delay-Ms": "5"},
        {"Logbroker-Nix": "5"},
    ],
)
async def test_bad_metadata_of_a_raw_record_is_refused(door: Door, headers: dict[str, str]) -> None:
    await door.topic()
    assert (await door("POST", RECORDS, b"x", headers=headers)).failure == (400, "INVALID_REQUEST")
    assert await door.values() == []


async def test_what_a_form_sends_is_not_taken_for_a_record(door: Door) -> None:
    await door.topic()
    for media in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = await door("POST", RECORDS, b'{"records":[]}', headers={"Content-Type": media})
        assert answer.failure == (415, "UNSUPPORTED_MEDIA_TYPE")
    batches = await door("POST", RECORDS, b"x", headers={"Content-Type": "application/vnd.logbroker.recordbatch"})
    assert batches.failure == (415, "UNSUPPORTED_MEDIA_TYPE")


# -- what fails while writing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["fake"], indirect=True)
async def test_a_partition_that_fails_does_not_take_the_others_with_it(door: Door, engine: FakeEngine) -> None:
    await door.topic(partitions=2)
    engine.fail_next_append(DiskFull("no space"), TopicPartition("orders", 1))
    answer = await door("POST", RECORDS, {"records": [{"value": "a", "partition": 0}, {"value": "b", "partition": 1}]})
    assert answer.status == 207
    good, bad = answer.json["results"]
    assert (good["index"], good["partition"]) == (0, 0)
    assert (bad["index"], bad["error"]["code"], bad["error"]["status"]) == (1, "DISK_FULL", 507)
    assert "offset" not in bad
    assert (await door.values(0), await door.values(1)) == (["a"], [])


@pytest.mark.parametrize("engine", ["fake"], indirect=True)
async def test_when_all_fail_alike_the_answer_is_that_failure(
    door: Door, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    await door.topic()
    engine.fail_next_append(DiskFull("no space"))
    assert (await door("POST", RECORDS, {"records": [{"value": "a"}] * 3})).failure == (507, "DISK_FULL")
    caplog.clear()


@pytest.mark.parametrize("engine", ["fake"], indirect=True)
async def test_an_unknown_outcome_is_told_as_such_and_may_be_tried_again(door: Door, engine: FakeEngine) -> None:
    await door.topic()
    engine.fail_next_append(AppendUnknown())
    answer = await door("POST", RECORDS, {"records": [{"value": "a"}]})
    assert answer.failure == (503, "APPEND_UNKNOWN")
    assert answer.json["retriable"] is True
    assert answer.headers["Retry-After"] == "1"
    assert await door.values() == ["a"]


@pytest.mark.parametrize("engine", ["fake"], indirect=True)
async def test_after_a_failed_batch_nothing_later_of_that_partition_is_written(
    door: Door, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    await door.topic(max_message_bytes=1_000)
    engine.fail_next_append(DiskFull("no space"))
    records = [{"value": f"{number:0400}"} for number in range(6)]
    assert (await door("POST", RECORDS, {"records": records})).failure == (507, "DISK_FULL")
    assert await door.values() == []
    caplog.clear()


# -- record batches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["fake"], indirect=True)
async def test_an_engine_without_raw_batches_says_so(door: Door) -> None:
    await door.topic()
    assert (await door("POST", "/v1/topics/orders/partitions/0/batches", b"x")).failure == (501, "NOT_SUPPORTED")
    read = await door(
        "GET", "/v1/topics/orders/partitions/0/records", headers={"Accept": "application/vnd.logbroker.recordbatch"}
    )
    assert read.failure == (501, "NOT_SUPPORTED")


@pytest.mark.parametrize("engine", ["memory"], indirect=True)
async def test_record_batches_go_from_one_topic_to_another_as_they_are(door: Door) -> None:
    await door.topic("orders")
    await door.topic("copy")
    await door.produce({"value": "a", "key": "k", "headers": [["h", None]]}, {"value": None})
    await door.produce({"value": "c"})
    accept = {"Accept": "application/vnd.logbroker.recordbatch"}
    read = await door("GET", "/v1/topics/orders/partitions/0/records?offset=0", headers=accept)
    assert read.headers["Content-Type"] == accept["Accept"]
    assert read.headers["Logbroker-Next-Offset"] == "3"
    sent = await door("POST", "/v1/topics/copy/partitions/0/batches", read.body, headers={"Content-Type": accept["Accept"]})
    assert sent.json == {"base_offset": 0, "last_offset": 2}
    assert (await door.read(topic="copy"))["records"] == (await door.read())["records"]


@pytest.mark.parametrize("engine", ["memory"], indirect=True)
async def test_a_damaged_record_batch_is_refused_whole(door: Door) -> None:
    await door.topic()
    await door.produce({"value": "a"})
    accept = {"Accept": "application/vnd.logbroker.recordbatch"}
    good = (await door("GET", "/v1/topics/orders/partitions/0/records", headers=accept)).body
    damaged = good[:-1] + bytes([good[-1] ^ 1])
    for body in (damaged, good[:-1], good + damaged, b"nonsense"):
        answer = await door("POST", "/v1/topics/orders/partitions/0/batches", body)
        assert answer.failure == (400, "CORRUPT_MESSAGE")
    assert (await door("POST", "/v1/topics/orders/partitions/0/batches", b"")).failure == (400, "INVALID_REQUEST")
    assert await door.values() == ["a"]
