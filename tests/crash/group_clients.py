"""Clients of the group loop, each in a process of its own, by librdkafka: producers and members of a group.

What lives here: what a client sends and sees, into its history. What may not: judgement. A member commits what it was given
right after it was given it, as one that has processed it would.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from multiprocessing.synchronize import Event
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.crash.history import Commit, Committed, Outcome, Poll, Recorder, Send, Subscribe
from tools.bench.servers.process import HOST

TOPIC = "jobs"
GROUP = "g"
PARTITIONS = 12
PLAIN_TOPIC = "plain"
PLAIN_PARTITIONS = 2
SESSION_MS = 1_000
PROTOCOLS: Mapping[str, Mapping[str, object]] = {
    "classic": {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 200},
    "consumer": {"group.protocol": "consumer"},
}
"""The settings of a member by its protocol; in the consumer protocol (KIP-848) the broker sets the times."""
_REFUSALS = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.FENCED_MEMBER_EPOCH,
    }
)
_BATCH = 5


def client_settings(port: int) -> dict[str, object]:
    return {
        "bootstrap.servers": f"{HOST}:{port}",
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 200,
        "log_level": 0,
    }


def create_topic(port: int, name: str = TOPIC, partitions: int = PARTITIONS) -> None:
    """The topic of the loop, or another."""
    admin = AdminClient(client_settings(port))
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)


def produce(port: int, number: int, path: Path, stop: Event) -> None:
    """Send small batches of unique values to one partition after another until told to stop; librdkafka retries."""
    _produce(port, path, stop, f"producer-{number}", TOPIC, PARTITIONS, _BATCH, {"enable.idempotence": True})


def produce_plain(port: int, number: int, path: Path, stop: Event) -> None:
    """The same without idempotence, one value at a time: librdkafka retries here too, and may write twice."""
    _produce(port, path, stop, f"plain-producer-{number}", PLAIN_TOPIC, PLAIN_PARTITIONS, 1, {"enable.idempotence": False})


def _produce(
    port: int,
    path: Path,
    stop: Event,
    process: str,
    topic: str,
    partitions: int,
    batch: int,
    settings: Mapping[str, object],
) -> None:
    producer = Producer({**client_settings(port), "linger.ms": 1, **settings})
    with closing(Recorder(path, process)) as recorder:
        value = 0
        while not stop.is_set():
            values = tuple(range(value, value + batch))
            partition = value // batch % partitions
            value += batch
            recorder.begin(Send(f"{topic}-{partition}", values))
            base_offset = _send(producer, topic, partition, values)
            outcome = Outcome.UNKNOWN if base_offset is None else Outcome.OK
            recorder.end(outcome, Send(f"{topic}-{partition}", values, base_offset))


def _send(producer: Producer, topic: str, partition: int, values: tuple[int, ...]) -> int | None:
    """The offset of the first, when all were acknowledged one behind the other."""
    offsets: list[int] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is None:
            offsets.append(message.offset() or 0)

    for value in values:
        producer.produce(topic, str(value).encode(), partition=partition, on_delivery=delivered)
    producer.flush()
    if len(offsets) < len(values):
        return None
    assert offsets == list(range(offsets[0], offsets[0] + len(values))), offsets
    return offsets[0]


class Member:
    """A member of the group, with its history."""

    def __init__(self, port: int, recorder: Recorder, protocol: str) -> None:
        self._recorder = recorder
        self._rebalanced = False
        settings = {"group.id": GROUP, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        self._consumer = Consumer({**client_settings(port), **settings, **PROTOCOLS[protocol], "fetch.wait.max.ms": 100})
        recorder.begin(Subscribe())
        self._consumer.subscribe([TOPIC], on_assign=self._on_rebalance, on_revoke=self._on_rebalance)
        recorder.end(Outcome.OK, Subscribe())

    def _on_rebalance(self, _: Consumer, __: list[TopicPartition]) -> None:
        self._rebalanced = True

    def turn(self) -> None:
        """Poll and commit."""
        self._recorder.begin(Poll(group=GROUP))
        self._rebalanced = False
        messages = [one for one in self._consumer.consume(200, 0.1) if one.error() is None]
        seen: dict[str, list[tuple[int, int]]] = {}
        for message in messages:
            seen.setdefault(f"{TOPIC}-{message.partition()}", []).append((message.offset(), int(message.value())))
        records = {where: tuple(some) for where, some in seen.items()}
        self._recorder.end(Outcome.OK, Poll(records, GROUP, self._rebalanced))
        if records:
            self._commit({where: some[-1][0] + 1 for where, some in records.items()})

    def _commit(self, offsets: dict[str, int]) -> None:
        commit = Commit(GROUP, offsets)
        self._recorder.begin(commit)
        places = [TopicPartition(TOPIC, int(where.rpartition("-")[2]), offset) for where, offset in offsets.items()]
        try:
            self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            refused = error.args[0].code() in _REFUSALS
            self._recorder.end(Outcome.FAIL if refused else Outcome.UNKNOWN, commit)
        else:
            self._recorder.end(Outcome.OK, commit)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


def consume(port: int, number: int, path: Path, stop: Event, protocol: str) -> None:
    """Be a member until told to stop, or killed."""
    with closing(Recorder(path, f"member-{number}")) as recorder, closing(Member(port, recorder, protocol)) as member:
        while not stop.is_set():
            member.turn()


class Watcher:
    """Reads what the group has committed, without being a member."""

    def __init__(self, port: int, path: Path) -> None:
        self._consumer = Consumer({**client_settings(port), "group.id": GROUP, "enable.auto.commit": False})
        self._recorder = Recorder(path, "watcher")

    def committed(self) -> dict[str, int]:
        """The committed offsets, noted in the history."""
        self._recorder.begin(Committed(GROUP))
        places = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]
        found = self._consumer.committed(places, timeout=30)
        offsets = {f"{TOPIC}-{one.partition}": one.offset for one in found if one.offset >= 0}
        self._recorder.end(Outcome.OK, Committed(GROUP, offsets))
        return offsets

    def is_done(self) -> bool:
        """Whether the group has committed everything there is."""
        committed = self.committed()
        ends = {
            f"{TOPIC}-{partition}": self._consumer.get_watermark_offsets(TopicPartition(TOPIC, partition), 30)[1]
            for partition in range(PARTITIONS)
        }
        return all(committed.get(where, 0) == end for where, end in ends.items())

    def wait_until_done(self, seconds: float) -> None:
        """Return when everything is committed, or after that time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.is_done():
            time.sleep(0.1)

    def close(self) -> None:
        """Close the connection and the history."""
        self._consumer.close()
        self._recorder.close()
