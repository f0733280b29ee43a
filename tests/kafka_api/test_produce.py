"""Produce on the wire: what each partition is answered, and when."""

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from logbroker.errors import FlushFailed, LogbrokerError
from logbroker.model import ProducerStamp, Record, TopicPartition
from logbroker.queues.settings import QueueSettings
from logbroker.records.batch import (
    APPEND_TIME_BIT,
    CONTROL_BIT,
    HEADER_SIZE,
    TRANSACTIONAL_BIT,
    Compression,
    parse_header,
)
from logbroker.records.codec import encode
from logbroker.wire.apis import Api
from logbroker.wire.codes import ErrorCode
from tests.kafka_api.broker import RunningBroker, running_broker
from tests.kafka_api.raw import RawClient, batch, connected, produce_body
from tests.records.samples import resealed
from tests.wire.peers import kafka_python_encode

VERSION = 9


@pytest.fixture
def topic(broker: RunningBroker) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    broker.create_topic(name, 2)
    return name


def result(client: RawClient, topic: str, records: bytes, version: int = VERSION, **fields: Any) -> dict[str, Any]:
    """What the one partition of the request is answered."""
    answer = client.ask(Api.PRODUCE, version, produce_body(version, topic, records, **fields))
    (partition,) = answer["responses"][0]["partition_responses"]
    found: dict[str, Any] = partition
    return found


def code(client: RawClient, topic: str, records: bytes, version: int = VERSION, **fields: Any) -> int:
    found: int = result(client, topic, records, version, **fields)["error_code"]
    return found


def with_header(records: bytes, **changes: int) -> bytes:
    """The same batch under a changed header, with a CRC that holds."""
    return resealed(parse_header(records)._replace(**changes), records[HEADER_SIZE:])


def end_of(broker: RunningBroker, topic: str, partition: int = 0) -> int:
    return broker.do(broker.services.engine.bounds(TopicPartition(topic, partition))).high_watermark


@pytest.mark.parametrize("version", range(3, 13))
def test_every_version_appends_and_says_where(client: RawClient, topic: str, version: int) -> None:
    first = result(client, topic, batch(b"a", b"b"), version)
    second = result(client, topic, batch(b"c"), version)
    assert (first["error_code"], first["base_offset"], second["base_offset"]) == (0, 0, 2)
    assert second["log_append_time_ms"] == -1
    if version >= 5:
        assert second["log_start_offset"] == 0


@pytest.mark.parametrize("version", [0, 1, 2])
def test_versions_before_record_batches_are_refused_with_an_answer(client: RawClient, topic: str, version: int) -> None:
    fields = {
        "acks": 1,
        "timeout_ms": 1,
        "topic_data": [{"name": topic, "partition_data": [{"index": 0, "records": b"x"}]}],
    }
    answer = client.ask(Api.PRODUCE, version, kafka_python_encode("ProduceRequest", version, fields))
    assert answer["responses"][0]["partition_responses"][0]["error_code"] == ErrorCode.UNSUPPORTED_VERSION


GOOD = batch(b"value")
IDEMPOTENT = bytes(encode([Record(b"x")], now_ms=int(time.time() * 1000), producer=ProducerStamp(5, 0, 0)))


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (b"", ErrorCode.CORRUPT_MESSAGE),
        (GOOD[:50], ErrorCode.CORRUPT_MESSAGE),
        (GOOD[:-1], ErrorCode.CORRUPT_MESSAGE),
        (GOOD[:-1] + bytes((GOOD[-1] ^ 1,)), ErrorCode.CORRUPT_MESSAGE),
        (GOOD[:16] + b"\1" + GOOD[17:], ErrorCode.CORRUPT_MESSAGE),
        (GOOD + GOOD, ErrorCode.INVALID_RECORD),
        (with_header(GOOD, attributes=TRANSACTIONAL_BIT, producer_id=1, producer_epoch=0, base_sequence=0), 48),
        (with_header(GOOD, attributes=CONTROL_BIT), ErrorCode.INVALID_RECORD),
        (with_header(GOOD, attributes=APPEND_TIME_BIT), ErrorCode.INVALID_TIMESTAMP),
        (with_header(GOOD, attributes=7), ErrorCode.CORRUPT_MESSAGE),
        (with_header(IDEMPOTENT, base_sequence=-1), ErrorCode.INVALID_RECORD),
        (with_header(GOOD, last_offset_delta=5), ErrorCode.CORRUPT_MESSAGE),
        (batch(b"x" * 2_000_000), ErrorCode.MESSAGE_TOO_LARGE),
        (batch(b"x", timestamp_ms=2**42), ErrorCode.INVALID_TIMESTAMP),
    ],
    ids=[
        "nothing", "half-header", "short", "crc", "magic", "two-batches", "transactional", "control", "append-time",
        "codec", "no-sequence", "count", "too-large", "future",
    ],
)  # fmt: skip
def test_a_batch_that_cannot_be_taken_is_refused_and_nothing_is_written(
    broker: RunningBroker, client: RawClient, topic: str, records: bytes, expected: int
) -> None:
    client.call(Api.API_VERSIONS, 0)
    refused = result(client, topic, records)
    assert refused["error_code"] == expected
    assert refused["base_offset"] == -1
    assert refused["error_message"]
    assert end_of(broker, topic) == 0
    assert client.produce(topic, b"after") == 0


