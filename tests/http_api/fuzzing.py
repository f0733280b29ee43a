"""Mutated HTTP requests against a broker of its own process, beside a client that works all the while.

What lives here: the requests, what is done to them, the attack and what is measured of it. What may not: verdicts
(``test_fuzz``, ``python -m tools.faults``). Everything is a function of a ``Random``, so that a seed names a run.
"""

import contextlib
import gzip
import json
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast

from tests.crash.clients import Client
from tools.bench.servers.logbroker import logbroker
from tools.bench.servers.process import HOST, Server

AT_ONCE = 100
ANSWER_S = 0.3
_PAUSE_S = 0.01
_HEALTHY = "/v1/topics/healthy"
_B64 = "aGVsbG8="
CORPUS: Sequence[tuple[str, str, Any]] = (
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("GET", "/metrics", None),
    ("GET", "/v1/info", None),
    ("GET", "/openapi.json", None),
    ("GET", "/v1/topics?page_size=5", None),
    ("PUT", "/v1/topics/orders", {"partitions": 2, "config": {"retention_ms": 60_000}}),
    ("GET", "/v1/topics/orders", None),
    ("PATCH", "/v1/topics/orders", {"config": {"segment_bytes": 1_048_576}}),
    ("DELETE", "/v1/topics/gone", None),
    ("POST", "/v1/topics/orders:trim", {"offsets": {"0": 1}}),
    ("POST", "/v1/topics/orders/records", {"records": [{"key": "a", "value": "b"}, {"value_b64": _B64, "partition": 1}]}),
    ("POST", "/v1/topics/orders/records", {"records": [{"value_json": {"a": [1, 2]}, "headers": [["h", "v"]]}]}),
    (
        "POST",
        "/v1/topics/orders/records",
        {"records": [{"value": "x"}], "producer": {"id": 5, "epoch": 0, "base_sequence": 0}},
    ),
    ("GET", "/v1/topics/orders/partitions/0/records?offset=0&max_records=10&encoding=text", None),
    ("GET", "/v1/topics/orders/partitions/0/offsets?timestamp_ms=1700000000000", None),
    ("GET", "/v1/topics/orders/tail?from=latest", None),
    ("POST", "/v1/fetch", {"positions": [{"topic": "orders", "partition": 0, "offset": 0}], "max_bytes": 1000}),
    ("GET", "/v1/groups", None),
    ("POST", "/v1/groups/g/members", {"topics": ["orders"], "session_timeout_ms": 10_000}),
    ("GET", "/v1/groups/g/offsets", None),
    ("PUT", "/v1/groups/g/offsets", {"offsets": [{"topic": "orders", "partition": 0, "offset": 1}]}),
    ("PUT", "/v1/queues/jobs", {"max_attempts": 3, "visibility_timeout_ms": 1_000}),
    ("GET", "/v1/queues/jobs", None),
    ("POST", "/v1/queues/jobs/messages", {"messages": [{"value": "x", "delay_ms": 10}, {"value_b64": _B64}]}),
    ("POST", "/v1/queues/jobs:receive", {"max": 5, "wait_ms": 0, "consumer": "c"}),
    ("POST", "/v1/queues/jobs:ack", {"receipts": ["AAAA.BBBB"]}),
    ("POST", "/v1/queues/jobs:nack", {"entries": [{"receipt": "AAAA", "delay_ms": 10, "error": "e"}]}),
    ("GET", "/v1/queues/jobs/messages?state=ready&page_size=10", None),
    ("POST", "/v1/queues/jobs:purge", {}),
    ("PUT", "/v1/subscriptions/audit", {"topic": "orders", "filter": "key == 'a'"}),
    ("POST", "/v1/subscriptions/audit:pull", {"max": 5, "wait_ms": 0}),
    ("POST", "/v1/filters:test", {"filter": "has(headers.a)", "record": {"value": "x"}}),
)
ODD_VALUES: Sequence[Any] = (
    *(0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**400, 0.5, 1e308, True, None, "", "\x00", "\ud800", "..", "a" * 5_000),
    *([], {}, [[]] * 100, {"a": {"b": {}}}, "💥", "%00", "\r\nX: y", "-9" * 50),
)
ODD_HEADERS: Sequence[bytes] = (
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: \xb2\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Encoding: zstd\r\n",
    b"Expect: 100-continue\r\n",
    b"Content-Type: application/x-ndjson\r\n",
    b"Content-Type: application/vnd.kafka.record-batch\r\n",
    b"Content-Type: \xff\r\n",
    b"Accept: text/event-stream\r\n",
    b"Accept: */*;q=\x01\r\n",
    b"Host: evil.example\r\n",
    b"Origin: http://evil.example\r\n",
    b"Range: bytes=0-\r\n",
    b"Idempotency-Key: " + b"k" * 3_000 + b"\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    b"X: " + b"y" * 9_000 + b"\r\n",
    b" folded: yes\r\n",
    b"No-Colon\r\n",
)
BOMB = gzip.compress(bytes(32 << 20), 9)


