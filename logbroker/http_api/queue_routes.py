"""The routes of queues: a part of the table in ``routes``."""

from logbroker.errors import (
    ConfigConflict,
    InvalidConfig,
    InvalidOffset,
    InvalidPartitions,
    InvalidRequest,
    InvalidTimestamp,
    InvalidTopic,
    LeaseLost,
    LogbrokerError,
    MessageTooLarge,
    PreconditionFailed,
    QueueFull,
    QueueNotFound,
    TopicReserved,
    UnsupportedMediaType,
)
from logbroker.http_api import queue_messages, queue_payloads, queues
from logbroker.http_api.paging import PageQuery
from logbroker.http_api.requests import JSON, OCTETS
from logbroker.http_api.route import BINARY, Handle, Route

_QUEUE = "/v1/queues/{queue}"
_MERGE_PATCH = "application/merge-patch+json"
_FINDS = (InvalidRequest, QueueNotFound)
_TAKES = (*_FINDS, UnsupportedMediaType)
_DECLARES = (*_TAKES, InvalidConfig, InvalidPartitions, ConfigConflict, PreconditionFailed)


def _settle(name: str, handler: Handle, body: type, *errors: type[LogbrokerError]) -> Route:
    return Route(
        "POST",
        f"{_QUEUE}:{name}",
        f"{name}_messages",
        "queues",
        handler,
        body={JSON: body},
        answer={JSON: queue_messages.SettleOut},
        statuses=(200, 207),
        errors=(*_TAKES, LeaseLost, *errors),
    )


QUEUE_ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        _QUEUE + ":receive",
        "receive",
        "queues",
        queue_messages.receive,
        body={JSON: queue_messages.ReceiveIn},
        answer={JSON: queue_messages.ReceiveOut},
        errors=_TAKES,
        may_break=True,
    ),
    _settle("ack", queue_messages.ack, queue_messages.ReceiptsIn),
    _settle("nack", queue_messages.nack, queue_messages.NackIn, QueueFull),
    _settle("extend", queue_messages.extend, queue_messages.ExtendIn),
    _settle("release", queue_messages.release, queue_messages.ReceiptsIn),
    _settle("reject", queue_messages.reject, queue_messages.RejectIn, QueueFull),
    Route(
        "POST",
        _QUEUE + "/messages",
        "send",
        "queues",
        queue_messages.send,
        body={JSON: queue_payloads.SendIn, OCTETS: BINARY, "text/plain": BINARY},
        answer={JSON: queue_messages.SendOut},
        statuses=(200, 207),
        errors=(*_TAKES, MessageTooLarge, InvalidTimestamp, QueueFull),
        headers=(
            *("Logbroker-Key", "Logbroker-Key-B64", "Logbroker-Priority", "Logbroker-Delay-Ms"),
            *("Logbroker-Dedup-Id", "Logbroker-Message-Ttl-Ms"),
        ),
    ),
    Route(
        "GET",
        "/v1/queues",
        "list_queues",
        "queues",
        queues.list_queues,
        query=queues.QueuesQuery,
        answer={JSON: queues.QueuesOut},
        errors=(InvalidRequest,),
    ),
    Route(
        "PUT",
        _QUEUE,
        "put_queue",
        "queues",
        queues.put_queue,
        query=queues.QueuePutQuery,
        body={JSON: queues.QueueIn},
        answer={JSON: queues.QueueOut},
        statuses=(201, 200),
        errors=(*_DECLARES, InvalidTopic, InvalidOffset, TopicReserved),
        headers=("If-Match",),
    ),
    Route("GET", _QUEUE, "get_queue", "queues", queues.get_queue, answer={JSON: queues.QueueOut}, errors=_FINDS),
    Route(
        "PATCH",
        _QUEUE,
        "patch_queue",
        "queues",
        queues.patch_queue,
        body={JSON: dict, _MERGE_PATCH: dict},
        answer={JSON: queues.QueueOut},
        errors=_DECLARES,
        headers=("If-Match",),
    ),
    Route(
        "DELETE",
        _QUEUE,
        "delete_queue",
        "queues",
        queues.delete_queue,
        query=queues.QueueDeleteQuery,
        statuses=(204,),
        errors=(*_FINDS, PreconditionFailed),
        headers=("If-Match",),
    ),
    Route(
        "GET",
        _QUEUE + "/consumers",
        "list_consumers",
        "queues",
        queues.list_consumers,
        query=PageQuery,
        answer={JSON: queues.ConsumersOut},
        errors=_FINDS,
    ),
    Route(
        "POST",
        _QUEUE + ":purge",
        "purge",
        "queues",
        queues.purge,
        body={JSON: queues.PurgeIn},
        statuses=(204,),
        errors=_TAKES,
    ),
    Route("POST", _QUEUE + ":pause", "pause_queue", "queues", queues.pause, statuses=(204,), errors=_FINDS),
    Route("POST", _QUEUE + ":resume", "resume_queue", "queues", queues.resume, statuses=(204,), errors=_FINDS),
)
