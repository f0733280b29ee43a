"""One connection to each work queue that is compared: send, receive and ack as that server's clients do it, blocking.

What lives here: how each server is asked. What may not: timing. Every send returns once it is acknowledged. An ack returns
once it is acknowledged by logbroker, Redis, NATS (ack_sync) and ElasticMQ; RabbitMQ has no answer to one, and pika cannot
wait for several confirmations at once, so its batches are sent one by one.
"""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

import nats
import nats.errors
import pika
import redis
from nats.aio.msg import Msg

from tools.bench.http_load import Connection, request
from tools.bench.servers.process import HOST

QUEUE = "bench"
Received = tuple[Any, str]
"""What acks it, and its value."""


class Peer(Protocol):
    """A client with one connection."""

    def send(self, values: Sequence[str]) -> None:
        """Send messages, and wait until all are acknowledged."""

    def receive(self, most: int, wait_s: float) -> list[Received]:
        """Some messages, or none once the time is over."""

    def ack(self, tokens: Sequence[Any]) -> None:
        """The messages are done."""

    def close(self) -> None:
        """Close the connection."""


class LogbrokerPeer:
    """logbroker over HTTP."""

    def __init__(self, port: int) -> None:
        self._connection = Connection(port)

    def _call(self, verb: str, body: object, method: str = "POST") -> Any:
        return json.loads(self._connection.call(request(method, f"/v1/queues/{QUEUE}{verb}", json.dumps(body).encode())))

    def declare(self) -> None:
        """Make the queue."""
        self._call("", {}, "PUT")

    def send(self, values: Sequence[str]) -> None:
        self._call("/messages", {"messages": [{"value": value} for value in values]})

    def receive(self, most: int, wait_s: float) -> list[Received]:
        answer = self._call(":receive", {"max": most, "wait_ms": int(wait_s * 1_000)})
        return [(one["receipt"], one["value"]) for one in answer["messages"]]

    def ack(self, tokens: Sequence[Any]) -> None:
        self._call(":ack", {"receipts": list(tokens)})

    def close(self) -> None:
        self._connection.socket.close()


class RedisPeer:
    """A stream with a consumer group; a batch is one pipeline."""

    def __init__(self, port: int) -> None:
        self._client = redis.Redis(HOST, port, decode_responses=True)
        self._name = f"c{id(self)}"

    def declare(self) -> None:
        """Make stream and group."""
        self._client.xgroup_create(QUEUE, "g", mkstream=True)

    def send(self, values: Sequence[str]) -> None:
        if len(values) == 1:
            self._client.xadd(QUEUE, {"v": values[0]})
            return
        pipeline = self._client.pipeline(transaction=False)
        for value in values:
            pipeline.xadd(QUEUE, {"v": value})
        pipeline.execute()

    def receive(self, most: int, wait_s: float) -> list[Received]:
        answer: Any = self._client.xreadgroup("g", self._name, {QUEUE: ">"}, count=most, block=max(1, int(wait_s * 1_000)))
        if not answer:
            return []
        streams = answer.values() if isinstance(answer, dict) else [found for _, found in answer]
        return [(entry, fields["v"]) for found in streams for entry, fields in _flat(found)]

    def ack(self, tokens: Sequence[Any]) -> None:
        self._client.xack(QUEUE, "g", *tokens)

    def close(self) -> None:
        self._client.close()


def _flat(found: Any) -> list[Any]:
    """The entries of a stream: the newer protocol of the server wraps them once more."""
    return found[0] if found and isinstance(found[0], list) and found[0] and isinstance(found[0][0], tuple) else found


