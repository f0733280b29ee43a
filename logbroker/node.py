"""The composition root: configuration, files, engine, services, doors; started in that order, stopped in the reverse.

What lives here: the one place that names concrete parts, and the life of a broker in this process. What may not: rules of
any part, printing, exiting the process.
Invariants: a door opens only when what stands below it serves, and nothing below is stopped before the doors are shut;
nothing is deleted before every state machine has loaded and said what it still needs; a node that has failed is not
drained, because what it would promise could not be kept.
"""

import asyncio
import ipaddress
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from logbroker.broker.services import Services, services_on
from logbroker.clock import Clock, SystemClock
from logbroker.config import BrokerConfig, TopicConfig
from logbroker.engine.embedded import EmbeddedEngine
from logbroker.errors import FlushFailed, InvalidConfig
from logbroker.http_api.server import HttpServer
from logbroker.kafka_api.server import KafkaServer
from logbroker.log.files import Files
from logbroker.log.files.disk import DiskFiles

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

log = logging.getLogger(__name__)

DOOR_OFF = "off"
_DISK_LOOK_S = 1.0


class Address(NamedTuple):
    """Where a door listens. Port 0 stands for any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(setting: str, text: str) -> Address:
    """HOST:PORT, an IPv6 host in brackets. Raises InvalidConfig naming the setting."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InvalidConfig(f"{setting} = {text!r} is not accepted: must be HOST:PORT, as 127.0.0.1:8080", setting=setting)
    return Address(host, int(port))


def refuse_public(setting: str, address: Address) -> None:
    """Raise InvalidConfig unless only this machine reaches the address: there is no authentication."""
    try:
        loopback = ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        loopback = address.host == "localhost"
    if not loopback:
        raise InvalidConfig(
            f"{setting} = '{address}' can be reached from other machines, and there is no authentication: "
            "whoever reaches it may read, write and delete everything. Use a loopback address, or say --insecure-public",
            setting=setting,
        )


