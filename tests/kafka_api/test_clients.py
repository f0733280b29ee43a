"""Clients that people use, against a real door: every compression and acks, idempotence, consuming by assignment."""

import asyncio
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as AioTopicPartition
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from logbroker.model import TopicPartition as StoredPartition
from tests.kafka_api.broker import RunningBroker, running_broker
from tests.kafka_api.kafka_python import KafkaConsumer, KafkaProducer
from tests.kafka_api.kafka_python import TopicPartition as PyTopicPartition

COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
VALUES = [b"value %d " % number * 20 for number in range(200)]
TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    with running_broker(num_partitions=2) as running:
        yield running


def new_name(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


# -- librdkafka ------------------------------------------------------------------------------------------------------


def confluent_send(address: str, topic: str, values: list[bytes], **settings: object) -> list[int]:
    """Offsets in partition 0, in the order sent."""
    producer = Producer({"bootstrap.servers": address, "linger.ms": 5, **settings})
    offsets: list[int] = []

    def delivered(error: KafkaError | None, message: object) -> None:
        assert error is None, error
        offsets.append(message.offset())  # type: ignore[attr-defined]

    for number, value in enumerate(values):
        headers = [("n", str(number).encode()), ("none", None)]
        producer.produce(topic, value, key=b"k%d" % number, partition=0, headers=headers, on_delivery=delivered)
        producer.poll(0)
    assert producer.flush(TIMEOUT_S) == 0
    return offsets


def confluent_read(address: str, topic: str, count: int, offset: int = 0, **settings: object) -> list[object]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": new_name("reader"), **settings})
    try:
        consumer.assign([TopicPartition(topic, 0, offset)])
        found: list[object] = []
        deadline = time.monotonic() + TIMEOUT_S
        while len(found) < count and time.monotonic() < deadline:
            for message in consumer.consume(count, 0.2):
                assert message.error() is None, message.error()
                found.append(message)
        return found
    finally:
        consumer.close()


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_confluent_kafka_produces_and_consumes(broker: RunningBroker, compression: str, acks: str) -> None:
    topic = new_name("confluent")
    confluent_send(broker.address, topic, VALUES, **{"compression.type": compression, "acks": acks})
    found = confluent_read(broker.address, topic, len(VALUES))
    assert [message.value() for message in found] == VALUES  # type: ignore[attr-defined]
    assert [message.key() for message in found] == [b"k%d" % number for number in range(len(VALUES))]  # type: ignore[attr-defined]
    assert found[7].headers() == [("n", b"7"), ("none", None)]  # type: ignore[attr-defined]


def test_confluent_kafka_produces_idempotently(broker: RunningBroker) -> None:
    topic = new_name("idempotent")
    offsets = confluent_send(broker.address, topic, VALUES, **{"enable.idempotence": True, "batch.num.messages": 10})
    assert offsets == list(range(len(VALUES)))
    assert len(confluent_read(broker.address, topic, len(VALUES))) == len(VALUES)


def test_a_metadata_request_creates_the_topic_with_num_partitions(broker: RunningBroker) -> None:
    topic = new_name("made")
    confluent_send(broker.address, topic, [b"x"])
    assert broker.call(lambda: broker.services.topics.get(topic).partitions) == 2


def test_reserved_topics_are_neither_created_nor_written(broker: RunningBroker) -> None:
    producer = Producer({"bootstrap.servers": broker.address, "message.timeout.ms": 1500})
    errors: list[object] = []
    for topic in ("orders.dlq", "__mine"):
        producer.produce(topic, b"x", on_delivery=lambda error, message: errors.append(error.code()))
    producer.flush(TIMEOUT_S)
    assert len(errors) == 2
    assert {info.name for info in broker.call(lambda: broker.services.topics.list(internal=True))}.isdisjoint(
        {"orders.dlq", "__mine"}
    )


def test_confluent_kafka_finds_offsets_by_time_and_watermarks(broker: RunningBroker) -> None:
    topic = new_name("times")
    producer = Producer({"bootstrap.servers": broker.address})
    now_ms = int(time.time() * 1000)
    for number in range(10):
        producer.produce(topic, b"%d" % number, partition=0, timestamp=now_ms - 10_000 + number * 1000)
        producer.flush(TIMEOUT_S)
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "times"})
    wanted = [TopicPartition(topic, 0, now_ms - 10_000 + 3500), TopicPartition(topic, 0, now_ms + 5000)]
    (by_time,) = consumer.offsets_for_times(wanted[:1], TIMEOUT_S)
    (after_all,) = consumer.offsets_for_times(wanted[1:], TIMEOUT_S)
    assert by_time.offset == 4
    assert after_all.offset == -1  # librdkafka: end
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), TIMEOUT_S) == (0, 10)
    consumer.close()


