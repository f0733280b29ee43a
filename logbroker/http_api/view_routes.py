"""The routes that queues and subscriptions have in common: the verbs of consumers, and looking after what is pending.

What lives here: the routes, made for the path of either. What may not: how one is declared, which each kind has of its own.
"""

from typing import NamedTuple

from logbroker.errors import (
    FilterInvalid,
    LeaseLost,
    LogbrokerError,
    MessageNotFound,
    MessageTooLarge,
    QueueFull,
    Throttled,
    UnsupportedMediaType,
)
from logbroker.http_api import operations, queue_messages, queue_peek, queues
from logbroker.http_api.paging import PageQuery
from logbroker.http_api.requests import JSON, NDJSON
from logbroker.http_api.route import Handle, Route

Errors = tuple[type[LogbrokerError], ...]


class PendingNames(NamedTuple):
    """The operation ids of one kind."""

    consumers: str
    peek: str
    get: str
    promote: str
    redrive_one: str
    redrive: str
    discard: str


def settlements(path: str, name: str, tag: str, errors: Errors) -> tuple[Route, ...]:
    """The routes by which deliveries of what ``path`` stands for are settled; ``name`` is that of ``{verb}``."""

    def settle(verb: str, handler: Handle, body: type, *more: type[LogbrokerError]) -> Route:
        return Route(
            "POST",
            f"{path}:{verb}",
            name.format(verb=verb),
            tag,
            handler,
            body={JSON: body},
            answer={JSON: queue_messages.SettleOut},
            statuses=(200, 207),
            errors=(*errors, LeaseLost, *more),
        )

    return (
        settle("ack", queue_messages.ack, queue_messages.ReceiptsIn),
        settle("nack", queue_messages.nack, queue_messages.NackIn, QueueFull),
        settle("extend", queue_messages.extend, queue_messages.ExtendIn),
        settle("release", queue_messages.release, queue_messages.ReceiptsIn),
        settle("reject", queue_messages.reject, queue_messages.RejectIn, QueueFull),
    )


def pending(path: str, names: PendingNames, tag: str, finds: Errors) -> tuple[Route, ...]:
    """The routes by which what waits at ``path`` is looked at, promoted, sent back and dropped."""
    return (*_one_by_one(path, names, tag, finds), *_many(path, names, tag, finds))


def _one_by_one(path: str, names: PendingNames, tag: str, finds: Errors) -> tuple[Route, ...]:
    finds_one = (*finds, MessageNotFound)

    def one(
        method: str, verb: str, name: str, handler: Handle, *more: type[LogbrokerError], body: type | None = None
    ) -> Route:
        return Route(
            method,
            f"{path}/messages/{{id}}{verb}",
            name,
            tag,
            handler,
            query=queue_peek.MessageQuery,
            body={} if body is None else {JSON: body},
            answer={JSON: queue_peek.PeekedOut},
            errors=(*finds_one, *more),
        )

    return (
        one("GET", "", names.get, queue_peek.get_message),
        one("POST", ":promote", names.promote, queue_peek.promote_message, Throttled),
        one(
            "POST", ":redrive", names.redrive_one, queue_peek.redrive_message, MessageTooLarge, body=queue_peek.RedriveOneIn
        ),
    )


def _many(path: str, names: PendingNames, tag: str, finds: Errors) -> tuple[Route, ...]:
    selects = (*finds, UnsupportedMediaType, FilterInvalid)
    return (
        Route(
            "GET",
            f"{path}/consumers",
            names.consumers,
            tag,
            queues.list_consumers,
            query=PageQuery,
            answer={JSON: queues.ConsumersOut},
            errors=finds,
        ),
        Route(
            "GET",
            f"{path}/messages",
            names.peek,
            tag,
            queue_peek.list_messages,
            query=queue_peek.PeekQuery,
            answer={JSON: queue_peek.PeekOut, NDJSON: queue_peek.PeekedOut},
            errors=(*finds, FilterInvalid),
        ),
        Route(
            "POST",
            f"{path}:redrive",
            names.redrive,
            tag,
            operations.redrive,
            body={JSON: operations.RedriveIn},
            answer={JSON: (operations.BegunOut, operations.DryRunOut)},
            statuses=(202, 200),
            errors=selects,
        ),
        Route(
            "POST",
            f"{path}:discard",
            names.discard,
            tag,
            operations.discard,
            body={JSON: operations.DiscardIn},
            answer={JSON: operations.BegunOut},
            statuses=(202,),
            errors=selects,
        ),
    )
