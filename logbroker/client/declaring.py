"""Topics and queues: created, changed, listed.

What lives here: how what a caller gives becomes declarations. Invariant: a duration is given without its unit
(``retention="7d"``) and sent with it (``retention_ms``); a test compares the names here with the broker's settings.
"""

from collections.abc import Mapping
from typing import Any, Final

from logbroker.client.calls.queues import GetQueue, ListQueues, PutQueue, QueueInfo
from logbroker.client.calls.subscriptions import GetSubscription, PutSubscription, SubscriptionInfo
from logbroker.client.calls.topics import GetTopic, ListTopics, PutTopic, Topic, TopicSummary
from logbroker.client.durations import Duration, to_ms
from logbroker.client.flows import Flow, all_pages, do, in_ms
from logbroker.client.positions import Start, position_of
from logbroker.config import TOPIC_SETTINGS
from logbroker.errors import ConfigConflict

TOPIC_DURATIONS: Final = frozenset(name.removesuffix("_ms") for name in TOPIC_SETTINGS if name.endswith("_ms"))
QUEUE_DURATIONS: Final = frozenset({"visibility_timeout", "message_ttl", "dedup_window"})
SUBSCRIPTION_DURATIONS: Final = frozenset({"ack_deadline", "retain_unacked"})
RETRY_DURATIONS: Final = frozenset({"initial", "max", "delays"})


def _topic_ms(duration: Duration) -> int:
    return -1 if duration == -1 else to_ms(duration)


def _retry_ms(given: Any) -> Any:
    return [to_ms(one) for one in given] if isinstance(given, list | tuple) else to_ms(given)


def topic_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a topic in the broker's words; -1 stays, which is Kafka's word for no limit."""
    return in_ms(settings, TOPIC_DURATIONS, _topic_ms)


def queue_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a queue in the broker's words."""
    told = in_ms(settings, QUEUE_DURATIONS, to_ms)
    if isinstance(told.get("retry"), Mapping):
        told["retry"] = in_ms(told["retry"], RETRY_DURATIONS, _retry_ms)
    return told


def subscription_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a subscription in the broker's words."""
    told = in_ms(settings, SUBSCRIPTION_DURATIONS, to_ms)
    if isinstance(told.get("retry"), Mapping):
        told["retry"] = in_ms(told["retry"], RETRY_DURATIONS, _retry_ms)
    return told


def create_subscription(
    name: str, topic: str, start: Start | None, settings: Mapping[str, Any], *, if_not_exists: bool
) -> Flow[SubscriptionInfo]:
    """A subscription as declared; any of that name over the same topic where ``if_not_exists``."""
    declared = {"topic": topic, **subscription_settings(settings)}
    try:
        return (yield from do(PutSubscription(name, declared, None if start is None else position_of(start))))
    except ConfigConflict:
        if not if_not_exists:
            raise
    found = yield from do(GetSubscription(name))
    _check_same(found, {"topic": topic})
    return found


def declare_subscription(name: str, topic: str, start: Start | None, settings: Mapping[str, Any]) -> Flow[SubscriptionInfo]:
    """Make a subscription unless it is there; one that differs in what is declared raises ConfigConflict."""
    found = yield from create_subscription(name, topic, start, settings, if_not_exists=True)
    _check_same(found, subscription_settings(settings))
    return found


def _check_same(found: SubscriptionInfo, declared: Mapping[str, Any]) -> None:
    for setting, value in declared.items():
        there = found.config.get(setting)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            there = {part: there.get(part) for part in value}
        if there != value:
            raise ConfigConflict(
                f"subscription {found.name!r} has {setting} {there!r}, not {value!r}: alter it, or take another name",
                setting=setting,
            )


def create_topic(name: str, partitions: int | None, settings: Mapping[str, Any], *, if_not_exists: bool) -> Flow[Topic]:
    """A topic as declared; any of that name where ``if_not_exists``."""
    try:
        return (yield from do(PutTopic(name, partitions, topic_settings(settings))))
    except ConfigConflict:
        if not if_not_exists:
            raise
    return (yield from do(GetTopic(name)))


def list_topics(prefix: str, *, internal: bool) -> Flow[list[TopicSummary]]:
    """All topics of a prefix."""
    return all_pages(lambda token: ListTopics(prefix, internal, token))


def create_queue(name: str, start: Start | None, settings: Mapping[str, Any], *, if_not_exists: bool) -> Flow[QueueInfo]:
    """A queue as declared; any of that name where ``if_not_exists``."""
    place = None if start is None else position_of(start)
    try:
        return (yield from do(PutQueue(name, queue_settings(settings), place)))
    except ConfigConflict:
        if not if_not_exists:
            raise
    return (yield from do(GetQueue(name)))


def list_queues(prefix: str) -> Flow[list[QueueInfo]]:
    """All queues of a prefix."""
    return all_pages(lambda token: ListQueues(prefix, token))
