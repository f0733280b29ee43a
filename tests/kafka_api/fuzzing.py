"""Mutated frames against a broker of its own process, beside a client that works all the while.

What lives here: the attack and what is measured of it. What may not: verdicts (``test_fuzz``, ``python -m tools.faults``).
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from logbroker.wire.apis import Api
from tests.kafka_api.capture import RECOMPRESSED, TOPIC, load
from tests.kafka_api.mutations import bombs, mutated
from tests.kafka_api.raw import request_frame
from tests.wire.peers import kafka_python_encode
from tools.bench.servers.logbroker import logbroker
from tools.bench.servers.process import HOST, Server

AT_ONCE = 20
ANSWER_S = 0.03
HEALTHY = "healthy"
_VERSIONS = request_frame(
    Api.API_VERSIONS,
    3,
    0x7EEDBEEF,
    kafka_python_encode("ApiVersionsRequest", 3, {"client_software_name": "f", "client_software_version": "1"}),
)


@contextlib.contextmanager
def broker(directory: Path) -> Iterator[Server]:
    """A broker to be attacked."""
    with logbroker(directory, durability="os", kafka=True, arguments=["--config", str(_config(directory))]) as running:
        yield running


def _config(directory: Path) -> Path:
    file = directory / "logbroker.toml"
    file.write_text('max_partitions = 300\nlog_level = "warning"\n')
    return file


def address(server: Server) -> str:
    return f"{HOST}:{server.extra['kafka']}"


class HealthyClient(threading.Thread):
    """Produces and consumes all the while; ``stop`` says what went wrong."""

    def __init__(self, where: str) -> None:
        super().__init__(name="healthy client")
        self._where = where
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self.count = 0
        self.slowest_s = 0.0
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._failure = error

    def _work(self) -> None:
        producer = Producer({"bootstrap.servers": self._where, "enable.idempotence": True})
        consumer = Consumer({"bootstrap.servers": self._where, "group.id": HEALTHY})
        consumer.assign([TopicPartition(HEALTHY, 0, 0)])
        while not self._stopping.is_set():
            value = b"%d" % self.count
            began = time.monotonic()
            producer.produce(HEALTHY, value, partition=0)
            assert producer.flush(20) == 0
            message = consumer.poll(20)
            assert message is not None
            assert message.error() is None, message.error()
            assert message.value() == value
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.count += 1
        consumer.close()

    def stop(self) -> None:
        self._stopping.set()
        self.join(60)
        if self._failure is not None:
            raise self._failure


class Attacker:
    """Sends each frame over a connection that is in order: one the broker closed or does not answer on is replaced."""

    def __init__(self, where: tuple[str, int]) -> None:
        self._where = where
        self._connections: list[socket.socket] = []

    def send(self, frames: list[bytes]) -> int:
        """Send every frame by a connection of its own; how many connections have survived."""
        while len(self._connections) < len(frames):
            self._connections.append(self._opened())
        for connection, frame in zip(self._connections, frames, strict=False):
            with contextlib.suppress(OSError):
                connection.sendall(frame + _VERSIONS)
        deadline = time.monotonic() + ANSWER_S
        survivors = [one for one in self._connections if _is_answered(one, deadline)]
        for connection in self._connections:
            if connection not in survivors:
                connection.close()
        self._connections = survivors
        return len(survivors)

    def _opened(self) -> socket.socket:
        connection = socket.create_connection(self._where, timeout=5)
        connection.sendall(_VERSIONS)
        assert _is_answered(connection, time.monotonic() + 60), "the broker answers nobody any more"
        return connection

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def _is_answered(connection: socket.socket, deadline: float) -> bool:
    """Whether the broker comes to the last request soon: it may be parked behind a long poll or half a frame."""
    received = b""
    try:
        while _VERSIONS[8:12] not in received:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            more = connection.recv(1 << 16)
            if not more:
                return False
            received = received[-8:] + more
    except OSError:
        return False
    return True


def logged_errors(server: Server) -> list[Any]:
    lines = [json.loads(line) for line in server.output.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["level"] == "error" or "exception" in line]


@dataclass(frozen=True)
class Attack:
    """What came of an attack."""

    frames: int
    survived: int
    """Connections that were still answered on after their frame."""
    at_rest: int
    most: int
    """Bytes resident before it, and the most during it."""
    healthy_count: int
    healthy_slowest_s: float
    is_alive: bool
    errors: list[Any]
    """What the broker logged as an error."""

    def summary(self) -> str:
        """In one line."""
        return (
            f"{self.frames} frames, {self.survived} of their connections lived on; broker "
            f"{'alive' if self.is_alive else 'DEAD'}, {len(self.errors)} errors in its log; memory grew by at most "
            f"{(self.most - self.at_rest) >> 20} MiB; a working client beside did {self.healthy_count} produces and "
            f"fetches, the slowest in {self.healthy_slowest_s:.2f} s"
        )


def attack(server: Server, count: int, seed: int) -> Attack:
    """Send so many frames and bombs. Raises what the working client raised."""
    _make_topics(server)
    random, payloads = Random(seed), load()
    healthy = HealthyClient(address(server))
    attacker = Attacker((HOST, server.extra["kafka"]))
    at_rest = most = server.resident_bytes()
    survived = 0
    for number in range(0, count, AT_ONCE):
        frames = [mutated(random.choice(payloads), random) for _ in range(AT_ONCE)]
        if number % 1_000 == 0:
            frames[0] = random.choice(bombs())
        survived += attacker.send(frames)
        if number % 200 == 0:
            most = max(most, server.resident_bytes())
    for bomb in bombs():
        attacker.send([bomb] * AT_ONCE if count > 50_000 else [bomb])
        most = max(most, server.resident_bytes())
    attacker.close()
    healthy.stop()
    is_alive = server.process.poll() is None
    return Attack(count, survived, at_rest, most, healthy.count, healthy.slowest_s, is_alive, logged_errors(server))


def _make_topics(server: Server) -> None:
    admin = AdminClient({"bootstrap.servers": address(server)})
    topics = [NewTopic(HEALTHY, 1, 1), NewTopic(TOPIC, 3, 1)]
    topics.append(NewTopic(RECOMPRESSED, 1, 1, config={"compression.type": "lz4", "max.message.bytes": "10000000"}))
    for future in admin.create_topics(topics).values():
        future.result(20)
