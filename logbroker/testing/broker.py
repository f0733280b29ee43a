"""A broker in a thread of the test's process, served on free ports, in memory, with a clock and faults of the test's own.

What lives here: the thread and its loop, and what a test does to the broker from outside. What may not: pytest.
Invariant: everything that touches the broker runs on its loop; the methods here may be called from any thread.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from logbroker.client.calls.queues import QueueInfo
from logbroker.client.calls.records import Record
from logbroker.client.durations import Duration, to_ms
from logbroker.clock import ManualClock
from logbroker.config import TopicConfig, configured
from logbroker.embedded.broker import IN_PROCESS, Broker, in_memory
from logbroker.embedded.carrier import EmbeddedCarrier
from logbroker.errors import Closed
from logbroker.node import Node
from logbroker.testing import checks
from logbroker.testing.clock import advance
from logbroker.testing.faults import Faults

if TYPE_CHECKING:
    from logbroker.client import AsyncClient, Client

T = TypeVar("T")
_START_S, _STOP_S = 30.0, 30.0
_FREE_PORT = "127.0.0.1:0"


class LocalBroker:
    """A broker for tests. ``clock`` None lets real time pass; ``path`` keeps everything there instead of in memory.

    ``settings`` are those of a broker, as config/logbroker.toml explains them.
    """

    def __init__(self, clock: ManualClock | None = None, path: Path | None = None, **settings: Any) -> None:
        self.faults = Faults()
        self.clock = clock
        self._settings = {"http": _FREE_PORT, "kafka": _FREE_PORT, "drain_ms": 1_000, **settings}
        self._path = path
        self._loop: asyncio.AbstractEventLoop | None = None
        self._broker: Broker | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._clients: list[Client] = []

    # -- life ------------------------------------------------------------------------------------------------------------

    def start(self) -> "LocalBroker":
        """Start it; it serves on return. Raises what starting raises."""
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="logbroker", daemon=True)
        self._thread.start()
        if not started.wait(_START_S):
            raise TimeoutError("the broker does not start")
        if self._failure is not None:
            raise self._failure
        return self

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self._made() as self._broker:
                started.set()
                await self._stop.wait()
        except BaseException as error:
            self._failure = error
        finally:
            self._broker = None
            started.set()

    def _made(self) -> Broker:
        place = {"object_stores": in_memory()} if self._path is None else {"data_dir": str(self._path)}
        config = configured(IN_PROCESS, {**place, **self._settings})
        files = self.faults.files if self._path is None else None
        around = (self.faults.middleware(),)
        return Broker(EmbeddedCarrier(lambda: Node(config, TopicConfig(), self.clock, files, around)))

    def stop(self) -> None:
        """Stop it, and close the clients it gave out."""
        for client in self._clients:
            client.close()
        if self._loop is not None and self._stop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_STOP_S)

    def __enter__(self) -> "LocalBroker":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def broker(self) -> Broker:
        """The broker itself, which lives on its own loop: see ``run``. Raises Closed."""
        if self._broker is None:
            raise Closed
        return self._broker

    def run(self, work: Callable[[Broker], Awaitable[T]]) -> T:
        """What ``work`` gives, run on the broker's loop."""
        assert self._loop is not None, "it was started"
        broker = self.broker

        async def working() -> T:
            return await work(broker)

        return asyncio.run_coroutine_threadsafe(working(), self._loop).result()

    # -- ways in ---------------------------------------------------------------------------------------------------------

    @property
    def http_url(self) -> str:
        """Where HTTP is served."""
        return self.broker.listeners["http"]

    @property
    def kafka(self) -> str:
        """What Kafka's clients take as bootstrap servers."""
        return self.broker.listeners["kafka"].rpartition("/")[2]

    @property
    def client(self) -> "Client":
        """A synchronous client, closed with the broker."""
        from logbroker.client import Client

        if not self._clients:
            self._clients.append(Client(self.http_url).__enter__())
        return self._clients[0]

    def connect(self) -> "AsyncClient":
        """An asynchronous client, to be entered."""
        from logbroker.client import connect

        return connect(self.http_url)

    # -- what tests do ---------------------------------------------------------------------------------------------------

    def advance(self, duration: Duration) -> None:
        """Let time pass: leases and sessions end, retries and delays fall due, retention looks. Needs a manual clock."""
        clock = self.clock
        if clock is None:
            raise ValueError("this broker runs on real time: make it with clock=ManualClock()")
        ms = to_ms(duration)
        self.run(lambda broker: self._advance(broker.node, clock, ms))

    async def _advance(self, node: Node, clock: ManualClock, ms: int) -> None:
        assert node.services is not None, "it is open"
        await advance(clock, node.services, ms, node.maintain)

    def expire_leases(self, queue: str) -> None:
        """Let the leases of a queue run out, by letting so much time pass. Needs a manual clock."""
        self.advance(self.run(lambda broker: _longest_lease(broker, queue)))

    def drain(self, queue: str, *, timeout: Duration = "10s") -> QueueInfo:
        """Wait until a queue has nothing left to do but dead letters. Raises AssertionError saying what is left."""
        return self.run(lambda broker: checks.drain(broker, queue, timeout=timeout))

    def assert_sent(
        self, topic: str, *, match: Any = None, key: str | None = None, count: int | None = None
    ) -> list[Record]:
        """The records of a topic (or queue) that match; see ``checks.assert_sent``. Raises AssertionError."""
        return self.run(lambda broker: checks.assert_sent(broker, topic, match=match, key=key, count=count))


async def _longest_lease(broker: Broker, queue: str) -> float:
    """Seconds until every lease of now is over."""
    now_ms = broker.node.services.clock.now().wall_ms if broker.node.services is not None else 0
    held = await broker.queue(queue).peek("in_flight", limit=100_000)
    return max((one.receipt_expires_ms or now_ms) - now_ms for one in held) / 1_000 if held else 0
