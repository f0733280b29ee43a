"""Requests of real clients, recorded: ``python -m tests.kafka_api.capture`` writes ``captures.bin.gz`` anew.

A proxy stands between the clients and a broker that advertises the proxy's address, and keeps every distinct request frame
(by API, version and length) that comes by. The file is the frames one after another, each with its size in front.
"""

import asyncio
import gzip
import shutil
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from logbroker.wire.framing import FrameBuffer
from tests.kafka_api.broker import running_broker
from tests.kafka_api.kafka_python import KafkaConsumer, KafkaProducer

FILE = Path(__file__).with_name("captures.bin.gz")
TOPIC = "captured"
RECOMPRESSED = "recompressed"
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def load() -> list[bytes]:
    """The payloads of the recorded frames."""
    data = gzip.decompress(FILE.read_bytes())
    payloads, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        payloads.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return payloads


class Proxy:
    """Passes bytes between clients and the broker and keeps the requests."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.kept: dict[tuple[bytes, int], bytes] = {}
        self._broker = ("", 0)

    def serve(self, broker: tuple[str, int]) -> None:
        self._broker = broker
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(self._broker)
            threading.Thread(target=self._pump, args=(client, server, FrameBuffer(1 << 24, 1 << 24)), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, None), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, frames: FrameBuffer | None) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
                if frames is not None:
                    self._keep(frames, data)
        except OSError:
            pass
        finally:
            sink.close()

    def _keep(self, frames: FrameBuffer, data: bytes) -> None:
        view = memoryview(data)
        while view:
            room = frames.get_buffer()
            count = min(len(room), len(view))
            room[:count] = view[:count]
            frames.received(count)
            view = view[count:]
            while (frame := frames.next_frame()) is not None:
                self.kept.setdefault((bytes(frame[:4]), len(frame) // 16), bytes(frame))


def record() -> list[bytes]:
    """Run every client once through the proxy."""
    proxy = Proxy()
    with running_broker(kafka_advertised="") as broker:
        broker.create_topic(RECOMPRESSED, 1, compression_type="zstd")
        node = broker.server._state
        assert node is not None
        node.node = type(node.node)(0, *proxy.address, node.node.cluster_id)
        proxy.serve(broker.host_and_port)
        address = f"{proxy.address[0]}:{proxy.address[1]}"
        _confluent(address)
        _kafka_python(address)
        asyncio.run(_aiokafka(address))
        _kcat(address)
    return list(proxy.kept.values())


def _confluent(address: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    for futures in (
        admin.create_topics([NewTopic(TOPIC, 2, 1, config={"retention.ms": "1000000"}), NewTopic("gone", 1, 1)]),
        admin.create_partitions([NewPartitions(TOPIC, 3)]),
        admin.describe_configs([ConfigResource(ResourceType.TOPIC, TOPIC), ConfigResource(ResourceType.BROKER, "0")]),
        admin.incremental_alter_configs([
            ConfigResource(
                ResourceType.TOPIC,
                TOPIC,
                incremental_configs=[ConfigEntry("segment.ms", "60000", incremental_operation=AlterConfigOpType.SET)],
            )
        ]),
        admin.delete_topics(["gone"]),
    ):  # fmt: skip
        for future in futures.values():
            future.result(10)
    for codec in CODECS:
        for idempotent in (False, True):
            producer = Producer({"bootstrap.servers": address, "compression.type": codec, "enable.idempotence": idempotent})
            for number in range(20):
                producer.produce(TOPIC, b"value %d " % number * 5, key=b"%d" % number, headers=[("h", b"v")], partition=0)
            producer.produce(RECOMPRESSED, b"value " * 50)
            producer.flush(10)
    for future in admin.list_offsets({TopicPartition(TOPIC, 0): OffsetSpec.max_timestamp()}).values():
        future.result(10)
    admin.delete_records([TopicPartition(TOPIC, 0, 3)])[TopicPartition(TOPIC, 0, 3)].result(10)
    consumer = Consumer({"bootstrap.servers": address, "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.subscribe([TOPIC])
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is not None and not message.error():
            consumer.commit(message, asynchronous=False)
    consumer.offsets_for_times([TopicPartition(TOPIC, 0, 1)], 10)
    consumer.committed([TopicPartition(TOPIC, 0)], 10)
    admin.list_consumer_groups().result(10)
    admin.describe_consumer_groups(["g"])["g"].result(10)
    admin.describe_cluster().result(10)
    consumer.close()
    admin.delete_consumer_groups(["g"])["g"].result(10)


def _kafka_python(address: str) -> None:
    producer = KafkaProducer(bootstrap_servers=address, compression_type="gzip")
    producer.send(TOPIC, b"python " * 30).get(10)
    producer.close()
    consumer = KafkaConsumer(
        TOPIC, bootstrap_servers=address, group_id="p", consumer_timeout_ms=1500, auto_offset_reset="earliest"
    )
    list(consumer)
    consumer.close()


async def _aiokafka(address: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True, compression_type="lz4")
    await producer.start()
    await producer.send_and_wait(TOPIC, b"aio " * 30)
    await producer.stop()
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=address, group_id="a", auto_offset_reset="earliest")
    await consumer.start()
    await consumer.getone()
    await consumer.stop()


def _kcat(address: str) -> None:
    program = shutil.which("kcat")
    if program is not None:
        subprocess.run([program, "-b", address, "-t", TOPIC, "-P"], input=b"line\n" * 5, check=True, timeout=20)
        subprocess.run([program, "-b", address, "-t", TOPIC, "-C", "-e", "-q"], check=True, timeout=20, capture_output=True)


if __name__ == "__main__":
    payloads = record()
    data = b"".join(struct.pack(">i", len(payload)) + payload for payload in payloads)
    FILE.write_bytes(gzip.compress(data, mtime=0))
