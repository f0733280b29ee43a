"""Subscriptions, in process."""

from logbroker.broker.services import Services
from logbroker.client.calls import subscriptions as s
from logbroker.client.calls.base import Page, given
from logbroker.embedded.handlers import carries_out, checked, told, whole
from logbroker.errors import SubscriptionNotFound
from logbroker.http_api.subscriptions import (
    SubscriptionIn,
    SubscriptionSeekIn,
    settings_and_start,
    subscription_out,
    target_of,
)


@carries_out(s.PutSubscription)
async def put(services: Services, call: s.PutSubscription) -> s.SubscriptionInfo:
    settings, start = settings_and_start(checked(SubscriptionIn, {**call.settings, **given(start=call.start)}))
    subscription, _ = await services.subscriptions.ensure(call.name, settings, start)
    return told(await subscription_out(services, subscription), s.SubscriptionInfo)


@carries_out(s.GetSubscription)
async def get(services: Services, call: s.GetSubscription) -> s.SubscriptionInfo:
    return told(await subscription_out(services, services.subscriptions.get(call.name)), s.SubscriptionInfo)


@carries_out(s.ListSubscriptions)
async def list_all(services: Services, call: s.ListSubscriptions) -> Page[s.SubscriptionInfo]:
    found = services.subscriptions.list(call.prefix)
    return whole([told(await subscription_out(services, one), s.SubscriptionInfo) for one in found])


@carries_out(s.PatchSubscription)
async def patch(services: Services, call: s.PatchSubscription) -> s.SubscriptionInfo:
    subscription = await services.subscriptions.alter(call.name, call.changes)
    return told(await subscription_out(services, subscription), s.SubscriptionInfo)


@carries_out(s.DeleteSubscription)
async def delete(services: Services, call: s.DeleteSubscription) -> None:
    try:
        await services.subscriptions.delete(call.name)
    except SubscriptionNotFound:
        if not call.missing_ok:
            raise


@carries_out(s.SeekSubscription)
async def seek(services: Services, call: s.SeekSubscription) -> list[s.Leap]:
    target = target_of(checked(SubscriptionSeekIn, {"to": call.to}).to)
    go = services.subscriptions.plan if call.dry_run else services.subscriptions.seek
    return [s.Leap(*leap) for leap in await go(call.name, target)]
