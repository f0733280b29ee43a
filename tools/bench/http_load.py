"""A small HTTP/1.1 client that keeps several connections busy with one request, cheap enough not to be what is measured."""

import selectors
import socket
import time
from dataclasses import dataclass, field

from tools.bench.servers.process import HOST

_HEADERS_END = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass
class Load:
    """What one run of requests took: seconds in all, and the latency of each request in seconds."""

    seconds: float
    latencies: list[float] = field(default_factory=list)


def request(method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    """A request as bytes."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection:
    """One connection with at most one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self._received = b""
        self._wanted = -1

    def send(self, data: bytes) -> None:
        """Send a request."""
        self.sent_at = time.perf_counter()
        self._received, self._wanted = b"", -1
        self.socket.sendall(data)

    def receive(self) -> bytes | None:
        """Take what has arrived; the body once it is whole. Raises RuntimeError for any status but 200, 201, 204."""
        piece = self.socket.recv(1 << 20)
        if not piece:
            raise RuntimeError("the server closed the connection")
        self._received += piece
        if self._wanted < 0:
            head, found, _ = self._received.partition(_HEADERS_END)
            if not found:
                return None
            if head[9:12] not in (b"200", b"201", b"204"):
                raise RuntimeError(f"refused: {self._received[:600]!r}")
            self._set_end(head.lower())
        whole = len(self._received) >= self._wanted if self._wanted else self._received.endswith(_LAST_CHUNK)
        return self._received.partition(_HEADERS_END)[2] if whole else None

    def _set_end(self, head: bytes) -> None:
        """From here on the end of the answer is known: a length, or (0) the last chunk."""
        if b"transfer-encoding: chunked" in head:
            self._wanted = 0
        else:
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._wanted = len(head) + len(_HEADERS_END) + int(length or 0)

    def call(self, data: bytes) -> bytes:
        """Send a request and wait for the body of its answer."""
        self.send(data)
        while (body := self.receive()) is None:
            pass
        return body


def drive(connections: list[Connection], data: bytes, total: int) -> Load:
    """Send ``data`` ``total`` times, one request under way on each connection all the time."""
    load = Load(0.0)
    with selectors.DefaultSelector() as selector:
        begin = time.perf_counter()
        left = total
        for one in connections[:total]:
            selector.register(one.socket, selectors.EVENT_READ, one)
            one.send(data)
            left -= 1
        while len(load.latencies) < total:
            for key, _ in selector.select():
                one = key.data
                if one.receive() is not None:
                    load.latencies.append(time.perf_counter() - one.sent_at)
                    if left > 0:
                        one.send(data)
                        left -= 1
        load.seconds = time.perf_counter() - begin
    return load
