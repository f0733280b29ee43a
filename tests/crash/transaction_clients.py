"""Clients of the transaction loop, each in a process of its own, by librdkafka: writers, and a committed reader.

What lives here: what a client sends and sees, into its history. What may not: judgement.
"""

import random
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from multiprocessing.synchronize import Event
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from tests.crash.group_clients import client_settings
from tests.crash.history import Assign, Outcome, Partition, Poll, Recorder, Transact

TOPIC = "ledger"
PARTITIONS = 3
_ABORTED = 0.3
"""How many transactions their writer aborts."""
_TIMEOUT_S = 2.0
_GIVE_UP_S = 60.0


def write(port: int, number: int, path: Path, stop: Event) -> None:
    """One transaction after another, each of two values to every partition."""
    chance = random.Random(number)
    with closing(Recorder(path, f"writer-{number}")) as recorder:
        producer: Producer | None = None
        value = number * 1_000_000
        while not stop.is_set():
            if producer is None:
                producer = _producer(port, number)
                continue
            sent = {f"{TOPIC}-{at}": (value + 2 * at, value + 2 * at + 1) for at in range(PARTITIONS)}
            value += 2 * PARTITIONS
            recorder.begin(Transact(sent))
            outcome, asked_ns, is_usable = _transact(producer, sent, commit=chance.random() > _ABORTED)
            recorder.end(outcome, Transact(sent, asked_ns=asked_ns))
            if not is_usable:
                producer = None


def _producer(port: int, number: int) -> Producer | None:
    settings = {"transactional.id": f"writer-{number}", "linger.ms": 1, "transaction.timeout.ms": 5_000}
    producer = Producer({**client_settings(port), **settings, "message.timeout.ms": 4_000})
    try:
        producer.init_transactions(_TIMEOUT_S * 5)
    except KafkaException:
        return None
    return producer


def _transact(producer: Producer, sent: Mapping[Partition, tuple[int, ...]], *, commit: bool) -> tuple[Outcome, int, bool]:
    """What came of it; when its commit was asked for (0: never); whether the producer can go on."""
    try:
        producer.begin_transaction()
        for at, values in enumerate(sent.values()):
            for value in values:
                producer.produce(TOPIC, str(value).encode(), partition=at)
        if producer.flush(5) > 0:
            return Outcome.FAIL, 0, False
        if not commit:
            producer.abort_transaction(_TIMEOUT_S)
            return Outcome.FAIL, 0, True
    except KafkaException:
        return Outcome.FAIL, 0, False
    asked_ns = time.monotonic_ns()
    deadline = time.monotonic() + _GIVE_UP_S
    while time.monotonic() < deadline:
        try:
            producer.commit_transaction(_TIMEOUT_S)
        except KafkaException as refused:
            if refused.args[0].retriable():
                continue
            break
        return Outcome.OK, asked_ns, True
    return Outcome.UNKNOWN, asked_ns, False


def read(port: int, path: Path, stop: Event) -> None:
    """Committed reads from the beginning on, until told to stop; then once more from the beginning to the end."""
    with closing(Recorder(path, "reader")) as recorder:
        _read(port, recorder, stop)
        _read(port, recorder, None)


def _read(port: int, recorder: Recorder, stop: Event | None) -> None:
    consumer = Consumer(
        {
            **client_settings(port),
            "group.id": "reader",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
        }
    )
    recorder.begin(Assign())
    consumer.assign([TopicPartition(TOPIC, at, 0) for at in range(PARTITIONS)])
    recorder.end(Outcome.OK, Assign())
    at_end: set[int] = set()
    while not (stop.is_set() if stop is not None else len(at_end) == PARTITIONS):
        recorder.begin(Poll())
        seen: dict[Partition, list[tuple[int, int]]] = {}
        for message in consumer.consume(200, 0.1):
            error = message.error()
            if error is None:
                where = f"{TOPIC}-{message.partition()}"
                seen.setdefault(where, []).append((message.offset() or 0, int(message.value() or b"0")))
            elif error.code() == KafkaError._PARTITION_EOF:
                at_end.add(message.partition() or 0)
        recorder.end(Outcome.OK, Poll({where: tuple(records) for where, records in seen.items()}))
    with suppress(RuntimeError):
        consumer.close()