def test_zstd_needs_a_version_that_knows_it(client: RawClient, topic: str) -> None:
    records = bytes(encode([Record(b"x" * 100)], now_ms=int(time.time() * 1000), compression=Compression.ZSTD))
    assert code(client, topic, records, 6) == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    assert code(client, topic, records, 7) == ErrorCode.NONE


@pytest.mark.parametrize(
    ("name", "partition", "expected"),
    [
        ("no-such-topic", 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("{topic}", 2, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("{topic}", -1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("orders.dlq", 0, ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("orders.retry", 0, ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("__consumer_offsets", 0, ErrorCode.INVALID_TOPIC_EXCEPTION),
    ],
)
def test_where_nothing_may_be_written(
    client: RawClient, topic: str, name: str, partition: int, expected: ErrorCode
) -> None:
    assert code(client, name.format(topic=topic), GOOD, partition=partition) == expected


def test_a_queue_with_priorities_is_written_by_partition_only_where_it_says_so(
    broker: RunningBroker, client: RawClient
) -> None:
    for name, settings, expected in (
        ("by-priority", QueueSettings(priorities=3), ErrorCode.POLICY_VIOLATION),
        ("by-partition", QueueSettings(priorities=3, kafka_produce="by_partition"), ErrorCode.NONE),
        ("plain-queue", QueueSettings(), ErrorCode.NONE),
    ):
        broker.do(broker.services.queues.ensure(name, settings))
        assert code(client, name, GOOD) == expected


def test_a_request_that_breaks_a_rule_fails_whole(broker: RunningBroker, client: RawClient, topic: str) -> None:
    assert code(client, topic, GOOD, acks=2) == ErrorCode.INVALID_REQUIRED_ACKS
    assert code(client, topic, GOOD, acks=-2) == ErrorCode.INVALID_REQUIRED_ACKS
    assert end_of(broker, topic) == 0


def test_partitions_fail_one_by_one(broker: RunningBroker, client: RawClient, topic: str) -> None:
    body = kafka_python_encode(
        "ProduceRequest",
        VERSION,
        {
            "transactional_id": None,
            "acks": -1,
            "timeout_ms": 1,
            "topic_data": [
                {"name": topic, "partition_data": [{"index": 0, "records": GOOD}, {"index": 7, "records": GOOD}]},
                {"name": "missing", "partition_data": [{"index": 0, "records": GOOD}]},
                {"name": topic, "partition_data": [{"index": 1, "records": GOOD[:-1]}, {"index": 1, "records": GOOD}]},
            ],
        },
    )
    answer = client.ask(Api.PRODUCE, VERSION, body)
    codes = [[one["error_code"] for one in topic_["partition_responses"]] for topic_ in answer["responses"]]
    assert codes == [[0, 3], [3], [2, 0]]
    assert (end_of(broker, topic, 0), end_of(broker, topic, 1)) == (1, 1)


def test_the_append_time_is_told_where_the_topic_stamps_it(broker: RunningBroker, client: RawClient) -> None:
    broker.create_topic("stamped", message_timestamp_type="LogAppendTime")
    before_ms = int(time.time() * 1000)
    stamped = result(client, "stamped", batch(b"x"))
    assert before_ms <= stamped["log_append_time_ms"] <= int(time.time() * 1000)


def test_the_log_start_is_told(broker: RunningBroker, client: RawClient, topic: str) -> None:
    client.produce(topic, b"a", b"b", b"c")
    broker.do(broker.services.engine.trim(TopicPartition(topic, 0), 2))
    assert result(client, topic, GOOD)["log_start_offset"] == 2


def idempotent(producer_id: int, sequence: int, *values: bytes, epoch: int = 0) -> bytes:
    stamp = ProducerStamp(producer_id, epoch, sequence)
    return bytes(encode([Record(value) for value in values], now_ms=int(time.time() * 1000), producer=stamp))


def test_a_duplicate_is_answered_with_the_offset_of_the_original(
    broker: RunningBroker, client: RawClient, topic: str
) -> None:
    producer_id = client.call(Api.INIT_PRODUCER_ID, 4, transactional_id=None, transaction_timeout_ms=1)["producer_id"]
    first = idempotent(producer_id, 0, b"a", b"b")
    assert result(client, topic, first)["base_offset"] == 0
    assert result(client, topic, idempotent(producer_id, 2, b"c"))["base_offset"] == 2
    assert result(client, topic, first)["base_offset"] == 0
    assert code(client, topic, idempotent(producer_id, 9, b"z")) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert result(client, topic, idempotent(producer_id, 0, b"d", epoch=1))["base_offset"] == 3
    assert code(client, topic, idempotent(producer_id, 3, b"e")) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert end_of(broker, topic) == 4


def test_producer_ids_are_never_given_out_twice(client: RawClient) -> None:
    ids = [
        client.call(Api.INIT_PRODUCER_ID, 4, transactional_id=None, transaction_timeout_ms=1)["producer_id"]
        for _ in range(50)
    ]
    assert len(set(ids)) == 50


# -- waiting for the flush -------------------------------------------------------------------------------------------

Done = Callable[[LogbrokerError | None], None]


@pytest.fixture
def unflushed() -> Iterator[tuple[RunningBroker, list[Done]]]:
    """A broker whose flushes end when the test says so."""
    with running_broker() as broker:
        broker.create_topic("slow", 2)
        waiting: list[Done] = []
        raw: Any = broker.services.engine.raw
        raw.when_flushed = lambda where, next_offset, done: waiting.append(done)
        yield broker, waiting


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_the_answer_waits_for_the_flush_and_what_follows_is_served_meanwhile(
    unflushed: tuple[RunningBroker, list[Done]],
) -> None:
    broker, waiting = unflushed
    with connected(broker) as client:
        produces = [client.send(Api.PRODUCE, VERSION, produce_body(VERSION, "slow", batch(b"x"))) for _ in range(3)]
        behind = client.send(Api.LIST_GROUPS, 0, b"")
        eventually(lambda: len(waiting) == 3)
        served = broker.services.metrics.counter("requests_total", "", ("protocol", "api", "code")).values
        eventually(lambda: ("kafka", "ListGroups", "NONE") in served)
        client.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(10)
        for done in reversed(waiting):
            broker.call(lambda done=done: done(None))  # type: ignore[misc]  # bound now
        assert [client.receive()[0] for _ in range(4)] == [*produces, behind]


def test_a_flush_that_fails_is_answered_as_a_storage_error(unflushed: tuple[RunningBroker, list[Done]]) -> None:
    broker, waiting = unflushed
    with connected(broker) as client:
        client.send(Api.PRODUCE, VERSION, produce_body(VERSION, "slow", batch(b"x")))
        eventually(lambda: len(waiting) == 1)
        broker.call(lambda: waiting[0](FlushFailed()))
        (partition,) = client.answer(Api.PRODUCE, VERSION)["responses"][0]["partition_responses"]
        assert partition["error_code"] == ErrorCode.KAFKA_STORAGE_ERROR


def test_a_producer_that_leaves_before_the_flush_harms_nobody(unflushed: tuple[RunningBroker, list[Done]]) -> None:
    broker, waiting = unflushed
    with connected(broker) as leaving:
        leaving.send(Api.PRODUCE, VERSION, produce_body(VERSION, "slow", batch(b"x")))
        eventually(lambda: len(waiting) == 1)
    eventually(lambda: broker.connections == 0)
    broker.call(lambda: waiting[0](None))
    with connected(broker) as other:
        assert other.call(Api.LIST_GROUPS, 0)["error_code"] == 0


def test_a_producer_that_does_not_wait_for_answers_is_held_back(unflushed: tuple[RunningBroker, list[Done]]) -> None:
    broker, waiting = unflushed
    with connected(broker) as client:
        for _ in range(1_500):
            client.send(Api.PRODUCE, VERSION, produce_body(VERSION, "slow", batch(b"x")))
        eventually(lambda: len(waiting) == 1_000)
        time.sleep(0.05)
        assert len(waiting) == 1_000
        broker.call(lambda: [done(None) for done in list(waiting)])
        eventually(lambda: len(waiting) == 1_500)
        broker.call(lambda: [done(None) for done in waiting[1_000:]])
        assert [client.receive()[0] for _ in range(1_500)] == list(range(1, 1_501))
