"""Subscriptions and snapshots: ``/v1/subscriptions`` and ``/v1/snapshots``: declare, describe, change, seek, delete.

What lives here: declarations, counts and plans in JSON. What may not: the rules, which are the use cases' own; the verbs
of consumers, which are those of queues.
"""

from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from logbroker.broker.positions import LATEST
from logbroker.broker.services import Services
from logbroker.broker.subscriptions import AtSnapshot, Leap, Target
from logbroker.errors import InvalidRequest, SnapshotNotFound, SubscriptionNotFound
from logbroker.http_api.paging import page_of
from logbroker.http_api.queues import ACTIVE_MS, CountsOut, QueuesQuery, StartIn, start_of
from logbroker.http_api.requests import NoQuery, json_answer, read_json, tag_in
from logbroker.pubsub.settings import SubscriptionSettings
from logbroker.pubsub.snapshots import Snapshot
from logbroker.pubsub.subscription import Subscription
from logbroker.queues.settings import MAX_DELAY_MS

SNAPSHOT_TTL_MS = 7 * 24 * 3_600_000


class PlaceIn(StartIn, forbid_unknown_fields=True):
    """A place in the topic: exactly one of the fields."""

    snapshot: str | UnsetType = UNSET


class SubscriptionIn(SubscriptionSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subscription as it should be. ``start`` matters only for a new one; without it, it begins at the end."""

    start: PlaceIn | UnsetType = UNSET


class DeclareQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do about one that is declared differently."""

    replace: Annotated[bool, Meta(description="Replace its declaration.")] = False


class DropQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do about one that is not there."""

    missing_ok: Annotated[bool, Meta(description="Answer 204 also when there is none.")] = False


class FilterVersionOut(msgspec.Struct):
    """A filter that still judges something, and its first offset in each partition."""

    filter: str | None
    since: dict[int, int]


class SubscriptionProgressOut(msgspec.Struct):
    """One partition: below ``frontier`` all is done, up to ``read`` the filter has judged, at ``end`` the log ends."""

    partition: int
    frontier: int
    read: int
    end: int


class SubscriptionOut(msgspec.Struct):
    """A subscription. ``counts.ready`` includes the ``unread`` offsets, which the filter has not judged yet."""

    name: str
    created_ms: int
    config: SubscriptionSettings
    counts: CountsOut
    unread: int
    oldest_age_ms: int
    consumers: int
    filters: list[FilterVersionOut]
    partitions: list[SubscriptionProgressOut]
    totals: dict[str, int]


class SubscriptionsOut(msgspec.Struct):
    """A page of subscriptions, by name."""

    items: list[SubscriptionOut]
    next_page_token: str | None


class SubscriptionSeekIn(msgspec.Struct, forbid_unknown_fields=True):
    """Where to go; ``dry_run`` only says what that would do."""

    to: PlaceIn
    dry_run: bool = True


class LeapOut(msgspec.Struct):
    """One partition: the first offset that is not done, before and after; how many leases and waiting retries are void."""

    partition: int
    from_offset: int
    to_offset: int
    end_offset: int
    voided_leases: int
    voided_retries: int


class SubscriptionSeekOut(msgspec.Struct):
    """What was done, or would be."""

    dry_run: bool
    partitions: list[LeapOut]


class SnapshotIn(msgspec.Struct, forbid_unknown_fields=True):
    """Whose place to keep, and for how long; ``ttl_ms`` null keeps it, and its records, until it is deleted."""

    subscription: str
    ttl_ms: Annotated[int, Meta(ge=1_000, le=MAX_DELAY_MS)] | None = SNAPSHOT_TTL_MS


class SnapshotOut(msgspec.Struct):
    """A snapshot; ``kept_offsets`` of its topic are kept from deletion because of it, at most."""

    name: str
    subscription: str
    topic: str
    created_ms: int
    expires_ms: int | None
    offsets: dict[int, int]
    kept_offsets: int


class SnapshotsOut(msgspec.Struct):
    """A page of snapshots, by name."""

    items: list[SnapshotOut]
    next_page_token: str | None


_subscription_decoder = msgspec.json.Decoder(SubscriptionIn)
_patch_decoder: "msgspec.json.Decoder[dict[str, Any]]" = msgspec.json.Decoder(dict[str, Any])
_seek_decoder = msgspec.json.Decoder(SubscriptionSeekIn)
_snapshot_decoder = msgspec.json.Decoder(SnapshotIn)


# -- subscriptions -----------------------------------------------------------------------------------------------------


async def list_subscriptions(services: Services, request: web.Request, query: QueuesQuery) -> web.Response:
    """List subscriptions."""
    page, token = page_of(services.subscriptions.list(query.prefix), lambda one: one.definition.name, query)
    return json_answer(SubscriptionsOut([await subscription_out(services, one) for one in page], token))


async def put_subscription(services: Services, request: web.Request, query: DeclareQuery) -> web.Response:
    """Create a subscription over a topic, or make sure that it is as declared."""
    wanted = await read_json(request, _subscription_decoder)
    settings, start = settings_and_start(wanted)
    subscription, created = await services.subscriptions.ensure(
        request.match_info["subscription"], settings, start, tag=tag_in(request), replace=query.replace
    )
    return await _described(services, subscription, 201 if created else 200)


async def get_subscription(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Describe a subscription."""
    return await _described(services, services.subscriptions.get(request.match_info["subscription"]), 200)


async def patch_subscription(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Change settings by a merge patch; another filter judges what was not read yet."""
    changes = await read_json(request, _patch_decoder)
    name = request.match_info["subscription"]
    return await _described(services, await services.subscriptions.alter(name, changes, tag=tag_in(request)), 200)


async def delete_subscription(services: Services, request: web.Request, query: DropQuery) -> web.Response:
    """Delete a subscription with its retries and dead letters; the topic stays."""
    try:
        await services.subscriptions.delete(request.match_info["subscription"], tag=tag_in(request))
    except SubscriptionNotFound:
        if not query.missing_ok:
            raise
    return web.Response(status=204)


async def seek(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Go to another place in the topic; by default only say what that would do."""
    wanted = await read_json(request, _seek_decoder)
    name, target = request.match_info["subscription"], target_of(wanted.to)
    if wanted.dry_run:
        leaps = await services.subscriptions.plan(name, target)
    else:
        leaps = await services.subscriptions.seek(name, target)
    return json_answer(SubscriptionSeekOut(wanted.dry_run, [_leap(one) for one in leaps]))


def settings_and_start(wanted: SubscriptionIn) -> tuple[SubscriptionSettings, Target]:
    """A declaration, taken apart."""
    settings = SubscriptionSettings(**{name: getattr(wanted, name) for name in SubscriptionSettings.__struct_fields__})
    return settings, LATEST if wanted.start is UNSET else target_of(wanted.start)


def target_of(given: PlaceIn) -> Target:
    """The place that is meant. Raises InvalidRequest unless it is one."""
    if given.snapshot is UNSET:
        return start_of(given)
    if any(getattr(given, name) is not UNSET for name in StartIn.__struct_fields__):
        raise InvalidRequest(f"a place is one of {', '.join(given.__struct_fields__)}; more than one is given")
    return AtSnapshot(given.snapshot)


def _leap(leap: Leap) -> LeapOut:
    return LeapOut(*leap)


async def _described(services: Services, subscription: Subscription, status: int) -> web.Response:
    tag = services.subscriptions.tag_of(subscription)
    return json_answer(await subscription_out(services, subscription), status, {"ETag": f'"{tag}"'})


async def subscription_out(services: Services, subscription: Subscription) -> SubscriptionOut:
    """A subscription as it is told."""
    definition = subscription.definition
    progress = await subscription.progress()
    return SubscriptionOut(
        definition.name,
        definition.created_ms,
        definition.config,
        CountsOut(*await subscription.size.counts()),
        sum(max(0, one.end - one.read) for one in progress),
        await subscription.size.oldest_age_ms(),
        subscription.tally.active_since(services.clock.now().wall_ms - ACTIVE_MS),
        [FilterVersionOut(one.filter, one.since) for one in definition.filters],
        [SubscriptionProgressOut(*one) for one in progress],
        dict(subscription.tally.totals),
    )


# -- snapshots ---------------------------------------------------------------------------------------------------------


async def list_snapshots(services: Services, request: web.Request, query: QueuesQuery) -> web.Response:
    """List snapshots."""
    page, token = page_of(services.snapshots.list(query.prefix), lambda one: one.name, query)
    return json_answer(SnapshotsOut([await _kept(services, one) for one in page], token))


async def put_snapshot(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Keep where a subscription is; one of that name that is there already stays as it is."""
    wanted = await read_json(request, _snapshot_decoder)
    subscription = services.subscriptions.get(wanted.subscription)
    snapshot, created = await services.snapshots.take(request.match_info["snapshot"], subscription, wanted.ttl_ms)
    return json_answer(await _kept(services, snapshot), 201 if created else 200)


async def get_snapshot(services: Services, request: web.Request, query: NoQuery) -> web.Response:
    """Describe a snapshot, and what it costs."""
    return json_answer(await _kept(services, services.snapshots.get(request.match_info["snapshot"])))


async def delete_snapshot(services: Services, request: web.Request, query: DropQuery) -> web.Response:
    """Forget a snapshot; what was kept for it may be deleted."""
    try:
        await services.snapshots.delete(request.match_info["snapshot"])
    except SnapshotNotFound:
        if not query.missing_ok:
            raise
    return web.Response(status=204)


async def _kept(services: Services, snapshot: Snapshot) -> SnapshotOut:
    return SnapshotOut(
        snapshot.name,
        snapshot.subscription,
        snapshot.topic,
        snapshot.created_ms,
        snapshot.expires_ms,
        {number: cursor.offset for number, cursor in snapshot.cursors.items()},
        await services.snapshots.kept_records(snapshot),
    )