class NatsPeer:
    """A stream with a durable pull consumer; a batch is published at once and waited for together."""

    def __init__(self, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = self._wait(nats.connect(f"nats://{HOST}:{port}"))
        self._stream = self._client.jetstream()
        self._subscription: Any = None

    def _wait(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def declare(self) -> None:
        """Make the stream."""
        self._wait(self._stream.add_stream(name=QUEUE, subjects=[QUEUE], retention="workqueue"))

    def send(self, values: Sequence[str]) -> None:
        async def publish() -> None:
            await asyncio.gather(*(self._stream.publish(QUEUE, value.encode()) for value in values))

        self._wait(publish())

    def receive(self, most: int, wait_s: float) -> list[Received]:
        if self._subscription is None:
            self._subscription = self._wait(self._stream.pull_subscribe(QUEUE, durable="g"))
        try:
            messages: list[Msg] = self._wait(self._subscription.fetch(most, timeout=max(0.05, wait_s)))
        except (TimeoutError, nats.errors.TimeoutError):
            return []
        return [(one, one.data.decode()) for one in messages]

    def ack(self, tokens: Sequence[Any]) -> None:
        async def acked() -> None:
            await asyncio.gather(*(one.ack_sync() for one in tokens))

        self._wait(acked())

    def close(self) -> None:
        self._wait(self._client.close())
        self._loop.close()


class RabbitPeer:
    """A quorum queue with publisher confirms and a prefetch of 10."""

    def __init__(self, port: int) -> None:
        parameters = pika.ConnectionParameters(HOST, port, credentials=pika.PlainCredentials("guest", "guest"))
        self._connection = pika.BlockingConnection(parameters)
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()
        self._channel.basic_qos(prefetch_count=10)
        self._consuming: Any = None

    def declare(self) -> None:
        """Make the queue."""
        self._channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})

    def send(self, values: Sequence[str]) -> None:
        for value in values:
            self._channel.basic_publish("", QUEUE, value.encode(), pika.BasicProperties(delivery_mode=2))

    def receive(self, most: int, wait_s: float) -> list[Received]:
        found: list[Received] = []
        while len(found) < most:
            wait = max(0.001, wait_s) if not found else 0.001
            method, _, body = next(self._channel.consume(QUEUE, inactivity_timeout=wait))
            if method is None:
                break
            found.append((method.delivery_tag, body.decode()))
        return found

    def ack(self, tokens: Sequence[Any]) -> None:
        self._channel.basic_ack(tokens[-1], multiple=True)
        self._connection.process_data_events(0)

    def close(self) -> None:
        self._connection.close()


class ElasticPeer:
    """Amazon's query protocol over HTTP."""

    def __init__(self, port: int) -> None:
        self._connection = Connection(port)

    def _call(self, action: str, fields: dict[str, Any], path: str = f"/000000000000/{QUEUE}") -> str:
        body = urlencode({"Action": action, "Version": "2012-11-05", **fields}).encode()
        return self._connection.call(request("POST", path, body, "application/x-www-form-urlencoded")).decode()

    def declare(self) -> None:
        """Make the queue."""
        self._call("CreateQueue", {"QueueName": QUEUE}, "/")

    def send(self, values: Sequence[str]) -> None:
        if len(values) == 1:
            self._call("SendMessage", {"MessageBody": values[0]})
        else:
            self._call("SendMessageBatch", _entries("SendMessageBatchRequestEntry", "MessageBody", values))

    def receive(self, most: int, wait_s: float) -> list[Received]:
        answer = self._call("ReceiveMessage", {"MaxNumberOfMessages": most, "WaitTimeSeconds": round(wait_s)})
        tokens = re.findall("<ReceiptHandle>(.*?)</ReceiptHandle>", answer)
        return list(zip(tokens, re.findall("<Body>(.*?)</Body>", answer), strict=True))

    def ack(self, tokens: Sequence[Any]) -> None:
        if len(tokens) == 1:
            self._call("DeleteMessage", {"ReceiptHandle": tokens[0]})
        else:
            self._call("DeleteMessageBatch", _entries("DeleteMessageBatchRequestEntry", "ReceiptHandle", tokens))

    def close(self) -> None:
        self._connection.socket.close()


def _entries(prefix: str, field: str, values: Sequence[str]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for number, value in enumerate(values, 1):
        entries |= {f"{prefix}.{number}.Id": number, f"{prefix}.{number}.{field}": value}
    return entries


PeerMaker = Callable[[int], Any]
