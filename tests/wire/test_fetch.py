"""Fetch by hand against kafka-python and kio, in every version."""

from collections.abc import Sequence
from random import Random
from typing import Any
from uuid import UUID

import pytest

from logbroker.errors import InvalidRequest
from logbroker.wire.apis import Api
from logbroker.wire.decoder import compile_decoder
from logbroker.wire.definitions import load_definition
from logbroker.wire.fetch import (
    COPY_BELOW,
    FetchRequest,
    PartitionFetched,
    TopicFetched,
    decode_request,
    encode_response,
)
from logbroker.wire.primitives import Buffer
from tests.wire.peers import kafka_python_decode, kafka_python_encode, kio_decode, plain, sample

VERSIONS = range(4, 17)
TOPIC_ID = UUID(int=2**120 + 5)
LARGE = bytes(range(256)) * (COPY_BELOW // 256)


def request_bytes(version: int, seed: int) -> tuple[dict[str, Any], bytes]:
    values = sample("FetchRequest", version, Random(seed))
    if version >= 15 and values["replica_state"] is None:
        del values["replica_state"]
    return values, kafka_python_encode("FetchRequest", version, values)


def topic_key(version: int, name: str, topic_id: UUID) -> dict[str, Any]:
    return {"topic_id": topic_id} if version >= 13 else {"topic": name}


def as_values(version: int, request: FetchRequest) -> dict[str, Any]:
    """In the shape and by the names of Kafka's definition, without what only followers send."""
    values: dict[str, Any] = {
        "max_wait_ms": request.max_wait_ms,
        "min_bytes": request.min_bytes,
        "max_bytes": request.max_bytes,
        "isolation_level": request.isolation,
        "topics": [],
    }
    for topic in request.topics:
        partitions = []
        for wanted in topic.partitions:
            entry = {
                "partition": wanted.partition,
                "fetch_offset": wanted.offset,
                "partition_max_bytes": wanted.max_bytes,
            }
            if version >= 9:
                entry["current_leader_epoch"] = wanted.current_leader_epoch
            if version >= 12:
                entry["last_fetched_epoch"] = wanted.last_fetched_epoch
            partitions.append(entry)
        values["topics"].append({**topic_key(version, topic.name, topic.id), "partitions": partitions})
    if version >= 7:
        values |= {"session_id": request.session_id, "session_epoch": request.session_epoch}
        values["forgotten_topics_data"] = [
            {**topic_key(version, topic.name, topic.id), "partitions": topic.partitions} for topic in request.forgotten
        ]
    if version >= 11:
        values["rack_id"] = request.rack
    return values


def without_follower_fields(values: dict[str, Any]) -> dict[str, Any]:
    for name in ("replica_id", "replica_state", "cluster_id"):
        values.pop(name, None)
    for topic in values["topics"]:
        for entry in topic["partitions"]:
            entry.pop("log_start_offset", None)
    return values


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_by_kafka_python_is_decoded_to_the_same_values(version: int) -> None:
    for seed in range(30):
        values, body = request_bytes(version, seed)
        decoded = decode_request(version, memoryview(body))
        values.setdefault("replica_state", None)
        assert as_values(version, decoded) == without_follower_fields(plain(values, "FetchRequest", version))


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
            decode_request(version, memoryview(damaged))
        except InvalidRequest:
            continue


def response(records: Sequence[Buffer]) -> list[TopicFetched]:
    return [
        TopicFetched(
            "orders",
            TOPIC_ID,
            [
                PartitionFetched(0, 0, 100, 90, 5, records, aborted=[(7, 11), (8, 12)]),
                PartitionFetched(1, 1, 50, 50, 10, preferred_read_replica=3),
                PartitionFetched(2, 0, 60, 60, 0, [b"small"], aborted=[], diverging=(4, 33)),
            ],
        ),
        TopicFetched("empty", UUID(int=1), []),
    ]


def expected_response(version: int, topics: list[TopicFetched], absent_struct: Any = None) -> dict[str, Any]:
    absent = {
        "diverging_epoch": {"epoch": -1, "end_offset": -1},
        "current_leader": {"leader_id": -1, "leader_epoch": -1},
        "snapshot_id": {"end_offset": -1, "epoch": -1},
    }
    expected: dict[str, Any] = {"throttle_time_ms": 20, "responses": []}
    if version >= 7:
        expected |= {"error_code": 70, "session_id": 0}
    if version >= 16:
        expected["node_endpoints"] = []
    for topic in topics:
        partitions = []
        for given in topic.partitions:
            entry: dict[str, Any] = {
                "partition_index": given.partition,
                "error_code": given.error_code,
                "high_watermark": given.high_watermark,
                "last_stable_offset": given.last_stable_offset,
                "aborted_transactions": None
                if given.aborted is None
                else [{"producer_id": producer, "first_offset": first} for producer, first in given.aborted],
                "records": b"".join(given.records),
            }
            if version >= 5:
                entry["log_start_offset"] = given.log_start_offset
            if version >= 11:
                entry["preferred_read_replica"] = given.preferred_read_replica
            if version >= 12:
                entry |= absent if absent_struct else dict.fromkeys(absent)
                if given.diverging:
                    entry["diverging_epoch"] = {"epoch": given.diverging[0], "end_offset": given.diverging[1]}
            partitions.append(entry)
        expected["responses"].append({**topic_key(version, topic.name, topic.id), "partitions": partitions})
    return expected


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "records", [[], [b"one"], [b"one", memoryview(b"two")], [LARGE], [b"x", memoryview(LARGE), LARGE, b"y"]]
)
def test_a_response_is_read_by_others_to_the_same_values(version: int, records: list[Buffer]) -> None:
    topics = response(records)
    body = b"".join(encode_response(version, topics, error_code=70, throttle_time_ms=20))
    assert kafka_python_decode("FetchResponse", version, body) == expected_response(version, topics)


@pytest.mark.parametrize("version", VERSIONS)
def test_kio_agrees_on_the_layout_of_a_response(version: int) -> None:
    topics = response([b"records"])
    body = b"".join(encode_response(version, topics, error_code=70, throttle_time_ms=20))
    assert kio_decode(Api.FETCH, "Response", version, body) == (
        expected_response(version, topics, absent_struct=True),
        len(body),
    )
    # ours alone checks that a tagged field is as long as its size says
    decoded = compile_decoder(load_definition("FetchResponse"), version)(memoryview(body))
    diverging = decoded.responses[0].partitions[2].diverging_epoch
    assert diverging == ((4, 33) if version >= 12 else None)


def test_large_records_are_handed_through_and_everything_else_is_joined() -> None:
    view = memoryview(LARGE)
    pieces = encode_response(16, response([b"before", view, b"after"]))
    assert len(pieces) == 3
    assert pieces[1] is view
    assert bytes(pieces[0]).endswith(b"before")
    assert bytes(pieces[2]).startswith(b"after")
    assert len(encode_response(16, response([b"small", view[:-1]]))) == 1


def test_a_consumer_that_wants_no_session_is_given_none() -> None:
    body = b"".join(encode_response(7, []))
    assert kafka_python_decode("FetchResponse", 7, body)["session_id"] == 0
