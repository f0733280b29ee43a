"""Members of a consumer group as threads of this process, by librdkafka, and what tests ask of all of them."""

import contextlib
import threading
import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.kafka_api.broker import RunningBroker
from tests.kafka_api.member import consumer_settings

PARTITIONS = 12
TIMEOUT_S = 20.0


def send(broker: RunningBroker, topic: str, values: list[str], partitions: int = PARTITIONS) -> None:
    """Values round the partitions."""
    producer = Producer({"bootstrap.servers": broker.address})
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % partitions)
    assert producer.flush(TIMEOUT_S) == 0


def until(condition: Callable[[], bool], why: str = "") -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, why
        time.sleep(0.01)


class Member(threading.Thread):
    """A librdkafka consumer in a thread. ``seen`` are the records it has processed."""

    def __init__(self, broker: RunningBroker, group: str, topic: str, strategy: str = "range", **settings: object) -> None:
        super().__init__(name=f"member of {group}")
        self._consumer = Consumer({**consumer_settings(broker.address, group, strategy), **settings})
        self._stopping = threading.Event()
        self.assigned: set[int] = set()
        self.seen: list[tuple[int, int, str]] = []
        cooperative = strategy in ("cooperative-sticky", "consumer")

        def gained(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            numbers = {one.partition for one in partitions}
            self.assigned = self.assigned | numbers if cooperative else numbers

        def lost(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            self.assigned -= {one.partition for one in partitions}

        self._consumer.subscribe([topic], on_assign=gained, on_revoke=lost)
        self.start()

    def run(self) -> None:
        while not self._stopping.is_set():
            message = self._consumer.poll(0.05)
            if message is None or message.error():
                continue
            self.seen.append((message.partition(), message.offset(), message.value().decode()))
            position = TopicPartition(message.topic(), message.partition(), message.offset() + 1)
            with contextlib.suppress(KafkaException):  # refused in a rebalance; a later one of the partition covers it
                self._consumer.commit(offsets=[position], asynchronous=False)
        self._consumer.close()

    def leave(self) -> None:
        self._stopping.set()
        self.join(TIMEOUT_S)
        assert not self.is_alive()


def shares(members: list[Member]) -> list[int]:
    return sorted(len(member.assigned) for member in members)


def is_split(members: list[Member]) -> bool:
    """Whether every partition has exactly one of the members, and none has more than its part."""
    owned = [number for member in members for number in member.assigned]
    return sorted(owned) == list(range(PARTITIONS)) and max(shares(members)) - min(shares(members)) <= 1
