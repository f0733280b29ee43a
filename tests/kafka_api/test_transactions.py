"""Transactions by the clients people use, against a real door: committed, aborted, timed out, fenced, with offsets."""

import asyncio
import time
import uuid
from collections.abc import Iterator

import aiokafka
import confluent_kafka as ck
import pytest
from aiokafka.errors import ProducerFenced as AioProducerFenced

from logbroker.engine.api import Isolation
from logbroker.groups.transactions.messages import Status
from logbroker.model import TopicPartition
from tests.kafka_api.broker import RunningBroker, running_broker
from tests.kafka_api.kafka_python import KafkaConsumer, KafkaProducer
from tests.kafka_api.kafka_python import TopicPartition as PyTopicPartition

TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    with running_broker(num_partitions=2) as running:
        yield running


@pytest.fixture
def topic(broker: RunningBroker) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    broker.create_topic(name, 2)
    return name


def new_id() -> str:
    return f"txn-{uuid.uuid4().hex[:8]}"


def ck_producer(broker: RunningBroker, transactional_id: str, **settings: object) -> ck.Producer:
    producer = ck.Producer(
        {"bootstrap.servers": broker.address, "transactional.id": transactional_id, "linger.ms": 1, **settings}
    )
    producer.init_transactions(TIMEOUT_S)
    return producer


def send_both(producer: ck.Producer, topic: str, *values: bytes) -> None:
    """Every value to both partitions."""
    for value in values:
        for partition in (0, 1):
            producer.produce(topic, value, partition=partition)
    assert producer.flush(TIMEOUT_S) == 0


def seen(broker: RunningBroker, topic: str, isolation: Isolation = Isolation.READ_COMMITTED) -> list[list[bytes | None]]:
    """What a reader gets, by partition; read through the engine."""

    async def read() -> list[list[bytes | None]]:
        return [await values_of(broker, TopicPartition(topic, number), isolation) for number in (0, 1)]

    return broker.do(read())


async def values_of(broker: RunningBroker, where: TopicPartition, isolation: Isolation) -> list[bytes | None]:
    engine = broker.services.engine
    offset, found = 0, list[bytes | None]()
    while True:
        read = await engine.read(where, offset, max_bytes=1 << 20, isolation=isolation)
        found += [record.value for record in read.records]
        if read.next_offset >= isolation.end(read.bounds):
            return found
        offset = read.next_offset


