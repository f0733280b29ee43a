"""What all connections of the door share.

What lives here: the services, the registry, who is connected, and the counters. What may not: sockets, protocol.
"""

import asyncio
from itertools import count
from typing import TYPE_CHECKING

from logbroker.broker.services import Services
from logbroker.kafka_api.answers import NodeFacts
from logbroker.kafka_api.registry import Registry
from logbroker.wire.apis import Api
from logbroker.wire.codes import ErrorCode

if TYPE_CHECKING:
    from logbroker.kafka_api.connection import Connection


class DoorState:
    """The door as its connections see it."""

    def __init__(self, services: Services, node: NodeFacts, registry: Registry) -> None:
        self.services = services
        self.node = node
        self.registry = registry
        self.connections: set[Connection] = set()
        self.empty = asyncio.Event()
        """Set while nobody is connected."""
        self.empty.set()
        self._callers = count(1)
        self._requests = services.metrics.counter("requests_total", "Requests answered.", ("protocol", "api", "code"))
        self._durations = services.metrics.histogram("request_duration_seconds", "Time to the answer.", ("protocol", "api"))
        self._limit = services.config.kafka_max_connections
        services.metrics.gauge("kafka_connections", "Open Kafka connections.", read=lambda: len(self.connections))

    def new_caller(self) -> str:
        """A name for a connection that no other of this process has."""
        return f"kafka-{next(self._callers)}"

    def enter(self, connection: "Connection") -> bool:
        """Whether there is room for one more."""
        if len(self.connections) >= self._limit:
            return False
        self.connections.add(connection)
        self.empty.clear()
        return True

    def leave(self, connection: "Connection") -> None:
        """The connection is gone."""
        self.connections.discard(connection)
        if not self.connections:
            self.empty.set()

    def count(self, api: Api | None, code: ErrorCode, seconds: float) -> None:
        """Count a request that was answered, after so long."""
        name = api.message_name if api is not None else "unknown"
        self._requests.add(1, "kafka", name, code.name)
        self._durations.observe(seconds, "kafka", name)
