"""The instances of the copy loop, each in a process of its own, by librdkafka: consume, transform, produce, send offsets.

What lives here: one instance, the filling of its source, the reading of its target. What may not: kills, judgement.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.synchronize import Event
from typing import TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.crash.group_clients import SESSION_MS, client_settings

SOURCE = "copy-source"
TARGET = "copy-target"
GROUP = "copiers"
PARTITIONS = 6
_BATCH = 20
_TIMEOUT_S = 5.0
_ATTEMPTS = 3
_HANGS_S = 20.0
HUNG = 3
"""The exit code of an instance whose transaction hung. After a restart of the broker librdkafka 2.16 can wait for ever in
send_offsets_to_transaction, past the time-out it was given and without having sent anything; whoever runs instances
starts such a one again.
"""
Some: TypeAlias = Callable[[Producer, Consumer, list[Message]], None]
"""Copies some messages."""


def create_topics(port: int) -> None:
    """Source and target."""
    admin = AdminClient(client_settings(port))
    for future in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (SOURCE, TARGET)]).values():
        future.result(30)


def fill(port: int, first: int, count: int) -> None:
    """Values ``first`` and following, each once."""
    producer = Producer({**client_settings(port), "enable.idempotence": True, "linger.ms": 2})
    for value in range(first, first + count):
        producer.produce(SOURCE, str(value).encode(), partition=value % PARTITIONS)
        producer.poll(0)
    assert producer.flush(120) == 0


def copy(port: int, number: int, stop: Event) -> None:
    """Copy until told to stop, offsets and copies in one transaction."""
    _copy_for_ever(port, number, stop, _copy_some)


def copy_at_least_once(port: int, number: int, stop: Event) -> None:
    """The control: offsets are committed after the transaction and not in it."""
    _copy_for_ever(port, number, stop, _copy_some_then_commit)


def _copy_for_ever(port: int, number: int, stop: Event, some: Some) -> None:
    """Whatever goes wrong, both clients are made anew, as a process that ends and starts would."""
    while not stop.is_set():
        try:
            _copy(port, number, stop, some)
        except KafkaException:
            continue


def _copy(port: int, number: int, stop: Event, some: Some) -> None:
    producer = Producer(
        {**client_settings(port), "transactional.id": f"copier-{number}", "linger.ms": 1, "transaction.timeout.ms": 5_000}
    )
    producer.init_transactions(_TIMEOUT_S)
    consumer = Consumer(
        {
            **client_settings(port),
            "group.id": GROUP,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 200,
            "fetch.wait.max.ms": 50,
        }
    )
    consumer.subscribe([SOURCE])
    try:
        while not stop.is_set():
            messages = [one for one in consumer.consume(_BATCH, 0.1) if one.error() is None]
            if messages:
                hangs = threading.Timer(_HANGS_S, os._exit, [HUNG])
                hangs.start()
                try:
                    some(producer, consumer, messages)
                finally:
                    hangs.cancel()
    finally:
        consumer.close()


def _copy_some_then_commit(producer: Producer, consumer: Consumer, messages: list[Message]) -> None:
    producer.begin_transaction()
    for message in messages:
        producer.produce(TARGET, b"copy of " + (message.value() or b""), partition=message.partition() or 0)
    producer.commit_transaction(_TIMEOUT_S)
    time.sleep(0.2)
    consumer.commit(message=messages[-1], asynchronous=False)


def _copy_some(producer: Producer, consumer: Consumer, messages: list[Message]) -> None:
    """One transaction. Raises KafkaException, and then the caller begins anew."""
    producer.begin_transaction()
    positions: dict[int, int] = {}
    for message in messages:
        partition = message.partition() or 0
        positions[partition] = (message.offset() or 0) + 1
        producer.produce(TARGET, b"copy of " + (message.value() or b""), partition=partition)
    offsets = [TopicPartition(SOURCE, partition, offset) for partition, offset in positions.items()]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), _TIMEOUT_S)
    for attempt in range(_ATTEMPTS):
        try:
            producer.commit_transaction(_TIMEOUT_S)
        except KafkaException as refused:
            if not refused.args[0].retriable() or attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def copied(port: int) -> Counter[int]:
    """How often each value stands in the target, for a committed reader."""
    consumer = Consumer(
        {
            **client_settings(port),
            "group.id": "copy-reader",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(TARGET, partition, 0) for partition in range(PARTITIONS)])
    found: Counter[int] = Counter()
    at_end: set[int] = set()
    while len(at_end) < PARTITIONS:
        for message in consumer.consume(1_000, 1.0):
            error = message.error()
            if error is None:
                found[int((message.value() or b"").removeprefix(b"copy of "))] += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                at_end.add(message.partition() or 0)
    consumer.close()
    return found
