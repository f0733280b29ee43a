"""Queues: ``/v1/queues`` and ``/v1/queues/{queue}``: declare, describe, change, delete, pause, purge; their consumers.

What lives here: declarations and counts in JSON. What may not: the rules, which are the use cases' own.
"""

from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.positions import EARLIEST, LATEST, AtOffset, AtTime
from logbroker.broker.queues import Start
from logbroker.broker.services import Services
from logbroker.errors import InvalidRequest, QueueNotFound
from logbroker.http_api.paging import PageQuery, page_of
from logbroker.http_api.payloads import Offset, PartitionNumber, Timestamp
from logbroker.http_api.requests import NoQuery, json_answer, read_json, tag_in
from logbroker.queues.dispatcher import Dispatcher
from logbroker.queues.settings import QueueSettings

ACTIVE_MS = 60_000
"""A consumer that was seen within this time counts as one."""


class StartIn(msgspec.Struct, forbid_unknown_fields=True):
    """Where an existing topic is read from: exactly one of the fields."""

    at: Literal["earliest", "latest"] | UnsetType = UNSET
    timestamp_ms: Timestamp | UnsetType = UNSET
    offset: Offset | UnsetType = UNSET
    offsets: dict[PartitionNumber, Offset] | UnsetType = UNSET


class QueueIn(QueueSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A queue as it should be. ``start`` matters only for a topic that is there already; without it, its end."""

    start: StartIn | UnsetType = UNSET


class QueuesQuery(PageQuery, frozen=True):
    """Which queues to list."""

    prefix: Annotated[str, Meta(description="Only names that start with this.")] = ""


class QueuePutQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do about a queue that is declared differently."""

    replace: Annotated[bool, Meta(description="Replace its declaration.")] = False


class QueueDeleteQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to delete."""

    keep_topic: Annotated[bool, Meta(description="Leave the topic with its records.")] = False
    missing_ok: Annotated[bool, Meta(description="Answer 204 also when there is none.")] = False


class CountsOut(msgspec.Struct):
    """How many messages are where. ``parked`` ones wait behind an earlier one of their key and are part of ``ready``."""

    ready: int
    in_flight: int
    delayed: int
    retrying: int
    dead: int
    parked: int


class QueueOut(msgspec.Struct):
    """A queue. ``totals`` count what happened since the broker started."""

    name: str
    created_ms: int
    paused: bool
    config: QueueSettings
    counts: CountsOut
    oldest_age_ms: int
    consumers: int
    totals: dict[str, int]


class QueuesOut(msgspec.Struct):
    """A page of queues, by name."""

    items: list[QueueOut]
    next_page_token: str | None


class ConsumerOut(msgspec.Struct):
    """A consumer: what it did since the broker started, and what it holds now."""

    consumer: str
    received: int
    processed: int
    errors: int
    in_flight: int
    last_seen_ms: int


class ConsumersOut(msgspec.Struct):
    """The consumers of a queue, by name."""

    items: list[ConsumerOut]
    next_page_token: str | None


class PurgeIn(msgspec.Struct, forbid_unknown_fields=True):
    """What to purge; ``confirm`` repeats the name of the queue."""

    confirm: str
    before_ms: Timestamp | UnsetType = UNSET


_queue_decoder = msgspec.json.Decoder(QueueIn)
_patch_decoder: "msgspec.json.Decoder[dict[str, Any]]" = msgspec.json.Decoder(dict[str, Any])
_purge_decoder = msgspec.json.Decoder(PurgeIn)


async def list_queues(services: Services, request: web.Request, query: QueuesQuery) -> web.Response:
    """List queues."""
    queues, token = page_of(services.queues.list(query.prefix), lambda one: one.definition.name, query)
    return json_answer(QueuesOut([await queue_out(services, queue) for queue in queues], token))


async def put_queue(services: Services, request: web.Request, query: QueuePutQuery) -> web.Response:
    """Create a queue, or make sure that it is as declared."""
    wanted = await read_json(request, _queue_decoder)
    settings = QueueSettings(**{name: getattr(wanted, name) for name in QueueSettings.__struct_fields__})
    queue, created = await services.queues.ensure(
        request.match_info["queue"], settings, start_of(wanted.start), tag=tag_in(request), replace=query.replace
    )
    return await _described(services, queue, 201 if created else 200)


def start_of(given: StartIn | UnsetType) -> Start:
    if given is UNSET:
        return LATEST
    names = [name for name in given.__struct_fields__ if getattr(given, name) is not UNSET]
    if len(names) != 1:
        raise InvalidRequest(f"start is one of {', '.join(given.__struct_fields__)}; given: {', '.join(names) or 'none'}")
    if given.at is not UNSET:
        return EARLIEST if given.at == "earliest" else LATEST
    if given.timestamp_ms is not UNSET:
        return AtTime(given.timestamp_ms)
    if given.offset is not UNSET:
        return AtOffset(given.offset)
    assert given.offsets is not UNSET, "one of the fields is given"
    return given.offsets


async def get_queue(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Describe a queue."""
    return await _described(services, queue_in(services, request), 200)


async def patch_queue(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Change settings of a queue by a merge patch; null is the default."""
    changes = await read_json(request, _patch_decoder)
    queue = await services.queues.alter(request.match_info["queue"], changes, tag=tag_in(request))
    return await _described(services, queue, 200)


async def delete_queue(services: Services, request: web.Request, query: QueueDeleteQuery) -> web.Response:
    """Delete a queue with its messages, retries and dead letters."""
    try:
        await services.queues.delete(request.match_info["queue"], keep_topic=query.keep_topic, tag=tag_in(request))
    except QueueNotFound:
        if not query.missing_ok:
            raise
    return web.Response(status=204)


async def list_consumers(services: Services, request: web.Request, query: PageQuery) -> web.Response:
    """Who receives, and how that goes."""
    queue = queue_in(services, request)
    consumers = sorted(queue.tally.consumers.values(), key=lambda one: one.name)
    held = queue.in_flight_of()
    page, token = page_of(consumers, lambda one: one.name, query)
    items = [
        ConsumerOut(one.name, one.received, one.processed, one.errors, held.get(one.name, 0), one.last_seen_ms)
        for one in page
    ]
    return json_answer(ConsumersOut(items, token))


async def purge(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Drop all messages that wait, delayed and retried ones included; leases are void, dead letters stay."""
    queue = queue_in(services, request)
    wanted = await read_json(request, _purge_decoder)
    confirmed(queue, wanted.confirm)
    await queue.purge(None if wanted.before_ms is UNSET else wanted.before_ms)
    return web.Response(status=204)


async def pause(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Deliver nothing until it is resumed; messages are still taken, and leases can be settled."""
    await services.queues.set_paused(request.match_info["queue"], paused=True)
    return web.Response(status=204)


async def resume(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Deliver again."""
    await services.queues.set_paused(request.match_info["queue"], paused=False)
    return web.Response(status=204)


def queue_in(services: Services, request: web.Request) -> Dispatcher:
    """The queue or subscription in the path. Raises QueueNotFound, SubscriptionNotFound."""
    subscription = request.match_info.get("subscription")
    if subscription is not None:
        return services.subscriptions.get(subscription)
    return services.queues.get(request.match_info["queue"])


def confirmed(queue: Dispatcher, given: str) -> None:
    """Raise InvalidRequest unless the name was given once more."""
    definition = queue.definition
    if given != definition.name:
        raise InvalidRequest(f"confirm has to repeat the name of the {definition.KIND}, {definition.name!r}")


async def _described(services: Services, queue: Dispatcher, status: int) -> web.Response:
    return json_answer(await queue_out(services, queue), status, {"ETag": f'"{services.queues.tag_of(queue)}"'})


async def queue_out(services: Services, queue: Dispatcher) -> QueueOut:
    """A queue as it is told."""
    since = services.clock.now().wall_ms - ACTIVE_MS
    return QueueOut(
        queue.definition.name,
        queue.definition.created_ms,
        queue.definition.paused,
        services.queues.settings_of(queue),
        CountsOut(*await queue.size.counts()),
        await queue.size.oldest_age_ms(),
        queue.tally.active_since(since),
        dict(queue.tally.totals),
    )
