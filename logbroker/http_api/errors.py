"""What goes wrong, in HTTP's words: one table, found by walking the class chain, and one middleware that applies it.

What lives here: statuses and Kafka numbers of ``LogbrokerError`` classes, and RFC 9457 problem documents. What may not:
decisions about requests. Invariant: whatever a handler raises, the client gets ``application/problem+json`` without a
traceback.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from logbroker import errors as e

log = logging.getLogger("logbroker.http")

REQUEST_ID = web.RequestKey("request_id", str)
"""The id of a request, in its answer and in the log."""
API = web.RequestKey("api", str)
"""The name of the route that was taken."""
PROBLEM = "application/problem+json"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STATUS: Mapping[type[e.LogbrokerError], tuple[int, int | None]] = {
    e.LogbrokerError: (500, None),
    e.InvalidRequest: (400, None),
    e.InvalidConfig: (400, 40),
    e.InvalidTopic: (400, 17),
    e.InvalidPartitions: (400, 37),
    e.InvalidOffset: (400, None),
    e.InvalidTimestamp: (400, 32),
    e.KeyRequired: (400, 87),
    e.MessageTooLarge: (413, 10),
    e.CorruptMessage: (400, 2),
    e.UnsupportedCompression: (400, 76),
    e.PolicyViolation: (400, 44),
    e.FilterInvalid: (400, None),
    e.HostForbidden: (403, None),
    e.NotFound: (404, None),
    e.MethodNotAllowed: (405, None),
    e.UnsupportedMediaType: (415, None),
    e.PreconditionFailed: (412, None),
    e.NotSupported: (501, None),
    e.UnknownTopicOrPartition: (404, 3),
    e.TopicAlreadyExists: (409, 36),
    e.ConfigConflict: (409, None),
    e.TopicReserved: (403, 17),
    e.TopicInUse: (409, 17),
    e.OffsetOutOfRange: (416, 1),
    e.MessageNotFound: (404, None),
    e.OutOfOrderSequence: (409, 45),
    e.DuplicateSequence: (409, 46),
    e.InvalidProducerEpoch: (409, 47),
    e.UnknownProducer: (409, 59),
    e.WriterFenced: (409, None),
    e.AppendUnknown: (503, None),
    e.TransactionsUnsupported: (400, 53),
    e.InvalidTransactionState: (409, 48),
    e.ProducerFenced: (409, 90),
    e.InvalidProducerIdMapping: (409, 49),
    e.InvalidTransactionTimeout: (400, 50),
    e.ConcurrentTransactions: (503, 51),
    e.TransactionNotFound: (404, 105),
    e.UnstableOffsetCommit: (503, 88),
    e.InvalidGroup: (400, 24),
    e.GroupNotFound: (404, 69),
    e.NonEmptyGroup: (409, 68),
    e.UnknownMember: (404, 25),
    e.FencedInstance: (409, 82),
    e.MemberIdRequired: (400, 79),
    e.IllegalGeneration: (409, 22),
    e.RebalanceInProgress: (409, 27),
    e.InconsistentGroupProtocol: (409, 23),
    e.InvalidSessionTimeout: (400, 26),
    e.GroupMaxSizeReached: (409, 81),
    e.GroupSubscribedToTopic: (409, 86),
    e.OffsetMetadataTooLarge: (400, 12),
    e.StaleMemberEpoch: (409, 113),
    e.FencedMemberEpoch: (409, 110),
    e.UnreleasedInstanceId: (409, 111),
    e.UnsupportedAssignor: (400, 112),
    e.InvalidRegularExpression: (400, 128),
    e.LeaseLost: (409, None),
    e.QueueNotFound: (404, None),
    e.SubscriptionNotFound: (404, None),
    e.SnapshotNotFound: (404, None),
    e.OperationNotFound: (404, None),
    e.QueueFull: (429, 89),
    e.NoResponders: (503, None),
    e.RequestTimeout: (504, None),
    e.RequestGone: (410, None),
    e.RemoteError: (502, None),
    e.ClaimInvalid: (400, None),
    e.StoreNotFound: (404, None),
    e.ObjectNotFound: (404, None),
    e.ObjectAltered: (500, None),
    e.StorageError: (500, 56),
    e.DiskFull: (507, None),
    e.PartitionDamaged: (500, 56),
    e.FlushFailed: (500, 56),
    e.Recovering: (503, None),
    e.Throttled: (429, None),
}

RETRY_AFTER_S = 1
_NOT_OURS = (501, 502, 503, 504, 507)
"""Statuses of failures that are no fault of the broker's."""
_RETRY_STATUSES = (429, 503)
_MAX_ERRORS_LISTED = 100
_encoder = msgspec.json.Encoder()