def ck_seen(broker: RunningBroker, topic: str, isolation: str = "read_committed") -> list[bytes]:
    """What librdkafka's consumer gets of partition 0 up to the end."""
    consumer = ck.Consumer(
        {
            "bootstrap.servers": broker.address,
            "group.id": new_id(),
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([ck.TopicPartition(topic, 0, 0)])
    values: list[bytes] = []
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None:
                continue
            error = message.error()
            if error is None:
                values.append(message.value() or b"")
            elif error.code() == ck.KafkaError._PARTITION_EOF:
                return values
    finally:
        consumer.close()
    raise AssertionError("the consumer never came to the end")


def status(broker: RunningBroker, transactional_id: str) -> Status:
    async def look() -> Status:
        return broker.services.transactions.describe(transactional_id).status

    return broker.do(look())


# -- librdkafka ----------------------------------------------------------------------------------------------------------


def test_committed_records_are_seen_by_all_at_once_and_aborted_ones_never(broker: RunningBroker, topic: str) -> None:
    name = new_id()
    producer = ck_producer(broker, name)
    producer.begin_transaction()
    send_both(producer, topic, b"a", b"b")
    assert seen(broker, topic) == [[], []]
    assert ck_seen(broker, topic) == []
    assert ck_seen(broker, topic, "read_uncommitted") == [b"a", b"b"]
    producer.commit_transaction(TIMEOUT_S)
    assert seen(broker, topic) == [[b"a", b"b"]] * 2
    producer.begin_transaction()
    send_both(producer, topic, b"never")
    producer.abort_transaction(TIMEOUT_S)
    producer.begin_transaction()
    send_both(producer, topic, b"c")
    producer.commit_transaction(TIMEOUT_S)
    assert seen(broker, topic) == [[b"a", b"b", b"c"]] * 2
    assert ck_seen(broker, topic) == [b"a", b"b", b"c"]
    assert seen(broker, topic, Isolation.READ_UNCOMMITTED) == [[b"a", b"b", b"never", b"c"]] * 2
    assert status(broker, name) is Status.COMPLETE_COMMIT


def test_a_new_producer_fences_the_old_one_and_aborts_its_transaction(broker: RunningBroker, topic: str) -> None:
    name = new_id()
    old = ck_producer(broker, name)
    old.begin_transaction()
    send_both(old, topic, b"old")
    new = ck_producer(broker, name)
    new.begin_transaction()
    send_both(new, topic, b"new")
    new.commit_transaction(TIMEOUT_S)
    with pytest.raises(ck.KafkaException) as raised:
        old.commit_transaction(TIMEOUT_S)
    assert raised.value.args[0].fatal()
    assert raised.value.args[0].code() in (ck.KafkaError._FENCED, ck.KafkaError.PRODUCER_FENCED)
    assert seen(broker, topic) == [[b"new"]] * 2


def test_a_hung_producer_stops_readers_no_longer_than_its_time_out(broker: RunningBroker, topic: str) -> None:
    name = new_id()
    hung = ck_producer(broker, name, **{"transaction.timeout.ms": 1_000})
    hung.begin_transaction()
    send_both(hung, topic, b"hung")
    plain = ck.Producer({"bootstrap.servers": broker.address})
    send_both(plain, topic, b"behind")
    assert seen(broker, topic) == [[], []]
    deadline = time.monotonic() + TIMEOUT_S
    while seen(broker, topic) != [[b"behind"]] * 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(ck.KafkaException) as raised:
        hung.commit_transaction(TIMEOUT_S)
    assert raised.value.args[0].code() in (
        ck.KafkaError._FENCED,
        ck.KafkaError.PRODUCER_FENCED,
        ck.KafkaError.INVALID_PRODUCER_EPOCH,
    )
    assert seen(broker, topic) == [[b"behind"]] * 2


@pytest.mark.parametrize("committed", [True, False])
def test_offsets_move_with_their_transaction(broker: RunningBroker, topic: str, committed: bool) -> None:
    source, group = f"source-{new_id()}", f"group-{new_id()}"
    broker.create_topic(source, 1)
    plain = ck.Producer({"bootstrap.servers": broker.address})
    for number in range(10):
        plain.produce(source, b"%d" % number, partition=0)
    plain.flush(TIMEOUT_S)
    consumer = ck.Consumer(
        {
            "bootstrap.servers": broker.address,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([source])
    messages: list[ck.Message] = []
    while len(messages) < 10:
        messages += consumer.consume(10 - len(messages), 0.5)
    producer = ck_producer(broker, new_id())
    producer.begin_transaction()
    for message in messages:
        producer.produce(topic, b"copy " + (message.value() or b""), partition=0)
    producer.send_offsets_to_transaction(
        consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), TIMEOUT_S
    )
    producer.flush(TIMEOUT_S)
    assert committed_offset(broker, group, source) is None
    if committed:
        producer.commit_transaction(TIMEOUT_S)
    else:
        producer.abort_transaction(TIMEOUT_S)
    assert committed_offset(broker, group, source) == (10 if committed else None)
    assert len(seen(broker, topic)[0]) == (10 if committed else 0)
    assert consumer.committed([ck.TopicPartition(source, 0)], TIMEOUT_S)[0].offset == (10 if committed else -1001)
    consumer.close()


def committed_offset(broker: RunningBroker, group: str, topic: str) -> int | None:
    found = broker.do(broker.services.groups.fetch_offsets(group)).get(TopicPartition(topic, 0))
    return None if found is None else found.offset


def test_offsets_that_are_not_decided_are_unstable(broker: RunningBroker, topic: str) -> None:
    """A consumer that asks for stable offsets waits until the transaction is over (KIP-447)."""
    group = f"group-{new_id()}"
    consumer = ck.Consumer({"bootstrap.servers": broker.address, "group.id": group, "isolation.level": "read_committed"})
    producer = ck_producer(broker, new_id())
    producer.begin_transaction()
    metadata = consumer.consumer_group_metadata()
    producer.send_offsets_to_transaction([ck.TopicPartition(topic, 0, 7)], metadata, TIMEOUT_S)
    with pytest.raises(ck.KafkaException):
        consumer.committed([ck.TopicPartition(topic, 0)], 1.0)
    producer.commit_transaction(TIMEOUT_S)
    assert consumer.committed([ck.TopicPartition(topic, 0)], TIMEOUT_S)[0].offset == 7
    consumer.close()


# -- aiokafka ------------------------------------------------------------------------------------------------------------


def test_aiokafka_commits_aborts_and_is_fenced(broker: RunningBroker, topic: str) -> None:
    name = new_id()

    async def work() -> None:
        old = aiokafka.AIOKafkaProducer(bootstrap_servers=broker.address, transactional_id=name)
        await old.start()
        async with old.transaction():
            await old.send_and_wait(topic, b"a", partition=0)
        await old.begin_transaction()
        await old.send_and_wait(topic, b"never", partition=0)
        await old.abort_transaction()
        new = aiokafka.AIOKafkaProducer(bootstrap_servers=broker.address, transactional_id=name)
        await new.start()
        with pytest.raises(AioProducerFenced):
            async with old.transaction():
                await old.send_and_wait(topic, b"fenced", partition=0)
        async with new.transaction():
            await new.send_and_wait(topic, b"b", partition=0)
            await new.send_offsets_to_transaction({aiokafka.TopicPartition(topic, 0): 2}, f"group-{name}")
        await old.stop()
        await new.stop()
        consumer = aiokafka.AIOKafkaConsumer(
            topic, bootstrap_servers=broker.address, isolation_level="read_committed", auto_offset_reset="earliest"
        )
        await consumer.start()
        values = [(await consumer.getone()).value for _ in range(2)]
        assert values == [b"a", b"b"]
        await consumer.stop()

    asyncio.run(asyncio.wait_for(work(), 60))
    assert committed_offset(broker, f"group-{name}", topic) == 2


# -- kafka-python --------------------------------------------------------------------------------------------------------


def test_kafka_python_commits_and_aborts(broker: RunningBroker, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.address, transactional_id=new_id())
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, b"a", partition=0).get(TIMEOUT_S)
    producer.commit_transaction()
    producer.begin_transaction()
    producer.send(topic, b"never", partition=0).get(TIMEOUT_S)
    producer.abort_transaction()
    producer.begin_transaction()
    producer.send(topic, b"b", partition=0).get(TIMEOUT_S)
    producer.commit_transaction()
    producer.close()
    consumer = KafkaConsumer(
        bootstrap_servers=broker.address,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        consumer_timeout_ms=5_000,
    )
    consumer.assign([PyTopicPartition(topic, 0)])
    values = []
    for message in consumer:
        values.append(message.value)
        if len(values) == 2:
            break
    assert values == [b"a", b"b"]
    consumer.close()
