"""Cost grows with the work only: one client and one partition, whatever else the broker has.

The same produces go to the one partition of a topic and to one of a topic of 1,000, alone and beside 1,000 connections that
do nothing. A row is the most expensive of these cases over the cheapest. The requests are bytes on a plain socket, because
librdkafka walks over all partitions of its topics at each turn: with it the cost of 1,000 would be the client's.
"""

import contextlib
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from logbroker.model import Record
from logbroker.records.codec import encode
from tools.bench import kafka_clients as clients
from tools.bench.measure import Figure, at_most, percentile
from tools.bench.servers.logbroker import logbroker
from tools.bench.servers.process import HOST

PARTITIONS = (1, 1_000)
IDLE = (0, 1_000)
ROUNDS, WARM_UP = 4, 1
SINGLES = 3_000
BULK = 100
MOST = 1.3
NOW_MS = 1_700_000_000_000


_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)


@contextlib.contextmanager
def _idle(port: int, count: int) -> Iterator[None]:
    """Connections that say nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection((HOST, port)))
        yield


def _request(topic: str, batch: bytes) -> bytes:
    """Produce v3 of one batch to partition 0, with acks = all."""
    name = topic.encode()
    body = struct.pack(">hhihhhii", 0, 3, 1, -1, -1, -1, 30_000, 1)
    body += struct.pack(f">h{len(name)}siii", len(name), name, 1, 0, len(batch)) + batch
    return struct.pack(">i", len(body)) + body


def _produce(port: int, topic: str, batch: bytes, count: int) -> list[float]:
    """Seconds from each request to its answer, one after another."""
    request = _request(topic, batch)
    found = []
    with socket.create_connection((HOST, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(_API_VERSIONS)  # as every client does; before it, large frames are refused
        connection.recv(65_536)
        for _ in range(count):
            begin = time.perf_counter()
            connection.sendall(request)
            answer = connection.recv(4096)
            found.append(time.perf_counter() - begin)
            error = struct.unpack_from(">h", answer, 4 + 4 + 4 + 2 + len(topic) + 4 + 4)[0]
            assert error == 0, f"refused with error {error}"
    return found


def run(directory: Path) -> list[Figure]:
    """Rows of one broker, with durability ``os`` so that the disk has no say."""
    with logbroker(directory, durability="os", kafka=True) as server:
        port = server.extra["kafka"]
        address = f"{HOST}:{port}"
        single = encode([Record(bytes(100))], now_ms=NOW_MS)
        large = encode([Record(bytes(1000)) for _ in range(950)], now_ms=NOW_MS)
        for partitions in PARTITIONS:
            clients.create_topic(address, f"of-{partitions}", partitions, {})
        seen: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for number, idle, partitions in product(range(WARM_UP + ROUNDS), IDLE, PARTITIONS):
            with _idle(port, idle):
                case = f"{partitions} partitions, {idle} idle connections"
                before = server.cpu_seconds()
                singles = _produce(port, f"of-{partitions}", single, SINGLES)
                used = server.cpu_seconds() - before
                bulk = _produce(port, f"of-{partitions}", large, BULK)
            if number >= WARM_UP:
                seen["p50 of single produces"][case].append(percentile(singles, 50) * 1e3)
                seen["broker CPU of a single produce"][case].append(used / SINGLES * 1e3)
                seen["p50 of produces of 1 MB"][case].append(percentile(bulk, 50) * 1e3)
    return [_spread(name, cases) for name, cases in seen.items()]


def _spread(name: str, cases: dict[str, list[float]]) -> Figure:
    best = {case: min(values) for case, values in cases.items()}
    note = "; ".join(f"{case}: {value:.3g} ms" for case, value in best.items())
    title = f"{name}, {PARTITIONS[-1]} partitions and {IDLE[-1]} idle connections / 1 and 0"
    return Figure(title, max(best.values()) / min(best.values()), "x", [at_most(MOST)], note)