def look_up(kind: type[e.LogbrokerError]) -> tuple[int, int | None]:
    """HTTP status and Kafka code of an error class, from the nearest class in its chain that the table knows."""
    for ancestor in kind.__mro__:
        if ancestor in STATUS:
            return STATUS[ancestor]
    raise AssertionError("LogbrokerError is in the table")


def title_of(code: str) -> str:
    """``Offset out of range`` for ``OFFSET_OUT_OF_RANGE``."""
    return code.replace("_", " ").capitalize()


def entry(error: e.LogbrokerError) -> dict[str, Any]:
    """The error of one entry of a batch that could be answered otherwise."""
    status, kafka_code = look_up(type(error))
    described: dict[str, Any] = {"code": error.code, "status": status, "detail": error.detail, "retriable": error.retriable}
    if kafka_code is not None:
        described["kafka_code"] = kafka_code
    return described


def problem(error: e.LogbrokerError, request: web.Request) -> web.Response:
    """The problem document of an error, as an answer to ``request``."""
    status, kafka_code = look_up(type(error))
    body: dict[str, Any] = {
        "type": f"/docs/errors/{error.code}",
        "title": title_of(error.code),
        "status": status,
        "detail": error.detail,
        "instance": request.rel_url.raw_path,
        "code": error.code,
        "retriable": error.retriable,
        "request_id": request.get(REQUEST_ID, ""),
    }
    if kafka_code is not None:
        body["kafka_code"] = kafka_code
    fields = {name: value for name, value in error.fields.items() if name not in body}
    if "errors" in fields:
        fields["errors"] = fields["errors"][:_MAX_ERRORS_LISTED]
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in _RETRY_STATUSES else {}
    if isinstance(error, e.MethodNotAllowed):
        headers["Allow"] = ", ".join(fields.pop("allowed", ()))
    return web.Response(status=status, body=_encoder.encode({**body, **fields}), content_type=PROBLEM, headers=headers)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever goes wrong below into a problem document."""
    try:
        return await handler(request)
    except e.LogbrokerError as error:
        answer = problem(error, request)
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR and answer.status not in _NOT_OURS:
            log.error("%s %s: %s: %s", *_asked(request), error.code, error.detail, extra=_scope(request))
    except web.HTTPException as error:
        answer = problem(_translated(error, request), request)
    except web.RequestPayloadError:
        answer = problem(e.InvalidRequest("the body is not encoded as its headers say"), request)
    except ConnectionError:
        raise
    except Exception:
        log.exception("%s %s failed, request %s", *_asked(request), request.get(REQUEST_ID), extra=_scope(request))
        answer = problem(e.LogbrokerError("something went wrong in the broker; its log says more"), request)
    if not request.can_read_body or request.content.is_eof():
        return answer
    answer.force_close()
    return answer


def _asked(request: web.Request) -> tuple[str, str]:
    return request.method, request.rel_url.raw_path[:300]


def _scope(request: web.Request) -> dict[str, str]:
    return {"request_id": request.get(REQUEST_ID, "")}


def _translated(error: web.HTTPException, request: web.Request) -> e.LogbrokerError:
    """What aiohttp refuses by itself."""
    if isinstance(error, web.HTTPNotFound):
        return e.NotFound(f"there is no {request.rel_url.raw_path[:200]}; /docs lists what there is")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = sorted(error.allowed_methods)
        return e.MethodNotAllowed(f"{request.method} is not among {', '.join(allowed)}"[:200], allowed=allowed)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return e.MessageTooLarge("the body is larger than max_request_bytes")
    return e.InvalidRequest(error.reason)
