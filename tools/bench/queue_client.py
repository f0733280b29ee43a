"""Calls of a queue's consumers and producers over HTTP, as asyncio streams: cheap enough not to be what is measured."""

import asyncio
import json
from typing import Any

from tools.bench.http_load import request
from tools.bench.servers.process import HOST


class QueueClient:
    """One connection, one call at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        self._reader, self._writer = reader, writer
        self._path = path

    @classmethod
    async def connect(cls, port: int, queue: str) -> "QueueClient":
        """A connection to the broker on a loopback port."""
        return await cls.at(port, f"/v1/queues/{queue}")

    @classmethod
    async def at(cls, port: int, path: str) -> "QueueClient":
        """A connection whose calls are of what ``path`` stands for, as a subscription or, with none, the whole broker."""
        return cls(*await asyncio.open_connection(HOST, port, limit=1 << 24), path)

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """The decoded answer. Raises RuntimeError unless everything succeeded."""
        data = b"" if body is None else json.dumps(body).encode()
        self._writer.write(request(method, self._path + path, data))
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        answer = await self._reader.readexactly(int(length or 0))
        if head[9:12] not in (b"200", b"201", b"204"):
            raise RuntimeError(f"refused: {(head + answer)[:600]!r}")
        return json.loads(answer) if answer else None

    async def send(self, messages: list[dict[str, Any]]) -> None:
        """Send messages."""
        await self.call("POST", "/messages", {"messages": messages})

    async def receive(self, most: int, wait_ms: int = 0) -> list[dict[str, Any]]:
        """Lease messages."""
        answer = await self.call("POST", ":receive", {"max": most, "wait_ms": wait_ms})
        messages: list[dict[str, Any]] = answer["messages"]
        return messages

    async def ack(self, receipts: list[str]) -> None:
        """Messages are done."""
        await self.call("POST", ":ack", {"receipts": receipts})

    async def nack(self, receipts: list[str]) -> None:
        """Deliveries have failed."""
        await self.call("POST", ":nack", {"entries": [{"receipt": receipt} for receipt in receipts]})

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()
