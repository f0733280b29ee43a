"""The broker itself: ``/livez``, ``/readyz``, ``/v1/info``, ``/metrics``.

What lives here: what the process says of itself. What may not: deciding whether it is ready (``Lifecycle`` is told by
the node). Invariant: each answers while the broker recovers or drains.
"""

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from logbroker.broker.services import Services
from logbroker.http_api.exposition import BrokerCollector, topic_samples
from logbroker.http_api.group_metrics import GroupCollector, group_samples
from logbroker.http_api.queue_metrics import ViewCollector, view_samples
from logbroker.http_api.requests import NoQuery, json_answer


class LiveOut(msgspec.Struct):
    """The process answers."""

    status: str


class CheckOut(msgspec.Struct):
    """One reason to be ready or not."""

    name: str
    ok: bool
    detail: str


class ReadyOut(msgspec.Struct):
    """Whether the broker serves."""

    ready: bool
    checks: list[CheckOut]


class InfoOut(msgspec.Struct):
    """What this broker is."""

    version: str
    cluster_id: str
    started_ms: int
    uptime_ms: int
    listeners: dict[str, str]
    features: list[str]
    limits: dict[str, int]


async def live(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Whether the process answers at all."""
    return json_answer(LiveOut("ok"))


async def ready(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Whether the broker serves, and what keeps it from it."""
    checks = [CheckOut(*check) for check in services.lifecycle.checks()]
    is_ready = services.lifecycle.ready
    headers = {} if is_ready else {"Retry-After": "1"}
    return json_answer(ReadyOut(is_ready, checks), 200 if is_ready else 503, headers)


async def info(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Version, listeners, features and limits."""
    facts, config = services.facts, services.config
    return json_answer(
        InfoOut(
            version=facts.version,
            cluster_id=facts.cluster_id,
            started_ms=facts.started_ms,
            uptime_ms=max(0, services.clock.now().wall_ms - facts.started_ms),
            listeners=dict(facts.listeners),
            features=list(facts.features),
            limits={"max_request_bytes": config.max_request_bytes, "max_partitions": config.max_partitions},
        )
    )


async def metrics(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Everything that is counted, for Prometheus."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(BrokerCollector(services, await topic_samples(services)))
    registry.register(GroupCollector(await group_samples(services)))
    registry.register(ViewCollector(await view_samples(services)))
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
