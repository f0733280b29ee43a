"""The carrier in process: it starts a broker, and carries calls out on its services, without a socket between.

Invariant: a call that changes something goes on although its caller has left, as over HTTP; what only reads is broken off.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar, cast

from logbroker.client.calls.base import Call
from logbroker.embedded import groups, objects, queues, services, subscriptions, topics  # their handlers enter themselves
from logbroker.embedded.handlers import HANDLERS
from logbroker.errors import Recovering
from logbroker.node import Node

T = TypeVar("T")

PARTS = (groups, objects, queues, services, subscriptions, topics)
"""The modules with handlers."""


class EmbeddedCarrier:
    """Carries calls out on a node of its own. ``make`` is called within the running loop."""

    def __init__(self, make: Callable[[], Node]) -> None:
        self._make = make
        self._running: set[asyncio.Task[Any]] = set()
        self.node: Node | None = None
        """The node, while it is open."""

    async def open(self) -> None:
        """Start the broker. Raises DataDirectoryError, StorageError, InvalidConfig."""
        node = self._make()
        await node.start()
        self.node = node

    async def close(self) -> None:
        """Let what is under way end, and stop the broker."""
        node, self.node = self.node, None
        if node is None:
            return
        if node.services is not None:
            node.services.lifecycle.closing.set()
            node.services.queues.end_waiting()
            node.services.subscriptions.end_waiting()
            node.services.request_reply.end_waiting()
        if self._running:
            await asyncio.wait(self._running)
        await node.stop()

    async def call(self, call: Call[T]) -> T:
        """The answer. Raises the refusal."""
        if self.node is None or self.node.services is None:
            raise Recovering("the broker in this process is not running")
        services, handler = self.node.services, HANDLERS[type(call)]
        if type(call).breakable:
            await asyncio.sleep(0)  # a caller that asks again and again must not keep the loop from the broker's own work
            return cast(T, await handler(services, call))
        task = asyncio.ensure_future(handler(services, call))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return cast(T, await asyncio.shield(task))
