"""The HTTP application over ``Services``: middlewares in their order, and the routes of the table.

Order of the middlewares, outermost first: ``scoped`` gives the request its id and counts it; ``problems`` turns errors into
documents; ``only_from`` refuses foreign hosts before anything is looked at.
"""

import asyncio
import functools
import itertools
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Middleware
from aiohttp.web_protocol import RequestHandler

from logbroker.broker.services import Services
from logbroker.errors import LogbrokerError
from logbroker.http_api import docs
from logbroker.http_api.errors import API, REQUEST_ID, Handler, problems
from logbroker.http_api.hosts import AllowedHosts, only_from
from logbroker.http_api.openapi import openapi_document
from logbroker.http_api.requests import HELD, IN_FLIGHT, REQUEST_TIMEOUT_S, query_reader
from logbroker.http_api.route import Route, aiohttp_path
from logbroker.http_api.routes import ROUTES

access = logging.getLogger("logbroker.http.access")
log = logging.getLogger(__name__)

_GIVEN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
Connection: TypeAlias = RequestHandler
HEARD = web.AppKey("heard", set[Connection])
"""The connections that have sent a whole request; the server takes those out that are gone."""
_Running = set[asyncio.Task[web.StreamResponse]]
"""Requests that change something and are under way."""

_document: Callable[[], dict[str, Any]] = functools.cache(lambda: openapi_document(ROUTES))


def create_app(services: Services, around: Sequence[Middleware] = ()) -> web.Application:
    """The application. It needs nothing but ``services``; its server decides about sockets.

    ``around``: middlewares of the caller's, outside of all others.
    """
    running: _Running = set()
    heard: set[Connection] = set()
    hosts = AllowedHosts(services.config.http.rpartition(":")[0], services.config.allow_host)
    app = web.Application(
        client_max_size=services.config.max_request_bytes,
        middlewares=[*around, _scoped(services, heard), problems, only_from(hosts)],
    )
    app[docs.DOCUMENT] = _document
    app[HEARD] = heard
    app[IN_FLIGHT] = services.in_flight
    app[REQUEST_TIMEOUT_S] = services.config.request_timeout_ms / 1000
    for route in ROUTES:
        app.router.add_route(route.method, aiohttp_path(route.path), _bound(route, services, running), name=route.name)
    app.on_shutdown.append(_end_of(services, running))
    return app


def _bound(route: Route, services: Services, running: _Running) -> Handler:
    """The handler of a route, with its query read.

    What changes something goes on although its client has gone: half of it would help nobody. What only reads is cancelled
    by the server (``handler_cancellation``), so a long poll whose client has left does not linger.
    """
    read_query: Callable[[web.Request], Any] = query_reader(route.query)
    handler = route.handler

    async def handle(request: web.Request) -> web.StreamResponse:
        request[API] = route.name
        return await handler(services, request, read_query(request))

    async def handle_unbroken(request: web.Request) -> web.StreamResponse:
        task = asyncio.ensure_future(handle(request))
        running.add(task)
        task.add_done_callback(running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_ended_for_nobody)
            raise

    return handle_unbroken if route.changes else handle


def _ended_for_nobody(task: "asyncio.Task[web.StreamResponse]") -> None:
    """A refusal whose client has gone is told to nobody, nor that it has gone; a defect is still seen."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, LogbrokerError | ConnectionError | web.RequestPayloadError):
        log.error("a request whose client has gone has failed", exc_info=error)


def _scoped(services: Services, heard: set[Connection]) -> Middleware:
    counted = services.metrics.counter("requests_total", "Requests answered.", ("protocol", "api", "code"))
    timed = services.metrics.histogram("request_duration_seconds", "Time to the answer.", ("protocol", "api"))
    next_id = _request_ids()

    @web.middleware
    async def scoped(request: web.Request, handler: Handler) -> web.StreamResponse:
        heard.add(request.protocol)
        began = time.perf_counter()
        given = request.headers.get("X-Request-Id")
        request[REQUEST_ID] = given if given is not None and _GIVEN_ID.fullmatch(given) else next_id()
        try:
            answer = await handler(request)
        finally:
            services.in_flight.changed(request.get(HELD, 0), 0)
        if not answer.prepared:
            answer.headers["X-Request-Id"] = request[REQUEST_ID]
            answer.headers["Server"] = "logbroker"
        api = request.get(API, "none")
        took = time.perf_counter() - began
        counted.add(1, "http", api, str(answer.status))
        timed.observe(took, "http", api)
        if access.isEnabledFor(logging.DEBUG):
            _log_access(request, answer, took)
        return answer

    return scoped


def _log_access(request: web.Request, answer: web.StreamResponse, took: float) -> None:
    facts = (request.method, request.rel_url.raw_path_qs[:300], answer.status, took * 1_000)
    access.debug("%s %s %d in %.1f ms", *facts, extra={"request_id": request[REQUEST_ID]})


def _request_ids() -> Callable[[], str]:
    """Ids unique to this process and, by their random start, to others."""
    prefix = os.urandom(8).hex()
    numbers = itertools.count(1)
    return lambda: f"{prefix}-{next(numbers):08x}"


def _end_of(services: Services, running: _Running) -> Callable[[web.Application], Awaitable[None]]:
    """What ends the waiting of readers and lets writes finish, when the server closes."""

    async def end(app: web.Application) -> None:
        services.lifecycle.closing.set()
        services.queues.end_waiting()
        services.subscriptions.end_waiting()
        services.request_reply.end_waiting()
        if running:
            await asyncio.wait(running, timeout=services.config.drain_ms / 1000)

    return end
