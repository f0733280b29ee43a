"""A broker in this process, on memory files, with its Kafka door open: its loop runs in a thread, as its clients block.

``RunningBroker.do`` runs a coroutine on the broker's loop and gives its result, for what a test needs beside the door.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeVar

from logbroker.broker.services import Services, services_on
from logbroker.clock import Clock, SystemClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.kafka_api.server import KafkaServer
from logbroker.log.files import Files
from logbroker.log.files.memory import MemoryFiles

T = TypeVar("T")

CONFIG: Mapping[str, Any] = {
    "group_initial_rebalance_delay_ms": 0,
    "group_min_session_timeout_ms": 100,
    "group_consumer_session_timeout_ms": 1_500,
    "group_consumer_heartbeat_interval_ms": 200,
    "max_partitions": 2_000,
    "drain_ms": 2_000,
}
_DEADLINE_S = 20


class RunningBroker:
    """The broker and its address."""

    def __init__(self, loop: asyncio.AbstractEventLoop, services: Services, server: KafkaServer) -> None:
        self._loop = loop
        self.services = services
        self.server = server
        self.address = services.facts.listeners["kafka"]

    @property
    def host_and_port(self) -> tuple[str, int]:
        host, _, port = self.address.rpartition(":")
        return host, int(port)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, run on the broker's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_DEADLINE_S)

    def call(self, function: Callable[[], T]) -> T:
        """The result of ``function``, called on the broker's loop."""

        async def work() -> T:
            return function()

        return self.do(work())

    def create_topic(self, name: str, partitions: int = 1, **overrides: object) -> None:
        self.do(self.services.topics.create(name, partitions, overrides))

    @property
    def connections(self) -> int:
        state = self.server._state
        return len(state.connections) if state is not None else 0


@contextlib.asynccontextmanager
async def opened(files: Files, clock: Clock | None = None, **settings: Any) -> AsyncIterator[tuple[Services, KafkaServer]]:
    """Engine, services and door on ``files``, started and stopped in order."""
    config = BrokerConfig(**{**CONFIG, **settings})
    clock = clock or SystemClock()
    engine = EmbeddedEngine(files, config, TopicConfig(), clock)
    await engine.start()
    services = services_on(engine, clock, config, engine.cluster_id)
    await services.settings.load()
    await services.groups.start()
    await services.transactions.start()
    await services.queues.start()
    server = KafkaServer(services)
    await server.start("127.0.0.1", 0)
    yield services, server
    await server.stop()
    await services.queues.stop()
    await services.transactions.stop()
    await services.groups.stop()
    await engine.stop()


@contextlib.contextmanager
def running_broker(
    files: Files | None = None,
    *,
    clock: Clock | None = None,
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    **settings: Any,
) -> Iterator[RunningBroker]:
    """A running broker; it is stopped with the context."""
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever, name="broker")
    thread.start()
    context = opened(files or MemoryFiles(), clock, **settings)

    def run(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(_DEADLINE_S)

    async def enter() -> tuple[Services, KafkaServer]:
        return await context.__aenter__()

    async def leave() -> None:
        await context.__aexit__(None, None, None)
        await loop.shutdown_default_executor()

    try:
        broker = RunningBroker(loop, *run(enter()))
        try:
            yield broker
        finally:
            run(leave())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
