"""The routes of subscriptions and snapshots: a part of the table in ``routes``."""

from logbroker.errors import (
    ConfigConflict,
    FilterInvalid,
    InvalidConfig,
    InvalidOffset,
    InvalidPartitions,
    InvalidRequest,
    InvalidTopic,
    MessageNotFound,
    PreconditionFailed,
    SnapshotNotFound,
    SubscriptionNotFound,
    TopicInUse,
    TopicReserved,
    UnknownTopicOrPartition,
    UnsupportedMediaType,
)
from logbroker.http_api import queue_messages, queues, subscription_stream, subscriptions
from logbroker.http_api.queue_payloads import MessageOut
from logbroker.http_api.requests import JSON, NDJSON
from logbroker.http_api.route import Route
from logbroker.http_api.tail import EVENT_STREAM
from logbroker.http_api.view_routes import PendingNames, pending, settlements

_SUBSCRIPTION = "/v1/subscriptions/{subscription}"
_MESSAGE = _SUBSCRIPTION + "/messages/{id}"
_SNAPSHOT = "/v1/snapshots/{snapshot}"
_MERGE_PATCH = "application/merge-patch+json"
_TAG = "subscriptions"
_FINDS = (InvalidRequest, InvalidTopic, SubscriptionNotFound)
_FINDS_ONE = (*_FINDS, MessageNotFound)
_TAKES = (*_FINDS, UnsupportedMediaType)
_DECLARES = (*_TAKES, InvalidConfig, FilterInvalid, ConfigConflict, PreconditionFailed)
_LEADS = (InvalidOffset, UnknownTopicOrPartition, SnapshotNotFound)

_NAMES = PendingNames(
    consumers="list_subscribers",
    peek="list_pending",
    get="get_pending",
    promote="promote_pending",
    redrive_one="redrive_pending",
    redrive="redrive_dead",
    discard="discard_dead",
)

SUBSCRIPTION_ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        _SUBSCRIPTION + ":pull",
        "pull",
        _TAG,
        queue_messages.receive,
        body={JSON: queue_messages.ReceiveIn},
        answer={JSON: queue_messages.ReceiveOut},
        errors=_TAKES,
        may_break=True,
    ),
    *settlements(_SUBSCRIPTION, "{verb}_pulled", _TAG, _TAKES),
    *pending(_SUBSCRIPTION, _NAMES, _TAG, _FINDS),
    Route(
        "GET",
        "/v1/subscriptions",
        "list_subscriptions",
        _TAG,
        subscriptions.list_subscriptions,
        query=queues.QueuesQuery,
        answer={JSON: subscriptions.SubscriptionsOut},
        errors=(InvalidRequest,),
    ),
    Route(
        "PUT",
        _SUBSCRIPTION,
        "put_subscription",
        _TAG,
        subscriptions.put_subscription,
        query=subscriptions.DeclareQuery,
        body={JSON: subscriptions.SubscriptionIn},
        answer={JSON: subscriptions.SubscriptionOut},
        statuses=(201, 200),
        errors=(*_DECLARES, *_LEADS, TopicReserved, InvalidPartitions),
        headers=("If-Match",),
    ),
    Route(
        "GET",
        _SUBSCRIPTION,
        "get_subscription",
        _TAG,
        subscriptions.get_subscription,
        answer={JSON: subscriptions.SubscriptionOut},
        errors=_FINDS,
    ),
    Route(
        "PATCH",
        _SUBSCRIPTION,
        "patch_subscription",
        _TAG,
        subscriptions.patch_subscription,
        body={JSON: dict, _MERGE_PATCH: dict},
        answer={JSON: subscriptions.SubscriptionOut},
        errors=_DECLARES,
        headers=("If-Match",),
    ),
    Route(
        "DELETE",
        _SUBSCRIPTION,
        "delete_subscription",
        _TAG,
        subscriptions.delete_subscription,
        query=subscriptions.DropQuery,
        statuses=(204,),
        errors=(*_FINDS, PreconditionFailed, TopicInUse),
        headers=("If-Match",),
    ),
    Route(
        "POST",
        _SUBSCRIPTION + ":seek",
        "seek_subscription",
        _TAG,
        subscriptions.seek,
        body={JSON: subscriptions.SubscriptionSeekIn},
        answer={JSON: subscriptions.SubscriptionSeekOut},
        errors=(*_TAKES, *_LEADS),
    ),
    Route(
        "GET",
        _SUBSCRIPTION + "/stream",
        "stream",
        _TAG,
        subscription_stream.stream,
        query=subscription_stream.StreamQuery,
        answer={NDJSON: MessageOut, EVENT_STREAM: str},
        errors=_FINDS,
    ),
    Route(
        "GET",
        "/v1/snapshots",
        "list_snapshots",
        _TAG,
        subscriptions.list_snapshots,
        query=queues.QueuesQuery,
        answer={JSON: subscriptions.SnapshotsOut},
        errors=(InvalidRequest,),
    ),
    Route(
        "PUT",
        _SNAPSHOT,
        "put_snapshot",
        _TAG,
        subscriptions.put_snapshot,
        body={JSON: subscriptions.SnapshotIn},
        answer={JSON: subscriptions.SnapshotOut},
        statuses=(201, 200),
        errors=(*_TAKES, ConfigConflict),
    ),
    Route(
        "GET",
        _SNAPSHOT,
        "get_snapshot",
        _TAG,
        subscriptions.get_snapshot,
        answer={JSON: subscriptions.SnapshotOut},
        errors=(InvalidRequest, InvalidTopic, SnapshotNotFound),
    ),
    Route(
        "DELETE",
        _SNAPSHOT,
        "delete_snapshot",
        _TAG,
        subscriptions.delete_snapshot,
        query=subscriptions.DropQuery,
        statuses=(204,),
        errors=(InvalidRequest, InvalidTopic, SnapshotNotFound),
    ),
)
