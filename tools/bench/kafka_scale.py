"""Cost grows with the work only: one client and one partition, whatever else the broker has.

The same produces go to the one partition of a topic and to one of a topic of 1,000, alone and beside 1,000 connections that
do nothing. A row is the most expensive of these cases over the cheapest.
"""

import contextlib
import socket
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from tools.bench import kafka_clients as clients
from tools.bench.measure import Figure, at_most, percentile
from tools.bench.servers.logbroker import logbroker
from tools.bench.servers.process import HOST

PARTITIONS = (1, 1_000)
IDLE = (0, 1_000)
ROUNDS, WARM_UP = 4, 1
SINGLES = 1_500
BULK = 100_000
MOST = 1.3


@contextlib.contextmanager
def _idle(port: int, count: int) -> Iterator[None]:
    """Connections that say nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection((HOST, port)))
        yield


def run(directory: Path) -> list[Figure]:
    """Rows of one broker, with durability ``os`` so that the disk has no say."""
    with logbroker(directory, durability="os", kafka=True) as server:
        port = server.extra["kafka"]
        address = f"{HOST}:{port}"
        producer = clients.BulkProducer(address)
        for partitions in PARTITIONS:
            clients.create_topic(address, f"of-{partitions}", partitions, {})
        seen: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for number, idle, partitions in product(range(WARM_UP + ROUNDS), IDLE, PARTITIONS):
            with _idle(port, idle):
                case = f"{partitions} partitions, {idle} idle connections"
                begin = server.cpu_seconds()
                singles = clients.single_latencies(address, f"of-{partitions}", bytes(100), SINGLES)
                used = server.cpu_seconds() - begin
                seconds = producer.send(f"of-{partitions}", bytes(1000), BULK)
            if number >= WARM_UP:
                seen["p50 of single produces"][case].append(percentile(singles, 50) * 1e3)
                seen["broker CPU of a single produce"][case].append(used / SINGLES * 1e3)
                seen["time of 100 MB in bulk"][case].append(seconds * 1e3)
    return [_spread(name, cases) for name, cases in seen.items()]


def _spread(name: str, cases: dict[str, list[float]]) -> Figure:
    best = {case: min(values) for case, values in cases.items()}
    note = "; ".join(f"{case}: {value:.3g} ms" for case, value in best.items())
    title = f"{name}, {PARTITIONS[-1]} partitions and {IDLE[-1]} idle connections / 1 and 0"
    return Figure(title, max(best.values()) / min(best.values()), "x", [at_most(MOST)], note)