class Node:
    """One broker on one data directory. Make it inside a running loop.

    ``files`` takes the place of the directory, as ``MemoryFiles`` does for tests; ``around_http`` stands around every
    request over HTTP.
    """

    def __init__(
        self,
        config: BrokerConfig,
        topic_defaults: TopicConfig,
        clock: Clock | None = None,
        files: Files | None = None,
        around_http: "Sequence[Middleware]" = (),
    ) -> None:
        self._config = config
        self._http = parse_address("http", config.http) if config.http != DOOR_OFF else None
        self._kafka = parse_address("kafka", config.kafka) if config.kafka != DOOR_OFF else None
        advertised = config.kafka_advertised
        self._kafka_advertised = parse_address("kafka_advertised", advertised) if advertised else None
        if not config.insecure_public:
            if self._http is not None:
                refuse_public("http", self._http)
            if self._kafka is not None:
                refuse_public("kafka", self._kafka)
        self._around_http = around_http
        self._clock = clock or SystemClock()
        self._topic_defaults = topic_defaults
        self._engine = EmbeddedEngine(files or DiskFiles(config.data_dir), config, topic_defaults, self._clock)
        self._parts = AsyncExitStack()
        """What has been started, to be stopped in the reverse order."""
        self.services: Services | None = None

    @property
    def failed(self) -> asyncio.Future[FlushFailed]:
        """Resolved with the cause once the node cannot go on."""
        return self._engine.failed

    @property
    def listeners(self) -> dict[str, str]:
        """Where each open door listens, by its name."""
        return dict(self.services.facts.listeners) if self.services else {}

    async def start(self) -> None:
        """Recover the data directory and open the doors. Raises DataDirectoryError, StorageError, InvalidConfig."""
        async with AsyncExitStack() as parts:
            await self._start(parts)
            self._parts = parts.pop_all()

    async def _start(self, parts: AsyncExitStack) -> None:
        await self._engine.start()
        parts.push_async_callback(self._engine.stop)
        services = self.services = services_on(
            self._engine, self._clock, self._config, self._engine.cluster_id, topic_defaults=self._topic_defaults
        )
        await services.settings.load()
        await services.groups.start()
        parts.push_async_callback(services.groups.stop)
        parts.push_async_callback(services.members.close)
        await services.transactions.start()
        parts.push_async_callback(services.transactions.stop)
        await services.queues.start()
        parts.push_async_callback(services.queues.stop)
        await services.snapshots.start()
        parts.push_async_callback(services.snapshots.stop)
        await services.subscriptions.start()
        parts.push_async_callback(services.subscriptions.stop)
        await services.operations.start()
        parts.push_async_callback(services.operations.stop)
        if self._config.queue_stats_log_ms:
            for views in (services.queues, services.subscriptions):
                telling = asyncio.create_task(views.tell(self._config.queue_stats_log_ms / 1000), name="statistics")
                parts.push_async_callback(_cancelled, telling)
        self._follow_disk(services)
        watch = asyncio.create_task(self._watch_disk(services), name="disk space")
        parts.push_async_callback(_cancelled, watch)
        self._follow_scrubber(services)
        if self._config.scrub_bytes_per_second:
            scrubbing = self._engine.scrubber.run(self._config.scrub_bytes_per_second, self._config.scrub_interval_ms)
            parts.push_async_callback(_cancelled, asyncio.create_task(scrubbing, name="scrubber"))
        upkeep = asyncio.create_task(self._upkeep(), name="upkeep")
        parts.push_async_callback(_cancelled, upkeep)
        compaction = asyncio.create_task(self._compact(services), name="compaction")
        parts.push_async_callback(_cancelled, compaction)
        services.lifecycle.report("recovery", True)
        await self._open_doors(parts, services)

    def _follow_disk(self, services: Services) -> None:
        disk, gauge = self._engine.disk, services.metrics.gauge
        gauge("disk_free_bytes", "Free on the disk, beside the reserve.", read=lambda: disk.free_bytes)
        gauge("disk_reserved_bytes", "Kept free for what must go on.", read=lambda: disk.reserve_bytes)
        gauge("readonly", "1 while clients' writes are refused.", read=lambda: disk.read_only)
        services.lifecycle.report("disk", not disk.read_only, disk.detail)

    def _follow_scrubber(self, services: Services) -> None:
        scrubber, metrics = self._engine.scrubber, services.metrics
        scrubber.tell_damages = metrics.counter("crc_errors_total", "Damaged places found in segments.").add
        scrubber.tell_bytes = metrics.counter("scrubbed_bytes_total", "Bytes of segments read again.").add
        metrics.gauge(
            "scrub_last_round_timestamp_seconds",
            "When all sealed segments had been read again.",
            read=lambda: scrubber.last_round_ms / 1000,
        )

    async def _watch_disk(self, services: Services) -> None:
        disk = self._engine.disk
        while not self.failed.done():
            await asyncio.sleep(_DISK_LOOK_S)
            disk.look()
            services.lifecycle.report("disk", not disk.read_only, disk.detail)

    async def _open_doors(self, parts: AsyncExitStack, services: Services) -> None:
        doors: list[HttpServer | KafkaServer] = []
        parts.push_async_callback(_shut, doors)
        if self._http is not None:
            http = HttpServer(services, self._around_http)
            with _opening("http", self._http):
                await http.start(*self._http)
            doors.append(http)
        if self._kafka is not None:
            kafka = KafkaServer(services)
            with _opening("kafka", self._kafka):
                await kafka.start(*self._kafka, advertised=self._kafka_advertised)
            doors.append(kafka)

    async def maintain(self) -> None:
        """One round of upkeep, as it is done every ``retention_check_ms``. Raises StorageError, FlushFailed."""
        assert self.services is not None, "it was started"
        self.services.cleanup.deleted(await self._engine.maintain())
        await self.services.claim_collector.collect()

    async def _upkeep(self) -> None:
        while not self.failed.done():
            await asyncio.sleep(self._config.retention_check_ms / 1000)
            try:
                await self.maintain()
            except FlushFailed:
                return
            except Exception:  # a defect in upkeep must not end upkeep, and must be seen
                log.exception("upkeep failed")

    async def _compact(self, services: Services) -> None:
        while not self.failed.done():
            await asyncio.sleep(self._config.compaction_check_ms / 1000)
            try:
                while (done := await self._engine.compact()) is not None:
                    services.cleanup.compacted(done)
            except FlushFailed:
                return
            except Exception:  # as above
                log.exception("compaction failed")

    async def stop(self) -> None:
        """Answer what waits, let requests under way end within ``drain_ms``, then flush and close everything."""
        await self._parts.aclose()


@contextmanager
def _opening(setting: str, address: Address) -> Iterator[None]:
    """Turn the system's refusal of an address into InvalidConfig."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise InvalidConfig(f"{setting} = '{address}' cannot be opened: {why}", setting=setting) from None


async def _shut(doors: Sequence[HttpServer | KafkaServer]) -> None:
    """Shut all doors at the same time, so that they share the time to drain."""
    await asyncio.gather(*(door.stop() for door in doors))


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def run(node: Node, started: Callable[[Node], None]) -> None:
    """Start the node, call ``started``, and stop it at SIGTERM or SIGINT; a second signal ends the process at once.

    Raises what ``Node.start`` raises, and FlushFailed as soon as the node has failed; it is then left as it stands, for the
    caller to exit the process.
    """
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()

    def ask(number: signal.Signals) -> None:
        log.info("stopping", extra={"signal": number.name})
        loop.remove_signal_handler(number)
        asked_to_stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number)
    await node.start()
    started(node)
    stop = asyncio.ensure_future(asked_to_stop.wait())
    await asyncio.wait((stop, node.failed), return_when=asyncio.FIRST_COMPLETED)
    if not node.failed.done():
        drained = asyncio.ensure_future(node.stop())
        await asyncio.wait((drained, node.failed), return_when=asyncio.FIRST_COMPLETED)
        if drained.done():
            await drained
    if node.failed.done():
        raise node.failed.result()
    stop.cancel()
