"""Produce by hand against kafka-python and kio, in every version."""

import struct
from random import Random
from typing import Any

import pytest

from logbroker.errors import InvalidRequest
from logbroker.wire.apis import Api
from logbroker.wire.produce import (
    PartitionAppended,
    ProduceRequest,
    TopicAppended,
    decode_request,
    encode_response,
)
from tests.wire.peers import kafka_python_decode, kafka_python_encode, kio_decode, plain, sample

VERSIONS = range(3, 13)


def request_bytes(version: int, seed: int) -> tuple[dict[str, Any], bytes]:
    values = sample("ProduceRequest", version, Random(seed))
    return values, kafka_python_encode("ProduceRequest", version, values)


def as_values(request: ProduceRequest) -> dict[str, Any]:
    """In the shape and by the names of Kafka's definition."""
    return {
        "transactional_id": request.transactional_id,
        "acks": request.acks,
        "timeout_ms": request.timeout_ms,
        "topic_data": [
            {
                "name": topic.name,
                "partition_data": [
                    {"index": entry.partition, "records": None if entry.records is None else bytes(entry.records)}
                    for entry in topic.partitions
                ],
            }
            for topic in request.topics
        ],
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_by_kafka_python_is_decoded_to_the_same_values(version: int) -> None:
    for seed in range(30):
        values, body = request_bytes(version, seed)
        assert as_values(decode_request(version, memoryview(body))) == plain(values, "ProduceRequest", version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_cut_short_anywhere_is_refused(version: int) -> None:
    for seed in range(10):
        _, body = request_bytes(version, seed)
        for cut in range(len(body)):
            with pytest.raises(InvalidRequest):
                decode_request(version, memoryview(body)[:cut])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_damaged_request_is_decoded_or_refused_and_nothing_else(version: int) -> None:
    random = Random(version)
    for seed in range(300):
        _, body = request_bytes(version, seed % 10)
        damaged = bytearray(body)
        for _ in range(random.choice((1, 2, 8))):
            damaged[random.randrange(len(damaged))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
        try:
            as_values(decode_request(version, memoryview(damaged)))
        except InvalidRequest:
            continue


def test_records_are_views_into_the_request() -> None:
    values = {
        "transactional_id": None,
        "acks": -1,
        "timeout_ms": 1,
        "topic_data": ({"name": "t", "partition_data": ({"index": 0, "records": b"before"},)},),
    }
    buffer = bytearray(kafka_python_encode("ProduceRequest", 9, values))
    records = decode_request(9, memoryview(buffer)).topics[0].partitions[0].records
    buffer[:] = buffer.replace(b"before", b"behind")
    assert records is not None
    assert bytes(records) == b"behind"


RESPONSE = [
    TopicAppended(
        "orders",
        [
            PartitionAppended(0, 0, 41, 1_700_000_000_000, 7),
            PartitionAppended(3, 87, -1, -1, -1, [(2, "no key"), (5, None)], "two records have no key"),
        ],
    ),
    TopicAppended("empty", []),
]


def expected_response(version: int) -> dict[str, Any]:
    partitions = []
    for result in RESPONSE[0].partitions:
        entry: dict[str, Any] = {
            "index": result.partition,
            "error_code": result.error_code,
            "base_offset": result.base_offset,
            "log_append_time_ms": result.log_append_time_ms,
        }
        if version >= 5:
            entry["log_start_offset"] = result.log_start_offset
        if version >= 8:
            entry["record_errors"] = [
                {"batch_index": index, "batch_index_error_message": message} for index, message in result.record_errors
            ]
            entry["error_message"] = result.error_message
        if version >= 10:
            entry["current_leader"] = {"leader_id": -1, "leader_epoch": -1}
        partitions.append(entry)
    expected: dict[str, Any] = {
        "responses": [
            {"name": "orders", "partition_responses": partitions},
            {"name": "empty", "partition_responses": []},
        ],
        "throttle_time_ms": 250,
    }
    if version >= 10:
        expected["node_endpoints"] = []
    return expected


@pytest.mark.parametrize("version", VERSIONS)
def test_a_response_is_read_by_others_to_the_same_values(version: int) -> None:
    body = bytes(encode_response(version, RESPONSE, throttle_time_ms=250))
    expected = expected_response(version)
    assert kio_decode(Api.PRODUCE, "Response", version, body) == (expected, len(body))
    for topic in expected["responses"]:
        for entry in topic["partition_responses"]:
            if "current_leader" in entry:
                entry["current_leader"] = None  # what kafka-python has for an absent tagged struct
    assert kafka_python_decode("ProduceResponse", version, body) == expected


def test_the_versions_that_are_only_advertised_can_be_refused_with_an_answer() -> None:
    body = struct.pack(">hiih1sii", -1, 1000, 1, 1, b"t", 1, 4) + struct.pack(">i", 3) + b"old"
    for version in (0, 1, 2):
        request = decode_request(version, memoryview(body))
        assert as_values(request)["topic_data"] == [{"name": "t", "partition_data": [{"index": 4, "records": b"old"}]}]
        answer = bytes(encode_response(version, [TopicAppended("t", [PartitionAppended(4, 35)])]))
        expected = struct.pack(">ih1siihq", 1, 1, b"t", 1, 4, 35, -1)
        expected += struct.pack(">q", -1) if version == 2 else b""
        expected += struct.pack(">i", 0) if version >= 1 else b""
        assert answer == expected