def test_a_consumer_that_waits_gets_a_record_at_once(broker: RunningBroker) -> None:
    topic = new_name("tail")
    confluent_send(broker.address, topic, [b"first"])
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "tail", "fetch.wait.max.ms": 10_000})
    consumer.assign([TopicPartition(topic, 0, 0)])
    assert consumer.poll(TIMEOUT_S).value() == b"first"
    began = time.monotonic()
    confluent_send(broker.address, topic, [b"second"])
    assert consumer.poll(TIMEOUT_S).value() == b"second"
    assert time.monotonic() - began < 3
    consumer.close()


def test_an_offset_out_of_range_resets_as_the_consumer_says(broker: RunningBroker) -> None:
    topic = new_name("range")
    confluent_send(broker.address, topic, VALUES[:5])
    found = confluent_read(broker.address, topic, 5, offset=1000, **{"auto.offset.reset": "earliest"})
    assert [message.value() for message in found] == VALUES[:5]  # type: ignore[attr-defined]


# -- aiokafka --------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("acks", [0, 1, "all"])
async def test_aiokafka_produces_and_consumes(broker: RunningBroker, compression: str | None, acks: int | str) -> None:
    topic = new_name("aio")
    producer = AIOKafkaProducer(bootstrap_servers=broker.address, compression_type=compression, acks=acks)
    await producer.start()
    try:
        for value in VALUES:
            await producer.send(topic, value, partition=0)
        await producer.flush()
    finally:
        await producer.stop()
    assert await aio_read(broker.address, topic, len(VALUES)) == VALUES


async def aio_read(address: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)
    await consumer.start()
    try:
        where = AioTopicPartition(topic, 0)
        consumer.assign([where])
        await consumer.seek_to_beginning(where)
        found: list[bytes] = []
        async with asyncio.timeout(TIMEOUT_S):
            while len(found) < count:
                found.append((await consumer.getone()).value)
        return found
    finally:
        await consumer.stop()


@pytest.mark.asyncio
async def test_aiokafka_produces_idempotently(broker: RunningBroker) -> None:
    topic = new_name("aio-idempotent")
    producer = AIOKafkaProducer(bootstrap_servers=broker.address, enable_idempotence=True)
    await producer.start()
    sent = [await producer.send_and_wait(topic, value, partition=0) for value in VALUES[:20]]
    await producer.stop()
    assert [one.offset for one in sent] == list(range(20))


# -- kafka-python ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_kafka_python_produces_and_consumes(broker: RunningBroker, compression: str | None, acks: int | str) -> None:
    topic = new_name("python")
    idempotent = {} if acks == "all" else {"enable_idempotence": False}
    producer = KafkaProducer(bootstrap_servers=broker.address, compression_type=compression, acks=acks, **idempotent)
    futures = [producer.send(topic, value, partition=0) for value in VALUES]
    producer.flush(TIMEOUT_S)
    if acks != 0:
        assert [future.get(TIMEOUT_S).offset for future in futures] == list(range(len(VALUES)))
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=broker.address, consumer_timeout_ms=10_000)
    where = PyTopicPartition(topic, 0)
    consumer.assign([where])
    consumer.seek_to_beginning(where)
    found = []
    for message in consumer:
        found.append(message.value)
        if len(found) == len(VALUES):
            break
    assert found == VALUES
    assert consumer.end_offsets([where]) == {where: len(VALUES)}
    consumer.close()


# -- kcat ------------------------------------------------------------------------------------------------------------


def kcat(*arguments: str, stdin: str = "") -> str:
    program = shutil.which("kcat") or shutil.which("kafkacat")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("kcat is not installed: apt-get install kcat")
        pytest.skip("kcat is not installed: apt-get install kcat")
    done = subprocess.run(
        [program, *arguments], input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_kcat_produces_and_consumes(broker: RunningBroker, compression: str) -> None:
    topic = new_name("kcat")
    lines = [f"line {number} {'x' * 100}" for number in range(50)]
    kcat("-b", broker.address, "-t", topic, "-p", "0", "-P", "-z", compression, stdin="\n".join(lines))
    told = kcat("-b", broker.address, "-t", topic, "-p", "0", "-C", "-e", "-q", "-f", "%o %s\n")
    assert told.splitlines() == [f"{number} {line}" for number, line in enumerate(lines)]
    stored = broker.call(lambda: broker.services.engine.raw.read(StoredPartition(topic, 0), 0, 1 << 20))  # type: ignore[union-attr]
    assert stored is not None
    assert bytes(stored.chunks[0])[22] & 7 == COMPRESSIONS.index(compression)


def test_kcat_lists_the_cluster(broker: RunningBroker) -> None:
    broker.create_topic("listed", 3)
    told = kcat("-b", broker.address, "-L", "-t", "listed")
    assert f"broker 0 at {broker.address} (controller)" in told
    assert 'topic "listed" with 3 partitions' in told
