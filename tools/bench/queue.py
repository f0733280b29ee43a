"""Work queues beside each other: send, receive and ack, and how long a message takes to a waiting consumer.

logbroker (HTTP, every answer flushed), Redis Streams flushed before every answer and once a second, NATS JetStream flushed
before every answer, RabbitMQ quorum queues, and ElasticMQ, which keeps messages in memory. All run at the same time and are
measured in turn; a rate is the best of the rounds.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tools.bench.measure import Figure, Goal, at_least, at_most, percentile
from tools.bench.queue_peers import ElasticPeer, LogbrokerPeer, NatsPeer, Peer, PeerMaker, RabbitPeer, RedisPeer
from tools.bench.servers.elasticmq import elasticmq
from tools.bench.servers.logbroker import logbroker
from tools.bench.servers.nats import nats
from tools.bench.servers.process import Missing, ServerMaker
from tools.bench.servers.rabbitmq import rabbitmq
from tools.bench.servers.redis import redis

ROUNDS = 3
WARM_UP = 1
COUNTS = {10: 1_000, 1: 200}
"""Messages of one round by size of the batches."""
CONSUMERS = (1, 4, 16)
PACED = 200
PAUSE_S = 0.005
VALUE = "x" * 100
OURS = "logbroker"
STRICT = "Redis, always"
SERVERS: Mapping[str, tuple[ServerMaker, PeerMaker]] = {
    OURS: (logbroker, LogbrokerPeer),
    STRICT: (redis, RedisPeer),
    "Redis, everysec": (partial(redis, flush=False), RedisPeer),
    "NATS": (nats, NatsPeer),
    "RabbitMQ": (rabbitmq, RabbitPeer),
    "ElasticMQ": (elasticmq, ElasticPeer),
}
DURABLE = ("NATS", "RabbitMQ")
"""Beside Redis at always, those with the same durability."""
Connect = Callable[[], Peer]


def run(directory: Path) -> list[Figure]:
    """Start all that are on this machine, and measure."""
    with contextlib.ExitStack() as stack:
        connects: dict[str, Connect] = {}
        for name, (make, peer) in SERVERS.items():
            try:
                server = stack.enter_context(make(directory / name.replace(", ", "-")))
            except Missing as missing:
                print(missing, file=sys.stderr)
                continue
            connects[name] = partial(peer, server.port)
            first = peer(server.port)
            first.declare()
            first.close()
        return [*_rates(connects), *_latencies(connects)]


def _rates(connects: Mapping[str, Connect]) -> list[Figure]:
    best: dict[tuple[int, str], dict[str, float]] = {}
    for number in range(WARM_UP + ROUNDS):
        for name, connect in connects.items():
            for batch, count in COUNTS.items():
                for verb, rate in _round(connect, batch, count).items():
                    if number >= WARM_UP:
                        row = best.setdefault((batch, verb), {})
                        row[name] = max(rate, row.get(name, rate))
    return [_rate_figure(batch, verb, row) for (batch, verb), row in best.items()]


def _rate_figure(batch: int, verb: str, row: dict[str, float]) -> Figure:
    value = row.pop(OURS)
    goals: list[Goal] = []
    if batch > 1:
        goals = [at_least(2, STRICT), *(at_least(1, name) for name in DURABLE)]
    return Figure(f"{verb}, {'batches of 10' if batch > 1 else 'one by one'}", value, "messages/s", goals, beside=row)


def _round(connect: Connect, batch: int, count: int) -> dict[str, float]:
    peer = connect()
    spent = dict.fromkeys(("send", "receive", "ack"), 0.0)
    for _ in range(count // batch):
        begin = time.perf_counter()
        peer.send([VALUE] * batch)
        spent["send"] += time.perf_counter() - begin
    received = 0
    while received < count:
        begin = time.perf_counter()
        messages = peer.receive(batch, 1)
        middle = time.perf_counter()
        peer.ack([token for token, _ in messages])
        spent["receive"] += middle - begin
        spent["ack"] += time.perf_counter() - middle
        received += len(messages)
    peer.close()
    return {verb: count / seconds for verb, seconds in spent.items()}


def _latencies(connects: Mapping[str, Connect]) -> list[Figure]:
    figures: list[Figure] = []
    for consumers in CONSUMERS:
        row = {name: sorted(_paced(connect, consumers)) for name, connect in connects.items()}
        for percent in (50, 99):
            values = {name: percentile(taken, percent) * 1e3 for name, taken in row.items()}
            goals = [at_most(1, STRICT)] if percent == 50 else []
            name = f"send to receive, {consumers} waiting, p{percent}"
            figures.append(Figure(name, values.pop(OURS), "ms", goals, beside=values))
    return figures


def _paced(connect: Connect, consumers: int) -> list[float]:
    """Seconds from the begin of each send until a consumer has the message."""
    taken: list[float] = []

    def consume() -> None:
        peer = connect()
        while len(taken) < PACED:
            for token, value in peer.receive(1, 1):
                taken.append(time.perf_counter() - float(value))
                peer.ack([token])
        peer.close()

    threads = [threading.Thread(target=consume) for _ in range(consumers)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    producer = connect()
    for _ in range(PACED):
        producer.send([str(time.perf_counter())])
        time.sleep(PAUSE_S)
    for thread in threads:
        thread.join()
    producer.close()
    return taken
