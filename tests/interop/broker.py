"""A topic written by Apache Kafka itself: every codec, headers, idempotent and transactional producers, several segments.

What lives here: the broker run and the clients that write. What may not: anything of logbroker; what it reads is judged by
the tests. Invariant: ``WrittenByKafka.records`` is what the clients sent and Kafka acknowledged, by offset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from logbroker.model import Header, Record
from tools.bench.servers.kafka import kafka

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
TOPIC = "written-by-kafka"
_MEBIBYTE = 1 << 20


@dataclass
class WrittenByKafka:
    """The folder of the partition, with what is in it."""

    folder: Path
    records: dict[int, Record] = field(default_factory=dict)
    """Every record that was acknowledged, also those of the aborted transaction."""
    aborted: set[int] = field(default_factory=set)
    """The offsets of the records of the aborted transaction."""


def write_by_kafka(directory: Path) -> WrittenByKafka:
    """Run a broker below ``directory``, write, and stop it cleanly."""
    written = WrittenByKafka(directory / "data" / f"{TOPIC}-0")
    with kafka(directory, heap="256m") as server:
        client = {"bootstrap.servers": server.address}
        settings = {"segment.bytes": str(_MEBIBYTE), "index.interval.bytes": "512"}
        admin = AdminClient(client)
        admin.create_topics([NewTopic(TOPIC, 1, 1, config=settings)])[TOPIC].result(30)
        for number, codec in enumerate(CODECS):
            producer = Producer(
                {**client, "compression.type": codec, "linger.ms": 20, "enable.idempotence": number % 2 == 1}
            )
            _send(producer, _records(codec, 100), written)
        _send(Producer(client), [Record(bytes([one]) * 500_000, b"large") for one in range(5)], written)
        _write_transactions(client, written)
    return written


def _records(codec: str, count: int) -> list[Record]:
    headers = (Header("codec", codec.encode()), Header("empty", b""), Header("null", None), Header("codec", b"again"))
    records = [
        Record(
            f"{codec} {one} ".encode() * (one % 40 + 1),
            f"key-{one}".encode(),
            headers,
            1_700_000_000_000 + (one * 7919) % 1000,
        )
        for one in range(count)
    ]
    return [*records, Record(None, b"tombstone"), Record(b"", None), Record("übergroß €".encode(), b"")]


def _send(producer: Producer, records: Sequence[Record], written: WrittenByKafka) -> list[int]:
    """Send, wait for every acknowledgement, and note the offsets."""
    offsets: list[int] = []
    for record in records:

        def acknowledged(error: object, message: Message, record: Record = record) -> None:
            assert error is None, error
            offset = message.offset()
            assert offset is not None
            written.records[offset] = record
            offsets.append(offset)

        headers = [(header.name, header.value) for header in record.headers]
        arguments = {"timestamp": record.timestamp_ms} if record.timestamp_ms is not None else {}
        producer.produce(
            TOPIC, record.value, record.key, partition=0, headers=headers, on_delivery=acknowledged, **arguments
        )
    producer.flush(60)
    assert len(offsets) == len(records)
    return offsets


def _write_transactions(client: Mapping[str, str], written: WrittenByKafka) -> None:
    producer = Producer({**client, "transactional.id": "t"})
    producer.init_transactions(60)
    producer.begin_transaction()
    _send(producer, _records("none", 3), written)
    producer.commit_transaction(60)
    producer.begin_transaction()
    written.aborted.update(_send(producer, _records("none", 2), written))
    producer.abort_transaction(60)
