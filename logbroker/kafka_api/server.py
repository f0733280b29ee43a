"""The Kafka door as a thing to open and close.

What lives here: the listening socket, idle connections, the order of closing. What may not: anything said on a connection.
"""

import asyncio
import contextlib
from typing import Final

from logbroker.broker.services import Services
from logbroker.errors import InvalidConfig, NotSupported
from logbroker.kafka_api.answers import NodeFacts
from logbroker.kafka_api.connection import Connection
from logbroker.kafka_api.handlers import handlers_on
from logbroker.kafka_api.registry import Registry
from logbroker.kafka_api.state import DoorState

_SWEEP_S: Final = 5.0
_SHRINK_AFTER_MS: Final = 10_000
"""After so long without a word a connection gives its receive buffer back."""
_BACKLOG: Final = 1_024
_EVERY_ADDRESS: Final = ("0.0.0.0", "::")


class KafkaServer:
    """The door on one address."""

    def __init__(self, services: Services) -> None:
        if services.engine.raw is None:
            raise NotSupported("the Kafka door needs an engine that takes and gives record batches as bytes")
        self._services = services
        self._server: asyncio.Server | None = None
        self._state: DoorState | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int, advertised: tuple[str, int] | None = None) -> None:
        """Listen; port 0 picks a free one. Clients are told ``advertised``, or else where it listens.

        Raises OSError when the address cannot be had, InvalidConfig when no client could connect to what it is told.
        """
        if advertised is None and host in _EVERY_ADDRESS:
            raise InvalidConfig(
                f"kafka = '{host}:{port}' is every address of this machine, which clients cannot connect to: "
                "say in kafka_advertised which one they are to use",
                setting="kafka_advertised",
            )
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connected, host, port, backlog=_BACKLOG, start_serving=False)
        bound = self._server.sockets[0].getsockname()
        told = advertised or (bound[0], bound[1])
        node = NodeFacts(self._services.config.node_id, told[0], told[1], self._services.facts.cluster_id)
        self._state = DoorState(self._services, node, Registry(handlers_on(self._services)))
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        self._services.facts.listeners["kafka"] = f"{shown}:{bound[1]}"
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep_again)
        await self._server.start_serving()

    async def stop(self) -> None:
        """Stop listening, answer what waits within ``drain_ms``, and close every connection."""
        self._services.lifecycle.closing.set()
        if self._server is None or self._state is None:
            return
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._server.close()
        for connection in tuple(self._state.connections):
            connection.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._services.config.drain_ms / 1000):
                await self._state.empty.wait()
                while running := self._state.registry.running:
                    await asyncio.wait(running)
        for connection in tuple(self._state.connections):
            connection.abort()
        for task in tuple(self._state.registry.running):
            task.cancel()
        self._server = None

    def _connected(self) -> Connection:
        assert self._state is not None
        return Connection(self._state)

    def sweep(self) -> None:
        """Close who has not been heard for long, and let quiet ones give memory back. The door does it by itself."""
        now_ms = self._services.clock.now().mono_ms
        for connection in tuple(self._state.connections) if self._state is not None else ():
            quiet_ms = now_ms - connection.active_ms
            if connection.is_too_slow(now_ms, self._services.config.request_timeout_ms):
                connection.close("it sent no whole request in request_timeout_ms")
            elif quiet_ms >= self._services.config.kafka_max_idle_ms and not connection.is_owed:
                connection.close("it was idle for as long as kafka_max_idle_ms")
            elif quiet_ms >= _SHRINK_AFTER_MS and not connection.is_owed:
                connection.shrink()

    def _sweep_again(self) -> None:
        self.sweep()
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep_again)
