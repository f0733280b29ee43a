"""Clients of the kill loop, each in a process of its own: what they send and see goes into a history.

What lives here: HTTP by the standard library, so that nothing of logbroker judges logbroker. What may not: judgement.
An answer that never came leaves the outcome UNKNOWN; FAIL is noted only where nothing can have been sent.
"""

import http.client
import json
import time
from collections.abc import Mapping
from contextlib import closing
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from tests.crash.history import Assign, Outcome, Poll, Recorder, Send
from tools.bench.servers.process import HOST

TOPIC = "crash"
PARTITIONS = 4
_PAUSE = 0.01
_TIMEOUT = 30.0
_VALUES_PER_WRITER = 1_000_000_000


class Client:
    """JSON calls on one connection, which is opened again when it broke."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def connect(self) -> bool:
        """Whether there is a connection now."""
        try:
            if self._connection.sock is None:
                self._connection.connect()
        except OSError:
            return False
        return True

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and decoded body. Raises OSError or HTTPException when the connection broke."""
        data = None if body is None else json.dumps(body).encode()
        try:
            self._connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise


def create_topic(port: int) -> None:
    """The topic of the loop, with small segments. It is compacted, which drops nothing: a value is its key."""
    config = {"segment_bytes": 64 * 1024, "retention_ms": -1, "cleanup_policy": "compact"}
    body = {"partitions": PARTITIONS, "config": config}
    with closing(Client(port)) as client:
        status, answer = client.call("PUT", f"/v1/topics/{TOPIC}", body)
    assert status == 201, answer


def write(port: int, number: int, path: Path, stop: Event) -> None:
    """Send batches of unique values until told to stop, never one of them twice."""
    client, recorder = Client(port), Recorder(path, f"writer-{number}")
    next_value = number * _VALUES_PER_WRITER
    turn = number
    while not stop.is_set():
        if not client.connect():
            time.sleep(_PAUSE)
            continue
        turn += 1
        partition, count = turn % PARTITIONS, turn % 7 + 1
        values = tuple(range(next_value, next_value + count))
        next_value += count
        recorder.begin(Send(f"{TOPIC}-{partition}", values))
        outcome, base_offset = _send(client, partition, values)
        recorder.end(outcome, Send(f"{TOPIC}-{partition}", values, base_offset))
    recorder.close()


def _send(client: Client, partition: int, values: tuple[int, ...]) -> tuple[Outcome, int | None]:
    records = [{"key": str(value), "value": str(value), "partition": partition} for value in values]
    try:
        status, answer = client.call("POST", f"/v1/topics/{TOPIC}/records", {"records": records})
    except (OSError, http.client.HTTPException):
        return Outcome.UNKNOWN, None
    if status == 200:
        offsets = [result["offset"] for result in answer["results"]]
        assert offsets == list(range(offsets[0], offsets[0] + len(values))), answer
        return Outcome.OK, offsets[0]
    return (Outcome.UNKNOWN if status >= 500 else Outcome.FAIL), None


def read(port: int, number: int, path: Path, stop: Event) -> None:
    """Poll every partition from its beginning, one after another, until told to stop."""
    client, recorder = Client(port), Recorder(path, f"reader-{number}")
    positions = dict.fromkeys(range(PARTITIONS), 0)
    recorder.begin(Assign())
    recorder.end(Outcome.OK, Assign())
    while not stop.is_set():
        if client.connect():
            for partition in positions:
                positions[partition] = _poll(client, recorder, partition, positions[partition])
        time.sleep(_PAUSE)
    recorder.close()


def _poll(client: Client, recorder: Recorder, partition: int, offset: int, topic: str = TOPIC) -> int:
    """Poll once and return where to go on."""
    recorder.begin(Poll())
    path = f"/v1/topics/{topic}/partitions/{partition}/records?offset={offset}&max_records=1000&encoding=text"
    try:
        status, answer = client.call("GET", path)
    except (OSError, http.client.HTTPException):
        recorder.end(Outcome.UNKNOWN, Poll())
        return offset
    assert status == 200 or status >= 500, answer
    if status != 200:
        recorder.end(Outcome.FAIL, Poll())
        return offset
    seen = tuple((record["offset"], int(record["value"])) for record in answer["records"])
    recorder.end(Outcome.OK, Poll({f"{topic}-{partition}": seen}))
    next_offset: int = answer["next_offset"]
    return next_offset


def read_everything(port: int, path: Path, topics: Mapping[str, int]) -> None:
    """Poll every partition of ``topics`` (their partitions by name) from its beginning to its end."""
    with closing(Client(port)) as client, closing(Recorder(path, "final-reader")) as recorder:
        recorder.begin(Assign())
        recorder.end(Outcome.OK, Assign())
        for topic, partitions in topics.items():
            for partition in range(partitions):
                _, facts = client.call("GET", f"/v1/topics/{topic}/partitions/{partition}")
                offset = 0
                while offset < facts["high_watermark"]:
                    offset = _poll(client, recorder, partition, offset, topic)
