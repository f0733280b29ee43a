"""The HTTP door as a thing to open and close.

What lives here: sockets and their settings. What may not: routes. Closing answers what waits, lets requests finish within
``drain_ms`` and then closes every connection.
"""

import asyncio
import logging
from collections.abc import Sequence

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware

from logbroker.broker.services import Services
from logbroker.http_api.app import HEARD, Connection, create_app

_log = logging.getLogger("logbroker.http.protocol")

_SWEEP_S = 1.0
_LINGERS_S = 10.0
"""How long the rest of a request that was refused is read and dropped, so that its sender gets to read the answer."""


class HttpServer:
    """The door on one address."""

    def __init__(self, services: Services, around: Sequence[Middleware] = ()) -> None:
        self._services = services
        self._around = around
        """What stands around every request, as the faults that tests switch on."""
        self._runner: web.AppRunner | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._silent: dict[Connection, float] = {}
        """Since when connections are known that have sent no whole request."""
        self._unsent = 0
        self.url = ""
        """Where it listens, once started."""

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 picks a free one. Raises OSError when the address cannot be had."""
        if not any(isinstance(present, _Calm) for present in _log.filters):
            _log.addFilter(_Calm())
        config = self._services.config
        app = create_app(self._services, self._around)
        runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=config.http_max_idle_ms / 1000,
            shutdown_timeout=config.drain_ms / 1000,
            lingering_time=min(_LINGERS_S, config.request_timeout_ms / 1000),
            logger=_log,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        bound = runner.addresses[0]
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        self.url = f"http://{shown}:{bound[1]}"
        self._services.facts.listeners["http"] = self.url
        connections = self._services.metrics.gauge("connections", "Open connections.", ("protocol",))
        connections.read_from(self._connections, "http")
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep_again, app[HEARD])

    async def stop(self) -> None:
        """Stop listening, drain and close."""
        self._services.lifecycle.closing.set()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _sweep_again(self, heard: set[Connection]) -> None:
        self._sweep(heard)
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep_again, heard)

    def _sweep(self, heard: set[Connection]) -> None:
        """Close who has connected and sent no whole request, and see how much waits for clients to read it."""
        now = asyncio.get_running_loop().time()
        timeout_s = self._services.config.request_timeout_ms / 1000
        server = self._runner.server if self._runner is not None else None
        silent: dict[Connection, float] = {}
        unsent = 0
        for connection in server.connections if server is not None else ():
            transport = connection.transport
            unsent += transport.get_write_buffer_size() if isinstance(transport, asyncio.WriteTransport) else 0
            if connection not in heard:
                silent[connection] = since = self._silent.get(connection, now)
                if now - since >= timeout_s:
                    connection.force_close()
        heard &= set(server.connections if server is not None else ())
        self._silent = silent
        self._services.in_flight.changed(self._unsent, unsent)
        self._unsent = unsent

    def _connections(self) -> float:
        server = self._runner.server if self._runner is not None else None
        return len(server.connections) if server is not None else 0


class _Calm(logging.Filter):
    """Says what a client sent wrong in one line, without a traceback of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError | asyncio.TimeoutError):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args, record.exc_info = f"bad request: {error!r}"[:200], (), None
        return True
