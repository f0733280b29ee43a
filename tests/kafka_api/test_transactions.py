"""Transactions by the clients people use, against a real door: committed, aborted, timed out, fenced, with offsets."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping

import aiokafka
import confluent_kafka as ck
import pytest
from aiokafka.errors import ProducerFenced as AioProducerFenced

from logbroker.engine.api import Isolation
from logbroker.groups.transactions.messages import Status
from logbroker.model import ProducerStamp, Record, TopicPartition
from logbroker.records.codec import encode
from logbroker.wire.apis import Api
from logbroker.wire.codes import ErrorCode
from tests.kafka_api.broker import RunningBroker, running_broker
from tests.kafka_api.kafka_python import KafkaConsumer, KafkaProducer
from tests.kafka_api.kafka_python import TopicPartition as PyTopicPartition
from tests.kafka_api.raw import RawClient, produce_body

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


# -- without a client that knows better ----------------------------------------------------------------------------------


def test_a_batch_enters_only_a_partition_that_was_added(broker: RunningBroker, topic: str) -> None:
    name = new_id()
    with contextlib.closing(RawClient(broker)) as client:
        timeout = {"transactional_id": name, "transaction_timeout_ms": 60_000}
        granted = client.call(Api.INIT_PRODUCER_ID, 2, **timeout)
        producer = granted["producer_id"], granted["producer_epoch"]
        claim = dict(zip(("v3_and_below_producer_id", "v3_and_below_producer_epoch"), producer, strict=True))

        def add(*topics: Mapping[str, object], **changed: object) -> list[int]:
            fields = {**claim, **changed, "v3_and_below_transactional_id": name, "v3_and_below_topics": list(topics)}
            answer = client.call(Api.ADD_PARTITIONS_TO_TXN, 3, **fields)
            return [
                one["partition_error_code"]
                for result in answer["results_by_topic_v3_and_below"]
                for one in result["results_by_partition"]
            ]

        records = [Record(b"x")]
        batch = encode(records, now_ms=1, producer=ProducerStamp(*producer, 0), transactional=True)
        stranger = encode(records, now_ms=1, producer=ProducerStamp(producer[0] + 1, 0, 0), transactional=True)
        assert produced(client, topic, batch, name) == ErrorCode.INVALID_TXN_STATE
        unknown = {"name": "no-such-topic", "partitions": [0]}
        codes = add({"name": topic, "partitions": [0]}, unknown)
        assert codes == [ErrorCode.OPERATION_NOT_ATTEMPTED, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
        assert add({"name": topic, "partitions": [0]}, v3_and_below_producer_epoch=5) == [ErrorCode.PRODUCER_FENCED]
        assert add({"name": topic, "partitions": [1]}) == [ErrorCode.NONE]
        assert produced(client, topic, batch, name) == ErrorCode.INVALID_TXN_STATE
        assert add({"name": topic, "partitions": [0]}) == [ErrorCode.NONE]
        assert produced(client, topic, batch, None) == ErrorCode.INVALID_TXN_STATE
        assert produced(client, topic, stranger, name) == ErrorCode.INVALID_PRODUCER_ID_MAPPING
        assert produced(client, topic, batch, name) == ErrorCode.NONE
        [described] = client.call(Api.DESCRIBE_TRANSACTIONS, 0, transactional_ids=[name])["transaction_states"]
        assert (described["transaction_state"], described["topics"]) == (
            "Ongoing",
            [{"topic": topic, "partitions": [0, 1]}],
        )
        filters = {"state_filters": ["Ongoing", "Sideways"], "producer_id_filters": [producer[0]], "duration_filter": -1}
        listed = client.call(Api.LIST_TRANSACTIONS, 1, **filters)
        assert listed["unknown_state_filters"] == ["Sideways"]
        assert [one["transactional_id"] for one in listed["transaction_states"]] == [name]
        end = {"transactional_id": name, "producer_id": producer[0], "producer_epoch": producer[1], "committed": True}
        assert client.call(Api.END_TXN, 3, **end)["error_code"] == ErrorCode.NONE
        assert client.call(Api.END_TXN, 3, **end)["error_code"] == ErrorCode.NONE
        assert client.call(Api.END_TXN, 1, **{**end, "producer_epoch": 9})["error_code"] == ErrorCode.INVALID_PRODUCER_EPOCH
        assert produced(client, topic, batch, name) == ErrorCode.INVALID_TXN_STATE
    assert seen(broker, topic) == [[b"x"], []]


def produced(client: RawClient, topic: str, records: bytes, transactional_id: str | None) -> int:
    answer = client.ask(Api.PRODUCE, 9, produce_body(9, topic, records, transactional_id=transactional_id))
    code: int = answer["responses"][0]["partition_responses"][0]["error_code"]
    return code


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