def request(method: str, path: str, body: Any, random: Random) -> bytes:
    """One request on the wire, mutated."""
    if body is not None:
        for _ in range(random.choice((0, 1, 1, 2))):
            body = _with_odd_value(body, random)
    data = b"" if body is None else json.dumps(body).encode("utf-8", "surrogatepass")
    headers = [b"Host: localhost\r\n"]
    if body is not None:
        headers += [b"Content-Type: application/json\r\n", b"Content-Length: %d\r\n" % len(data)]
    share = random.random()
    if share < 0.2:
        headers.insert(random.randrange(len(headers) + 1), random.choice(ODD_HEADERS))
    elif share < 0.25 and body is not None:
        headers[-1] = random.choice(ODD_HEADERS)
    elif share < 0.26:
        data = BOMB
        headers[1:] = [b"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n" % len(data)]
    line = f"{_odd_method(method, random)} {_odd_path(path, random)} HTTP/1.1\r\n".encode("utf-8", "surrogatepass")
    wire = bytearray(line + b"".join(headers) + b"\r\n" + data)
    if random.random() < 0.3:
        wire = random.choice((_flip, _cut, _repeat, _insert))(wire, random)
    return bytes(wire)


def _with_odd_value(body: Any, random: Random) -> Any:
    """The same document with one value replaced, added or taken away."""
    if isinstance(body, dict) and body and random.random() < 0.8:
        name = random.choice(list(body))
        changed = dict(body)
        kind = random.random()
        if kind < 0.7:
            changed[name] = _with_odd_value(body[name], random)
        elif kind < 0.85:
            del changed[name]
        else:
            changed["x" * random.choice((1, 200))] = random.choice(ODD_VALUES)
        return changed
    if isinstance(body, list) and body and random.random() < 0.8:
        at = random.randrange(len(body))
        return [*body[:at], _with_odd_value(body[at], random), *body[at + 1 :]] * random.choice((1, 1, 1, 50))
    return random.choice(ODD_VALUES)


def _odd_method(method: str, random: Random) -> str:
    return method if random.random() < 0.95 else random.choice(("GET", "PUT", "POST", "DELETE", "HEAD", "TRACE", "x"))


def _odd_path(path: str, random: Random) -> str:
    if random.random() < 0.7:
        return path
    parts = path.split("/")
    odd = ("..", "%2e%2e", "", "%00", "a%2Fb", "x" * 300, "-1", "99999999999", "%F0%9F%92%A5", "*", "?", "#", "a b", "new")
    parts[random.randrange(1, len(parts))] = random.choice(odd)
    return "/".join(parts) + random.choice(("", "", "?offset=-1", "?max_records=1e9", "&page_size=0", "?wait_ms=9999999"))


def _flip(wire: bytearray, random: Random) -> bytearray:
    for _ in range(random.choice((1, 1, 3, 20))):
        wire[random.randrange(len(wire))] ^= 1 << random.randrange(8)
    return wire


def _cut(wire: bytearray, random: Random) -> bytearray:
    return wire[: random.randrange(len(wire))]


def _repeat(wire: bytearray, random: Random) -> bytearray:
    at = random.randrange(len(wire))
    return wire[:at] + wire[at : at + 40] * random.choice((2, 20)) + wire[at:]


def _insert(wire: bytearray, random: Random) -> bytearray:
    at = random.randrange(len(wire))
    wire[at:at] = random.choice((b"\r\n", b"\x00", b"\xff\xfe", b"\n\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n"))
    return wire


