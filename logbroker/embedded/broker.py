"""``Broker``: a whole broker in this process, with the verbs of the client.

What lives here: making one, on disk or in memory. What may not: verbs; those are the client's.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from logbroker.client.aio.client import AsyncClient
from logbroker.client.blocking.client import SyncClient
from logbroker.clock import Clock
from logbroker.config import BrokerConfig, TopicConfig, configured
from logbroker.embedded.carrier import EmbeddedCarrier
from logbroker.embedded.threaded import ThreadedCarrier
from logbroker.errors import Closed
from logbroker.log.files.memory import MemoryFiles
from logbroker.node import DOOR_OFF, Node

IN_PROCESS = BrokerConfig(http=DOOR_OFF, kafka=DOOR_OFF, group_initial_rebalance_delay_ms=0)
"""No door is open, and a consumer need not wait for others that a process starts together with it."""


def in_memory() -> tuple[str, ...]:
    """A store of large payloads that no file and no other broker knows of, as ``object_stores`` names it."""
    return (f"local=memory://logbroker-{secrets.token_hex(8)}",)


class Broker(AsyncClient):
    """A broker and its client in one. Make it with ``open`` or ``memory``, and use it as a context."""

    def __init__(self, carrier: EmbeddedCarrier) -> None:
        super().__init__(carrier)
        self._carrier = carrier

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        clock: Clock | None = None,
        topic_defaults: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Self:
        """The broker on a data directory, which is made if it is not there.

        ``settings`` are those of a broker, ``topic_defaults`` those of topics, as config/logbroker.toml explains them;
        ``http="127.0.0.1:8080"`` and ``kafka=`` open doors too. Raises InvalidConfig; DataDirectoryError on entering.
        """
        config = configured(IN_PROCESS, {**settings, "data_dir": str(path)})
        topics = configured(TopicConfig(), topic_defaults or {})
        return cls(EmbeddedCarrier(lambda: Node(config, topics, clock)))

    @classmethod
    def memory(
        cls, *, clock: Clock | None = None, topic_defaults: Mapping[str, Any] | None = None, **settings: Any
    ) -> Self:
        """A broker that keeps everything in memory and nothing beyond its end, for tests. Arguments as of ``open``."""
        config = configured(IN_PROCESS, {"object_stores": in_memory(), **settings})
        topics = configured(TopicConfig(), topic_defaults or {})
        files = MemoryFiles()
        return cls(EmbeddedCarrier(lambda: Node(config, topics, clock, files)))

    @classmethod
    def open_sync(
        cls,
        path: str | Path,
        *,
        clock: Clock | None = None,
        topic_defaults: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> "SyncBroker":
        """As ``open``, for code without an event loop."""
        inner = cls.open(path, clock=clock, topic_defaults=topic_defaults, **settings)
        return SyncBroker(ThreadedCarrier(inner._carrier))

    @property
    def node(self) -> Node:
        """The broker itself. Raises Closed before it is entered and after it is left."""
        if self._carrier.node is None:
            raise Closed
        return self._carrier.node

    @property
    def listeners(self) -> Mapping[str, str]:
        """Where each open door listens, by its name."""
        return self.node.listeners


class SyncBroker(SyncClient):
    """A broker and its synchronous client in one; ``Broker.open_sync`` makes it."""

    def __init__(self, carrier: ThreadedCarrier) -> None:
        super().__init__(carrier)
        self._carrier = carrier

    @property
    def node(self) -> Node:
        """The broker itself, which lives in another thread. Raises Closed as that of ``Broker``."""
        if self._carrier.inner.node is None:
            raise Closed
        return self._carrier.inner.node

    @property
    def listeners(self) -> Mapping[str, str]:
        """Where each open door listens, by its name."""
        return self.node.listeners
