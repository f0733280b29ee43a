"""Fetch on the wire: limits, errors, ids, and reads that wait for the disk."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from logbroker.model import TopicPartition
from logbroker.records.batch import iter_headers
from logbroker.records.codec import decode
from logbroker.wire.apis import Api
from logbroker.wire.codes import ErrorCode
from tests.kafka_api.broker import RunningBroker, running_broker
from tests.kafka_api.raw import RawClient, connected, fetch_body


@pytest.fixture
def topic(broker: RunningBroker) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    broker.create_topic(name, 3)
    return name


def fetched(client: RawClient, version: int, topic: Any, offset: int = 0, **limits: Any) -> list[dict[str, Any]]:
    """What each partition gives."""
    answer = client.ask(Api.FETCH, version, fetch_body(version, topic, offset, **limits))
    partitions: list[dict[str, Any]] = answer["responses"][0]["partitions"]
    return partitions


def values(partition: dict[str, Any]) -> list[bytes | None]:
    records = partition["records"]
    return [record.value for at, _ in iter_headers(records) for record in decode(records, at)]


@pytest.mark.parametrize("version", range(4, 17))
def test_every_version_gives_the_batches(broker: RunningBroker, client: RawClient, topic: str, version: int) -> None:
    client.produce(topic, b"a", b"b")
    client.produce(topic, b"c")
    key = broker.call(lambda: broker.services.topics.get(topic).id) if version >= 13 else topic
    (partition,) = fetched(client, version, key)
    assert partition["error_code"] == 0
    assert values(partition) == [b"a", b"b", b"c"]
    assert (partition["high_watermark"], partition["last_stable_offset"]) == (3, 3)
    (later,) = fetched(client, version, key, 2)
    assert values(later) == [b"c"]
    (end,) = fetched(client, version, key, 3)
    assert (end["error_code"], end["records"]) == (0, b"")


@pytest.mark.parametrize("offset", [-1, 4, 2**62])
def test_an_offset_outside_the_log_is_told(client: RawClient, topic: str, offset: int) -> None:
    client.produce(topic, b"a")
    (partition,) = fetched(client, 12, topic, offset, max_wait_ms=10_000)
    assert partition["error_code"] == ErrorCode.OFFSET_OUT_OF_RANGE


def test_below_the_log_start_is_outside(broker: RunningBroker, client: RawClient, topic: str) -> None:
    client.produce(topic, b"a", b"b", b"c")
    broker.do(broker.services.engine.trim(TopicPartition(topic, 0), 2))
    (partition,) = fetched(client, 12, topic, 1)
    assert partition["error_code"] == ErrorCode.OFFSET_OUT_OF_RANGE
    (partition,) = fetched(client, 12, topic, 2)
    assert (partition["error_code"], partition["log_start_offset"]) == (0, 2)


def test_unknown_topics_partitions_and_ids_are_told_at_once(client: RawClient, topic: str) -> None:
    (partition,) = fetched(client, 12, "missing", max_wait_ms=10_000)
    assert partition["error_code"] == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    known, unknown = fetched(client, 12, topic, partitions=(0, 9), max_wait_ms=10_000)
    assert (known["error_code"], unknown["error_code"]) == (0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    (partition,) = fetched(client, 13, uuid.uuid4(), max_wait_ms=10_000)
    assert partition["error_code"] == ErrorCode.UNKNOWN_TOPIC_ID


def test_the_id_of_a_topic_made_again_is_another(broker: RunningBroker, client: RawClient, topic: str) -> None:
    old = broker.call(lambda: broker.services.topics.get(topic).id)
    broker.do(broker.services.topics.delete(topic))
    broker.create_topic(topic)
    (partition,) = fetched(client, 16, old)
    assert partition["error_code"] == ErrorCode.UNKNOWN_TOPIC_ID


def test_a_topic_deleted_under_a_parked_fetch_ends_it(broker: RunningBroker, topic: str) -> None:
    with connected(broker) as client:
        client.send(Api.FETCH, 12, fetch_body(12, topic, max_wait_ms=60_000))
        while broker.services.waiting.count == 0:
            pass
        broker.do(broker.services.topics.delete(topic))
        (partition,) = client.answer(Api.FETCH, 12)["responses"][0]["partitions"]
        assert partition["error_code"] == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_the_limits_of_partition_and_request_hold(client: RawClient, topic: str) -> None:
    for partition in range(3):
        for _ in range(4):
            client.produce(topic, b"x" * 1000, partition=partition)
    one_batch = len(fetched(client, 12, topic, partition_max_bytes=1)[0]["records"])
    assert 1000 < one_batch < 1100
    by_partition = fetched(client, 12, topic, partitions=(0, 1, 2), partition_max_bytes=2 * one_batch)
    assert [len(one["records"]) for one in by_partition] == [2 * one_batch] * 3
    whole = fetched(client, 12, topic, partitions=(0, 1, 2), max_bytes=5 * one_batch)
    assert [len(one["records"]) for one in whole] == [4 * one_batch, one_batch, 0]
    assert whole[2]["high_watermark"] == 4


def test_the_first_batch_may_exceed_every_limit_and_only_the_first(client: RawClient, topic: str) -> None:
    client.produce(topic, b"x" * 1000, partition=1)
    client.produce(topic, b"x" * 1000, partition=2)
    sizes = [len(one["records"]) for one in fetched(client, 12, topic, partitions=(0, 1, 2), max_bytes=10)]
    assert sizes[0] == 0
    assert sizes[1] > 1000
    assert sizes[2] == 0


def test_a_committed_reader_is_told_of_no_aborted_transactions(client: RawClient, topic: str) -> None:
    client.produce(topic, b"a")
    (committed,) = fetched(client, 12, topic, isolation_level=1)
    assert (values(committed), committed["aborted_transactions"]) == ([b"a"], [])
    (uncommitted,) = fetched(client, 12, topic, isolation_level=0)
    assert uncommitted["aborted_transactions"] is None


def test_a_fetch_session_is_never_made_and_never_found(client: RawClient, topic: str) -> None:
    client.produce(topic, b"a")
    started = client.ask(Api.FETCH, 12, fetch_body(12, topic, session_id=0, session_epoch=0))
    assert (started["error_code"], started["session_id"]) == (0, 0)
    continued = client.ask(Api.FETCH, 12, fetch_body(12, topic, session_id=77, session_epoch=3))
    assert continued["error_code"] == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_a_leader_epoch_that_never_was_is_refused(client: RawClient, topic: str) -> None:
    body = fetch_body(12, topic)
    wanted = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 100, "current_leader_epoch": 3}
    body = fetch_body(12, topic, topics=[{"topic": topic, "partitions": [wanted]}])
    (partition,) = client.ask(Api.FETCH, 12, body)["responses"][0]["partitions"]
    assert partition["error_code"] == ErrorCode.UNKNOWN_LEADER_EPOCH


# -- reads that wait for the disk ------------------------------------------------------------------------------------


@pytest.fixture
def cold() -> Iterator[RunningBroker]:
    """A broker whose reads find nothing in memory."""
    with running_broker() as broker:
        broker.create_topic("cold", 3)
        raw: Any = broker.services.engine.raw
        raw.read = lambda where, offset, max_bytes, isolation: None
        yield broker


def test_what_is_not_in_memory_is_read_and_waited_for_all_the_same(cold: RunningBroker) -> None:
    with connected(cold) as client, connected(cold) as other:
        client.produce("cold", b"a")
        client.produce("cold", b"b", partition=2)
        found = fetched(client, 12, "cold", partitions=(0, 1, 2))
        assert [values(one) for one in found] == [[b"a"], [], [b"b"]]
        (missing,) = fetched(client, 12, "cold", partitions=(8,))
        assert missing["error_code"] == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        client.send(Api.FETCH, 12, fetch_body(12, "cold", partitions=(1,), max_wait_ms=60_000))
        while cold.services.waiting.count == 0:
            pass
        other.produce("cold", b"c", partition=1)
        assert values(client.answer(Api.FETCH, 12)["responses"][0]["partitions"][0]) == [b"c"]