class HealthyClient(threading.Thread):
    """Produces and reads back all the while; ``stop`` says what went wrong."""

    def __init__(self, port: int) -> None:
        super().__init__(name="healthy client")
        self._client = Client(port)
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self.count = 0
        self.slowest_s = 0.0
        status, _ = self._client.call("PUT", _HEALTHY, {"partitions": 1})
        assert status == 201
        self.start()

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._turn()
                time.sleep(_PAUSE_S)
        except BaseException as error:
            self._failure = error

    def _turn(self) -> None:
        began = time.monotonic()
        value = str(self.count)
        status, told = self._client.call("POST", f"{_HEALTHY}/records", {"records": [{"value": value, "partition": 0}]})
        assert status == 200, told
        path = f"{_HEALTHY}/partitions/0/records?offset={told['results'][0]['offset']}&encoding=text"
        status, page = self._client.call("GET", path)
        assert (status, page["records"][0]["value"]) == (200, value), page
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.count += 1

    def stop(self) -> None:
        """End, and raise what went wrong."""
        self._stopping.set()
        self.join(60)
        self._client.close()
        if self._failure is not None:
            raise self._failure


@dataclass
class Attack:
    """What came of an attack."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    """0 stands for no answer in the time that was waited for one, or a closed connection."""
    server_errors: list[str] = field(default_factory=list)
    """Requests answered with 500, which no request should be able to bring about."""
    at_rest: int = 0
    most: int = 0
    healthy_count: int = 0
    healthy_slowest_s: float = 0.0
    is_alive: bool = True
    errors: list[Any] = field(default_factory=list)

    def summary(self) -> str:
        """In one line."""
        statuses = ", ".join(f"{status or 'none'} {count}" for status, count in sorted(self.statuses.items()))
        return (
            f"{self.requests} requests (answers: {statuses}); broker {'alive' if self.is_alive else 'DEAD'}, "
            f"{len(self.errors)} errors in its log, {len(self.server_errors)} answers 500; memory grew by at most "
            f"{(self.most - self.at_rest) >> 20} MiB; a working client beside did {self.healthy_count} produces and reads, "
            f"the slowest in {self.healthy_slowest_s:.2f} s"
        )


@contextlib.contextmanager
def broker(directory: Path) -> Iterator[Server]:
    """A broker to be attacked."""
    file = directory / "logbroker.toml"
    file.write_text('max_partitions = 200\nlog_level = "warning"\n', encoding="utf-8")
    with logbroker(directory, durability="os", arguments=["--config", str(file)]) as server:
        yield server


def attack(server: Server, count: int, seed: int) -> Attack:
    """Send so many requests, each on a connection of its own. Raises what the working client raised."""
    random, done = Random(seed), Attack()
    with contextlib.closing(Client(server.port)) as client:
        for method, path, body in CORPUS:
            if method == "PUT":
                client.call(method, path, body)
    healthy = HealthyClient(server.port)
    done.at_rest = done.most = server.resident_bytes()
    while done.requests < count:
        wires = [request(*random.choice(CORPUS), random) for _ in range(AT_ONCE)]
        for wire, answer in zip(wires, _answers(server.port, wires), strict=True):
            done.requests += 1
            done.statuses[answer] += 1
            if answer == 500:
                done.server_errors.append(repr(wire[:300]))
        if done.requests % 400 == 0:
            done.most = max(done.most, server.resident_bytes())
    healthy.stop()
    done.healthy_count, done.healthy_slowest_s = healthy.count, healthy.slowest_s
    done.is_alive = server.process.poll() is None
    done.errors = logged_errors(server)
    return done


def _answers(port: int, wires: Sequence[bytes]) -> list[int]:
    connections: list[socket.socket] = []
    for wire in wires:
        connection = socket.create_connection((HOST, port), timeout=5)
        with contextlib.suppress(OSError):
            connection.sendall(wire)
        connections.append(connection)
    try:
        return _statuses(connections)
    finally:
        for connection in connections:
            connection.close()


def _statuses(connections: Sequence[socket.socket]) -> list[int]:
    """The status on each, 0 where none came: a request that is not whole is waited for, a tail never ends."""
    found = dict.fromkeys(connections, 0)
    deadline = time.monotonic() + ANSWER_S
    with selectors.DefaultSelector() as waiting:
        for connection in connections:
            waiting.register(connection, selectors.EVENT_READ)
        while waiting.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                connection = cast(socket.socket, key.fileobj)
                waiting.unregister(connection)
                with contextlib.suppress(OSError, ValueError, IndexError):
                    found[connection] = int(connection.recv(1 << 16).split(b" ", 2)[1])
    return list(found.values())


def logged_errors(server: Server) -> list[Any]:
    """What the broker logged as an error."""
    lines = [json.loads(line) for line in server.output.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["level"] == "error" or "exception" in line]
