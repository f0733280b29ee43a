"""Request-reply beside each other: how long a question takes to its answer, alone and with others at the same time.

logbroker over HTTP (the request is a flushed record), Redis lists (the request is flushed too, appendfsync always), and
RabbitMQ's direct reply-to (nothing is kept). All run at the same time and take turns; a value is that of the best round.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pika
import redis as redis_client

from tools.bench.http_load import Connection, request
from tools.bench.measure import Figure, percentile
from tools.bench.servers.logbroker import logbroker
from tools.bench.servers.process import HOST, Missing, ServerMaker
from tools.bench.servers.rabbitmq import rabbitmq
from tools.bench.servers.redis import redis

SERVICE = "bench"
ROUNDS = 3
WARM_UP = 1
LOADS = {"one requester, one responder": (1, 1, 300), "16 requesters, 8 responders": (16, 8, 100)}
"""Requesters, responders, and questions of each requester in a round."""
OURS = "logbroker"


class Side(Protocol):
    """A connection of one requester or one responder."""

    def ask(self, text: str) -> str:
        """The answer."""

    def respond(self, stop: threading.Event) -> None:
        """Answer questions with themselves until told to stop."""

    def close(self) -> None:
        """Close the connection."""


class LogbrokerSide:
    """logbroker over HTTP."""

    def __init__(self, port: int) -> None:
        self._connection = Connection(port)

    def _call(self, path: str, body: object) -> bytes:
        return self._connection.call(request("POST", path, json.dumps(body).encode()))

    def ask(self, text: str) -> str:
        return self._call(f"/v1/services/{SERVICE}:request?timeout_ms=30000", {"value": text}).decode()

    def respond(self, stop: threading.Event) -> None:
        while not stop.is_set():
            for asked in json.loads(self._call(f"/v1/services/{SERVICE}:serve", {"wait_ms": 200}))["requests"]:
                self._call(f"/v1/replies/{asked['token']}", {"value": asked["value"]})

    def close(self) -> None:
        self._connection.socket.close()


class RedisSide:
    """A list of requests, and a list for each answer."""

    def __init__(self, port: int) -> None:
        self._client: Any = redis_client.Redis(HOST, port, decode_responses=True)
        self._number = 0

    def ask(self, text: str) -> str:
        self._number += 1
        name = f"reply:{id(self)}:{self._number}"
        self._client.rpush(SERVICE, json.dumps([name, text]))
        return str(self._client.blpop([name], timeout=30)[1])

    def respond(self, stop: threading.Event) -> None:
        while not stop.is_set():
            found = self._client.blpop([SERVICE], timeout=0.2)
            if found:
                name, text = json.loads(found[1])
                self._client.rpush(name, text)

    def close(self) -> None:
        self._client.close()


class RabbitSide:
    """Direct reply-to: the answer goes to the requester's channel."""

    def __init__(self, port: int) -> None:
        self._connection = pika.BlockingConnection(pika.ConnectionParameters(HOST, port))
        self._channel = self._connection.channel()
        self._channel.queue_declare(SERVICE)
        self._answers: Any = None

    def ask(self, text: str) -> str:
        if self._answers is None:
            self._answers = self._channel.consume("amq.rabbitmq.reply-to", auto_ack=True, inactivity_timeout=0)
            next(self._answers)
            self._answers = self._channel.consume("amq.rabbitmq.reply-to", auto_ack=True, inactivity_timeout=30)
        properties = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to")
        self._channel.basic_publish("", SERVICE, text.encode(), properties)
        _, _, body = next(self._answers)
        return str(body.decode())

    def respond(self, stop: threading.Event) -> None:
        for method, properties, body in self._channel.consume(SERVICE, inactivity_timeout=0.2):
            if stop.is_set():
                break
            if method is not None:
                self._channel.basic_publish("", properties.reply_to, body)
                self._channel.basic_ack(method.delivery_tag)

    def close(self) -> None:
        self._connection.close()


SERVERS: Mapping[str, tuple[ServerMaker, Callable[[int], Side]]] = {
    OURS: (logbroker, LogbrokerSide),
    "Redis, always": (redis, RedisSide),
    "RabbitMQ": (rabbitmq, RabbitSide),
}


def run(directory: Path) -> list[Figure]:
    """Start all that are on this machine, and measure."""
    with contextlib.ExitStack() as stack:
        connects: dict[str, Callable[[], Side]] = {}
        for name, (make, side) in SERVERS.items():
            try:
                server = stack.enter_context(make(directory / name.replace(", ", "-")))
            except Missing as missing:
                print(missing, file=sys.stderr)
                continue
            connects[name] = partial(side, server.port)
        return [figure for load, parts in LOADS.items() for figure in _figures(load, parts, connects)]


def _figures(load: str, parts: tuple[int, int, int], connects: Mapping[str, Callable[[], Side]]) -> list[Figure]:
    best: dict[int, dict[str, float]] = {50: {}, 99: {}}
    for number in range(WARM_UP + ROUNDS):
        for name, connect in connects.items():
            taken = _round(connect, *parts)
            for percent, row in best.items():
                if number >= WARM_UP:
                    row[name] = min(row.get(name, float("inf")), percentile(taken, percent) * 1e3)
    return [Figure(f"{load}, p{percent}", row.pop(OURS), "ms", beside=row) for percent, row in best.items()]


def _round(connect: Callable[[], Side], requesters: int, responders: int, count: int) -> list[float]:
    stop = threading.Event()
    taken: list[float] = []
    answering = [connect() for _ in range(responders)]
    threads = [threading.Thread(target=side.respond, args=(stop,)) for side in answering]
    for thread in threads:
        thread.start()
    time.sleep(0.3)

    def ask(number: int) -> None:
        side = connect()
        for at in range(count):
            begin, text = time.perf_counter(), f"{number}-{at}"
            if side.ask(text) != text:
                raise RuntimeError("the answer is that of another question")
            taken.append(time.perf_counter() - begin)
        side.close()

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(requesters)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    stop.set()
    for thread in threads:
        thread.join()
    for side in answering:
        side.close()
    if len(taken) != requesters * count:
        raise RuntimeError(f"{requesters * count - len(taken)} questions were not answered")
    return taken
