"""What the Kafka benchmark does with a broker, by librdkafka: the same client for every server."""

import time
from collections.abc import Mapping
from types import MappingProxyType

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

_QUIET = {"log_level": 0}
_TIMEOUT = 60.0
_BATCH = 5_000


def connected(address: str) -> dict[str, object]:
    """What every client is given."""
    return {"bootstrap.servers": address, **_QUIET}


def create_topic(address: str, name: str, partitions: int, settings: Mapping[str, str]) -> None:
    """Create a topic and wait until it is there."""
    admin = AdminClient(connected(address))
    admin.create_topics([NewTopic(name, partitions, 1, config=dict(settings))])[name].result(_TIMEOUT)


class BulkProducer:
    """A producer kept between rounds, with librdkafka's own batching."""

    def __init__(self, address: str) -> None:
        self._watcher = _consumer(address)
        self._producer = Producer(
            {**connected(address), "queue.buffering.max.messages": 2_000_000, "queue.buffering.max.kbytes": 1 << 20}
        )

    def send(self, topic: str, value: bytes, count: int, partitions: int = 1) -> float:
        """Send ``count`` records round the partitions; seconds until the last is acknowledged.

        No record has a callback, which in Python would cost more than the record: see ``records`` for what has arrived.
        """
        messages = [{"value": value}] * _BATCH
        begin = time.perf_counter()
        for number in range(-(-count // _BATCH)):
            some = messages[: count - number * _BATCH]
            queued = self._producer.produce_batch(topic, some, partition=number % partitions)
            assert queued == len(some)
            self._producer.poll(0)
        left = self._producer.flush(_TIMEOUT)
        seconds = time.perf_counter() - begin
        assert not left, f"{left} records are not acknowledged"
        return seconds

    def records(self, topic: str, partitions: int) -> int:
        """How many records the partitions of a topic have had."""
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        return sum(self._watcher.get_watermark_offsets(place, _TIMEOUT)[1] for place in places)


def consume(address: str, topic: str, count: int) -> float:
    """Seconds from the assignment until ``count`` records of partition 0 have come, from its beginning.

    The client may hold all of them: it rests for a second (fetch.queue.backoff.ms) when it has queued.min.messages, which
    a quick server reaches before Python has taken any, and a slow one does not.
    """
    consumer = _consumer(address, {"queued.min.messages": 10_000_000, "queued.max.messages.kbytes": 1 << 20})
    begin = time.perf_counter()
    consumer.assign([TopicPartition(topic, 0, 0)])
    got = 0
    while got < count:
        messages = consumer.consume(min(10_000, count - got), _TIMEOUT)
        assert messages, f"{got} of {count} records came"
        assert messages[-1].error() is None, messages[-1].error()
        got += len(messages)
    seconds = time.perf_counter() - begin
    consumer.close()
    return seconds


def _consumer(address: str, settings: Mapping[str, object] = MappingProxyType({})) -> Consumer:
    common = {"group.id": "bench", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    return Consumer({**connected(address), **common, **settings})


def single_latencies(address: str, topic: str, value: bytes, count: int) -> list[float]:
    """Seconds from produce to acknowledgement, of one record after another."""
    producer = Producer({**connected(address), "linger.ms": 0})
    found: list[float] = []
    for _ in range(count):
        begin = time.perf_counter()
        producer.produce(topic, value, partition=0, on_delivery=lambda error, _: found.append(_now(error)))
        producer.flush(_TIMEOUT)
        found[-1] -= begin
    return found


def _now(error: object) -> float:
    assert error is None, error
    return time.perf_counter()


def end_to_end_latencies(address: str, topic: str, value: bytes, count: int) -> list[float]:
    """Seconds from produce until a consumer that waits for it has the record, one record after another."""
    producer = Producer({**connected(address), "linger.ms": 0})
    producer.produce(topic, value, partition=0)
    producer.flush(_TIMEOUT)
    consumer = _consumer(address)
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), _TIMEOUT)
    consumer.assign([TopicPartition(topic, 0, end - 1)])
    assert consumer.poll(_TIMEOUT) is not None
    found = []
    for _ in range(count):
        begin = time.perf_counter()
        producer.produce(topic, value, partition=0)
        producer.poll(0)
        message = consumer.poll(_TIMEOUT)
        assert message is not None and message.error() is None
        found.append(time.perf_counter() - begin)
        producer.flush(_TIMEOUT)
    consumer.close()
    return found


def first_record(address: str, topic: str, began: float) -> float:
    """Seconds since ``began`` (monotonic) until a topic is made and a first record is acknowledged."""
    create_topic(address, topic, 1, {})
    producer = Producer({**connected(address), "linger.ms": 0, "reconnect.backoff.ms": 10})
    done: list[float] = []
    producer.produce(topic, b"first", partition=0, on_delivery=lambda error, _: done.append(_now(error)))
    producer.flush(_TIMEOUT)
    assert done
    return time.monotonic() - began
