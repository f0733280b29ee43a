"""A client of the door that is nothing but a socket: it sends what it is told, in whatever order, whole or not.

Requests are written and responses read by kafka-python's codecs (``tests.wire.peers``), not by ours.
"""

import contextlib
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from logbroker.model import Record
from logbroker.records.codec import encode
from logbroker.wire.apis import Api
from tests.kafka_api.broker import RunningBroker
from tests.wire.peers import kafka_python_decode, kafka_python_encode

_TIMEOUT_S = 10
NOW_MS = 1_700_000_000_000


def frame(payload: bytes) -> bytes:
    """A payload with its size in front."""
    return struct.pack(">i", len(payload)) + payload


def request_frame(api: Api, version: int, correlation_id: int, body: bytes, client_id: bytes = b"raw") -> bytes:
    """A whole request."""
    header = struct.pack(">hhih", api.key, version, correlation_id, len(client_id)) + client_id
    if version >= api.flexible_from:
        header += b"\0"
    return frame(header + body)


def batch(*values: bytes, timestamp_ms: int | None = None) -> bytes:
    """A record batch as a producer sends it."""
    from time import time_ns

    now_ms = time_ns() // 1_000_000 if timestamp_ms is None else timestamp_ms
    return bytes(encode([Record(value) for value in values], now_ms=now_ms))


def produce_body(version: int, topic: str, records: bytes, *, acks: int = -1, partition: int = 0, **fields: Any) -> bytes:
    """A Produce request for one partition."""
    values = {
        "transactional_id": None,
        "acks": acks,
        "timeout_ms": 1000,
        "topic_data": [{"name": topic, "partition_data": [{"index": partition, "records": records}]}],
        **fields,
    }
    return kafka_python_encode("ProduceRequest", version, values)


def fetch_body(
    version: int,
    topic: Any,
    offset: int = 0,
    *,
    partitions: Sequence[int] = (0,),
    max_wait_ms: int = 0,
    min_bytes: int = 1,
    max_bytes: int = 1 << 25,
    partition_max_bytes: int = 1 << 20,
    **fields: Any,
) -> bytes:
    """A Fetch request from one topic: by name, or by id from v13 on."""
    wanted = [
        {"partition": number, "fetch_offset": offset, "partition_max_bytes": partition_max_bytes} for number in partitions
    ]
    values = {
        "max_wait_ms": max_wait_ms,
        "min_bytes": min_bytes,
        "max_bytes": max_bytes,
        "topics": [{"topic_id" if version >= 13 else "topic": topic, "partitions": wanted}],
        **({"session_epoch": -1} if version >= 7 else {}),
        **fields,
    }
    return kafka_python_encode("FetchRequest", version, values)


class RawClient:
    """One connection."""

    def __init__(self, broker: RunningBroker) -> None:
        self.socket = socket.create_connection(broker.host_and_port, timeout=_TIMEOUT_S)
        self._next_id = 1

    def close(self) -> None:
        self.socket.close()

    def send(self, api: Api, version: int, body: bytes) -> int:
        """Send a request without waiting; its correlation id."""
        correlation_id = self._next_id
        self._next_id += 1
        self.socket.sendall(request_frame(api, version, correlation_id, body))
        return correlation_id

    def receive(self) -> tuple[int, bytes]:
        """Correlation id and the rest of the next response. Raises ConnectionError when there is none to come."""
        size = struct.unpack(">i", self._exactly(4))[0]
        payload = self._exactly(size)
        return struct.unpack_from(">i", payload)[0], payload[4:]

    def answer(self, api: Api, version: int) -> dict[str, Any]:
        """The next response, which must be of this API."""
        return decoded(api, version, self.receive()[1])

    def ask(self, api: Api, version: int, body: bytes) -> dict[str, Any]:
        """Send a request and wait for its response."""
        correlation_id = self.send(api, version, body)
        answered, rest = self.receive()
        assert answered == correlation_id
        return decoded(api, version, rest)

    def call(self, api: Api, version: int, **fields: Any) -> dict[str, Any]:
        """Ask by field names."""
        return self.ask(api, version, kafka_python_encode(f"{api.message_name}Request", version, fields))

    def produce(self, topic: str, *values: bytes, partition: int = 0) -> int:
        """Append a batch of values; its base offset."""
        answer = self.ask(Api.PRODUCE, 9, produce_body(9, topic, batch(*values), partition=partition))
        (result,) = answer["responses"][0]["partition_responses"]
        assert result["error_code"] == 0, result
        offset: int = result["base_offset"]
        return offset

    def is_closed_by_peer(self) -> bool:
        """Whether the broker closes the connection, having sent nothing more."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def _exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            more = self.socket.recv(size - len(received))
            if not more:
                raise ConnectionError(f"closed after {len(received)} of {size} bytes")
            received += more
        return bytes(received)


def decoded(api: Api, version: int, rest: bytes) -> dict[str, Any]:
    """A response without its correlation id."""
    return kafka_python_decode(f"{api.message_name}Response", version, rest[api.response_header_version(version) :])


@contextlib.contextmanager
def connected(broker: RunningBroker) -> Iterator[RawClient]:
    """A connection that is closed with the context."""
    client = RawClient(broker)
    try:
        yield client
    finally:
        client.close()
